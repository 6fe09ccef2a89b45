"""A hub on this machine: what huggingface_hub's own client needs to make a repository, upload a commit and fetch it."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"
SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """Holds repositories as ``{id: {file name: bytes}}``, and refuses to write without ``TOKEN``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories = {}
        self.private = {}
        self.messages = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        if path == ["api", "validate-yaml"]:
            return self.answer(200, {"errors": [], "warnings": []})
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."}, X_Error_Message="no valid token")
        if path == ["api", "repos", "create"]:
            wanted = json.loads(body)
            identity = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            self.server.repositories.setdefault(identity, {})
            self.server.private[identity] = wanted.get("private") or wanted.get("visibility") == "private"
            return self.answer(200, {"url": f"{self.server.url}/{identity}"})
        identity, action = "/".join(path[2:4]), path[4]
        if action == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self.answer(200, {"files": files})
        assert action == "commit"
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[identity][line["value"]["path"]] = content
            else:
                self.server.messages.append(line["value"]["summary"])
        address = f"{self.server.url}/{identity}/commit/{SHA}"
        return self.answer(200, {"success": True, "commitUrl": address, "commitOid": SHA})

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        if path[:2] == ["api", "models"]:
            identity = "/".join(path[2:4])
            if identity not in self.server.repositories:
                return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            files = self.server.repositories[identity]
            if path[4:5] == ["tree"]:
                entries = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
                return self.answer(200, entries)
            siblings = [{"rfilename": name} for name in files]
            return self.answer(200, {"id": identity, "modelId": identity, "sha": SHA, "siblings": siblings})
        identity, name = "/".join(path[:2]), "/".join(path[4:])
        content = self.server.repositories.get(identity, {}).get(name)
        if content is None or path[2] != "resolve":
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        return self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=SHA)

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def fake_hub():
    hub = FakeHub()
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join(20)
        hub.server_close()
