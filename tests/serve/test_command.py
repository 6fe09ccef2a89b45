"""``anychannel serve`` as a person runs it: in a process of its own."""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import sys
import time
from urllib.parse import urlsplit

import httpx
import pytest

import anychannel.serve
from anychannel.serve import ServeError
from anychannel.serve.server import listen
from tests.helpers.commands import Command

ADDRESS = r"is served at (http://127\.0\.0\.1:\d+) .*\n"


def end(command, *signals):
    """Send signals; what the command writes from then on, and its exit status."""
    for number, sent in enumerate(signals):
        if number:
            time.sleep(0.5)
        os.kill(command.process.pid, sent)
    done = command.finish(60)
    return done.returncode, done.stdout, re.split(ADDRESS, done.stderr)[-1]


@pytest.fixture
def command(run):
    started = Command("serve", run, "--port", 0)
    yield started
    started.process.kill()


def test_it_serves_on_this_machine_until_interrupted(command, photos):
    address = command.wait_for(ADDRESS).group(1)
    photo = photos / "test" / "left" / "0.png"
    answer = httpx.post(
        f"{address}/api/predict", files={"file": photo.read_bytes()}, data={"channels": "G"}, timeout=60
    )
    assert answer.json()["channels"] == ["G"]
    assert "<title>adaptive: try it</title>" in httpx.get(address).text
    assert end(command, signal.SIGINT) == (0, "", "")


@pytest.mark.parametrize(
    ("busy", "signals"),
    [
        ("open connection", [signal.SIGINT]),
        ("unfinished upload", [signal.SIGTERM]),
        ("unfinished upload", [signal.SIGINT, signal.SIGINT]),
    ],
)
def test_it_ends_within_seconds_whatever_its_clients_do(command, busy, signals):
    address = urlsplit(command.wait_for(ADDRESS).group(1))
    with socket.create_connection((address.hostname, address.port)) as client:
        if busy != "open connection":
            client.sendall(
                b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                b"Content-Length: 100000\r\n\r\n--x\r\n"
            )
        httpx.get(f"{address.geturl()}/api/health", timeout=60)  # by now it has seen the other client
        assert end(command, *signals) == (0, "", "")


def test_a_port_in_use_is_told_before_anything_is_loaded(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = Command("serve", run, "--port", port).finish()
        assert done.returncode == 2
        assert f"error: port {port} on 127.0.0.1 is in use by another program; give another with --port" in done.stderr
        assert "Traceback" not in done.stderr


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
