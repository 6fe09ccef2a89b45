"""Slow, large, many and foreign requests."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from anychannel.data import DataError
from anychannel.serve import guard, server
from anychannel.serve.decoding import PROCESSES
from anychannel.serve.server import LOOPBACK
from tests.helpers.service import serving

BODY = b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
SLOW = {
    "nothing": (b"", b""),
    "head": (b"GET / HTTP/1.1\r\nHost: local", b"h"),
    "body": (BODY + b"Content-Length: 100000\r\n\r\n--x\r\n", b"a"),
    "chunks": (BODY + b"Transfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\n", b"1\r\na\r\n"),
    "next": (b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", b"a"),
    "refused": (BODY.replace(b"localhost", b"evil.example") + b"Content-Length: 100000\r\n\r\n", b"a"),
}


def connect(url):
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=30)


@pytest.mark.parametrize("kind", SLOW)
def test_a_connection_that_sends_slowly_is_closed(run, monkeypatch, kind):
    monkeypatch.setattr(guard, "SECONDS", 0.5)
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    first, more = SLOW[kind]
    with serving(run, hosts=LOOPBACK) as url, connect(url) as client:
        client.sendall(first)
        client.settimeout(0.2)
        received, closed, deadline = b"", False, time.monotonic() + 30
        while not closed and time.monotonic() < deadline:
            try:
                client.sendall(more)
                part = client.recv(10_000)
                received, closed = received + part, not part
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed
        status = {"body": b"408", "chunks": b"408", "next": b"200", "refused": b"400"}
        assert received.startswith(b"HTTP/1.1 " + status[kind] if kind in status else b"")
        assert httpx.get(f"{url}/api/health").status_code == 200


def test_a_slow_link_gets_more_time(run, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.5)
    monkeypatch.setattr(guard, "BYTES_A_SECOND", 100)
    kind = {"content-type": "multipart/form-data; boundary=x"}

    def chunks():
        for _ in range(8):
            yield b"a" * 40
            time.sleep(0.15)

    with serving(run) as url:
        assert httpx.post(f"{url}/api/images", content=chunks(), headers=kind, timeout=30).status_code == 400


def test_an_answer_that_takes_too_long_is_a_busy_service(run, monkeypatch, photos):
    def take_long(*_):
        time.sleep(1)
        raise DataError("not an image")

    monkeypatch.setattr(guard, "SECONDS", 0.3)
    monkeypatch.setattr("anychannel.serve.service.Service.open", take_long)
    with serving(run) as url, ThreadPoolExecutor(PROCESSES + 1) as pool:
        ask = partial(httpx.post, f"{url}/api/images", files={"file": b"a"}, timeout=30)
        answers = [answer.result() for answer in [pool.submit(ask) for _ in range(PROCESSES + 1)]]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert "busy" in answer.json()["error"]


def test_health_is_answered_while_all_decoders_are_busy(run, monkeypatch):
    monkeypatch.setattr("anychannel.serve.service.Service.open", lambda *_: time.sleep(1))
    with serving(run) as url, httpx.Client() as client, ThreadPoolExecutor(60) as pool:
        for _ in range(60):
            pool.submit(client.post, f"{url}/api/images", files={"file": b"a"}, timeout=0.5)
        time.sleep(0.3)
        assert httpx.get(f"{url}/api/health", timeout=5).status_code == 200


def test_bodies_under_way_are_bounded_together(run, monkeypatch):
    monkeypatch.setattr(guard, "REQUESTS_UNDER_WAY", 2)
    head = BODY + b"Content-Length: 200000\r\n\r\n--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
    with serving(run, max_upload_mb=0.25) as url:
        waiting = [connect(url) for _ in range(2)]
        for client in waiting:
            client.sendall(head + bytes(190_000))
        time.sleep(0.5)
        answer = httpx.post(f"{url}/api/images", files={"file": bytes(200_000)}, timeout=30)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        for client in waiting:
            client.close()
        time.sleep(0.5)
        assert httpx.post(f"{url}/api/images", files={"file": bytes(200_000)}, timeout=30).status_code == 422


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "https://evil.example"},
    {"origin": "http://localhost.evil.example:{port}"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://127.0.0.1"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:{port}"},
    {"sec-fetch-site": "same-origin", "origin": "http://evil.example"},
]
OWN = [
    {},
    {"origin": "http://127.0.0.1:{port}"},
    {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:{port}"},
    {"sec-fetch-site": "none"},
]


@pytest.fixture(scope="module")
def strict(run):
    with serving(run, hosts=LOOPBACK) as url:
        yield url


def ask(url, headers, path="/api/images"):
    filled = {key: value.format(port=urlsplit(url).port) for key, value in headers.items()}
    return httpx.post(f"{url}{path}", files={"file": b"a"}, headers=filled, timeout=60)


@pytest.mark.parametrize("path", ["/api/images", "/api/predict"])
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_site_may_send_nothing(strict, headers, path):
    answer = ask(strict, headers, path)
    assert answer.status_code == 403
    assert answer.json()["error"].startswith("the request comes from a page of another site")


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_the_services_own_page_and_programs_may_send(strict, headers):
    assert ask(strict, headers).status_code == 422


def test_behind_a_proxy_that_changes_the_host_the_browser_is_believed(run):
    headers = {"sec-fetch-site": "same-origin", "origin": "https://cells.example"}
    with serving(run) as url:
        assert ask(url, headers).status_code == 422
        assert ask(url, {**headers, "sec-fetch-site": "cross-site"}).status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/plain;charset=UTF-8", "application/json", "TEXT/HTML", "image/png"]
)
def test_only_forms_are_taken(strict, kind):
    answer = httpx.post(f"{strict}/api/predict", content=b"a", headers={"content-type": kind})
    assert answer.status_code == 415
    assert "send a form (multipart/form-data)" in answer.json()["error"]
