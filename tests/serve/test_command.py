"""``anychannel serve`` as a person runs it: in a process of its own."""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import httpx
import pytest

import anychannel.serve
from anychannel.serve import ServeError
from anychannel.serve.server import listen


def start(*arguments):
    command = [sys.executable, "-m", "anychannel", "serve", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_it_serves_on_this_machine_until_interrupted(run, photos):
    process = start(run, "--port", 0)
    try:
        line = process.stderr.readline()
        address = re.search(r"is served at (http://127\.0\.0\.1:\d+) ", line).group(1)
        photo = photos / "test" / "left" / "0.png"
        answer = httpx.post(f"{address}/api/predict", files={"file": photo.read_bytes()}, data={"channels": "G"})
        assert answer.json()["channels"] == ["G"]
        assert "<title>adaptive: try it</title>" in httpx.get(address).text
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("busy", "sent"),
    [
        ("open connection", signal.SIGINT),
        ("unfinished upload", signal.SIGTERM),
        ("second signal", signal.SIGINT),
    ],
)
def test_it_ends_within_seconds_whatever_its_clients_do(run, busy, sent):
    process = start(run, "--port", 0)
    try:
        address = urlsplit(re.search(r"(http://127\.0\.0\.1:\d+) ", process.stderr.readline()).group(1))
        with socket.create_connection((address.hostname, address.port)) as client:
            if busy != "open connection":
                client.sendall(
                    b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                    b"Content-Length: 100000\r\n\r\n--x\r\n"
                )
            httpx.get(f"{address.geturl()}/api/health", timeout=60)  # by now it has seen the other client
            process.send_signal(sent)
            if busy == "second signal":
                time.sleep(0.5)
                process.send_signal(sent)
            out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert (out, err) == ("", "")
    finally:
        process.kill()
        process.communicate()


def test_a_port_in_use_is_told_before_anything_is_loaded(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(run, "--port", port)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert f"error: port {port} on 127.0.0.1 is in use by another program; give another with --port" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", 70000, "port is a number from 0 .any free one. to 65535, got 70000"),
        ("203.0.113.7", 0, "cannot listen on 203.0.113.7, port 0"),
        ("no such host", 0, "'no such host' is not an address of this machine"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(host, port, message):
    with pytest.raises(ServeError, match=message):
        listen(host, port)


def test_a_folder_that_is_no_run_and_a_limit_of_nothing_are_told(run, tmp_path):
    with pytest.raises(ValueError, match="is not a run"):
        anychannel.serve.create_app(tmp_path)
    with pytest.raises(ValueError, match="above 0, got 0"):
        anychannel.serve.create_app(run, max_upload_mb=0)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"uvicorn, which is not installed; pip install 'anychannel\[serve\]'"):
        importlib.reload(anychannel.serve)
