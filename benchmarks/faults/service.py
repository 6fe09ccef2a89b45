"""``anychannel serve`` under malformed, hostile, slow, large and foreign requests.

One run is trained in each process that measures, and one service started for all cases that do not end or reconfigure
it. The cases that count memory or end the service start ``anychannel serve`` as a person does.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from struct import pack
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image
from tests.helpers.image_files import bright_halves, write_class_folders
from tests.helpers.service import serving, train

from anychannel.serve import decoding, guard, server
from anychannel.serve.decoding import DECODER
from anychannel.serve.service import Service
from benchmarks.faults.case import Case

MALFORMED = "A malformed request gets an error, and the service goes on."
HOSTILE = "A hostile upload gets an error within its deadline, and the service goes on."
MEMORY = "The service's memory stays below 5 GB, whatever is sent at once."
SLOW = "A slow or unfinished request is closed."
ENDING = "Ctrl-C and SIGTERM end the service within 10 seconds, with connections open, without a traceback."
FOREIGN = "A request that a page of another site sends is refused."
CONFINED = "The service shows and runs nothing from outside its run's folder."
CLIENTS = "Twenty clients at once get right answers, without an error."

FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"


@cache
def run() -> Path:
    """A small run on photographs of two classes; its folder is removed with the process."""
    place = tempfile.TemporaryDirectory(prefix="faults-service-")
    atexit.register(place.cleanup)
    images = bright_halves(np.random.default_rng(0), 20, 30)
    photos = write_class_folders(Path(place.name) / "photos", {"train": 32, "val": 6, "test": 6}, ("l", "r"), images)
    return Path(train(photos, Path(place.name) / "run", stem="completion", training={"sampler": "dropout"}))


@cache
def address() -> str:
    """The service of the run in this process, for requests to this machine's names only."""
    stack = ExitStack()
    url = stack.enter_context(serving(run(), hosts=server.LOOPBACK, max_upload_mb=4))
    atexit.register(stack.close)
    return url


@contextmanager
def started() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``anychannel serve`` in a process of its own."""
    command = [sys.executable, "-m", "anychannel", "serve", str(run()), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found is not None
            yield process, found.group(0)
        finally:
            process.kill()


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


@cache
def photo() -> bytes:
    return sorted((run().parent / "photos" / "test").rglob("*.png"))[0].read_bytes()


def check_health() -> None:
    assert httpx.get(f"{address()}/api/health", timeout=60).status_code == 200


def check_alive(url: str) -> None:
    """A usual request is answered as usual."""
    answer = httpx.post(f"{url}/api/predict", files={"file": ("a.png", photo())}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["channels"] == ["R", "G", "B"]


def exchange(data: bytes) -> bytes:
    """Send bytes. Returns the beginning of the answer, or nothing if the connection is closed without one.

    A service that waits for more gets the end of the connection after a second.
    """
    with connect(address()) as client, suppress(ConnectionError):
        client.sendall(data)
        client.settimeout(1)
        with suppress(TimeoutError):
            return client.recv(65536)
        client.settimeout(20)
        client.shutdown(socket.SHUT_WR)
        return client.recv(65536)
    return b""


def send_raw(data: bytes, refused: bool, _: Path) -> None:
    """The answer is an error, or the connection is closed without one."""
    received = exchange(data)
    if received:
        status = int(received.split(b" ", 2)[1])
        assert 400 <= status < 500 or (not refused and status < 300), received[:300]
    check_health()


def post(body: bytes, kind: str, path: str, _: Path) -> None:
    """A form that cannot be read is refused with a sentence."""
    answer = httpx.post(f"{address()}{path}", content=body, headers={"content-type": kind}, timeout=60)
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert answer.json()["error"]
    check_health()


def ask(fields: dict[str, str], _: Path) -> None:
    """A value that cannot be used is refused with a sentence."""
    answer = httpx.post(f"{address()}/api/predict", files={"file": ("a.png", photo())}, data=fields, timeout=60)
    assert answer.status_code == 422, (answer.status_code, answer.text)
    assert set(answer.json()) == {"error"}
    check_health()


def request(method: str, path: str, _: Path) -> None:
    """A path or method that there is not is refused, and no file of this machine is shown."""
    received = exchange(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert 400 <= int(received.split(b" ", 2)[1]) < 500, received[:300]
    assert b"root:" not in received


HEAD = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n"
RAW = {
    "nothing": b"",
    "line ends": b"\r\n" * 50,
    "zeros": bytes(1000),
    "text": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": HEAD.replace(b"1.1", b"9.9") + b"\r\n",
    "no version": HEAD.replace(b" HTTP/1.1", b"") + b"\r\n",
    "no target": HEAD.replace(b" /api/health", b"") + b"\r\n",
    "no host": b"GET /api/health HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: localhost\r\n\r\n",
    "host of another site": HEAD.replace(b"localhost", b"evil.example") + b"\r\n",
    "host with a bracket": HEAD.replace(b"localhost", b"[::1") + b"\r\n",
    "host with spaces": HEAD.replace(b"localhost", b"local host") + b"\r\n",
    "empty host": HEAD.replace(b"localhost", b"") + b"\r\n",
    "header without a colon": HEAD + b"Broken\r\n\r\n",
    "header without a name": HEAD + b": value\r\n\r\n",
    "header with a space in its name": HEAD + b"Bro ken: value\r\n\r\n",
    "header with a zero": HEAD + b"A: \x00\r\n\r\n",
    "header over two lines": HEAD + b"A: b\r\n c\r\n\r\n",
    "line feed in a header": HEAD + b"A: b\n\rc\r\n\r\n",
    "very long header": HEAD + b"A: " + b"b" * 200_000 + b"\r\n\r\n",
    "very many headers": HEAD + b"".join(b"A%d: b\r\n" % i for i in range(20_000)) + b"\r\n",
    "very long target": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "control characters in the target": b"GET /\x01\x02 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "method in lower case": HEAD.replace(b"GET", b"get") + b"\r\n",
    "unknown method": HEAD.replace(b"GET", b"BREW") + b"\r\n",
    "method with a zero": HEAD.replace(b"GET", b"G\x00T") + b"\r\n",
    "head without its end": HEAD,
    "head cut in a header": HEAD + b"Conte",
    **{
        f"length {value.decode()!r}": b"POST /api/images HTTP/1.1\r\nHost: localhost\r\n"
        + FORM
        + b"Content-Length: "
        + value
        + b"\r\n\r\n--x"
        for value in (b"-1", b"+5", b"1e3", b"0x10", b"", b"9" * 19, b"9" * 5000, b"5, 6", b"5 5", b"1000", b"none")
    },
    "two lengths": b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    **{
        f"chunks {name}": b"POST /api/images HTTP/1.1\r\nHost: localhost\r\n"
        + FORM
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + body
        for name, body in {
            "without a size": b"\r\nabc\r\n0\r\n\r\n",
            "of a negative size": b"-5\r\nabc\r\n",
            "of a huge size": b"f" * 40 + b"\r\nabc\r\n",
            "of another size": b"2\r\nabcdef\r\n0\r\n\r\n",
            "without an end": b"5\r\nabcde\r\n",
            "with a zero": b"5\x00\r\nabcde\r\n0\r\n\r\n",
            "that are no form": b"5\r\nabcde\r\n0\r\n\r\n",
            "with an endless extension": b"5;" + b"a" * 100_000 + b"\r\nabcde\r\n0\r\n\r\n",
        }.items()
    },
    "unknown transfer encoding": b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "expectation without a body": b"POST /api/images HTTP/1.1\r\nHost: localhost\r\n"
    + FORM
    + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    "upgrade to a web socket": HEAD
    + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
}
LAWFUL = ("HTTP/9.9", "header over two lines", "upgrade to a web socket", "line ends", "expectation without a body")
"""Odd, but a server may answer them."""

PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
MULTIPART = "multipart/form-data; boundary=x"
FORMS = {
    "nothing": (b"", MULTIPART),
    "no boundary": (PART + b"abc\r\n--x--\r\n", "multipart/form-data"),
    "empty boundary": (PART + b"abc\r\n--x--\r\n", "multipart/form-data; boundary="),
    "another boundary": (PART + b"abc\r\n--x--\r\n", "multipart/form-data; boundary=y"),
    "very long boundary": (PART + b"abc\r\n--x--\r\n", "multipart/form-data; boundary=" + "y" * 30_000),
    "boundary in quotes left open": (PART + b"abc\r\n--x--\r\n", 'multipart/form-data; boundary="x'),
    "unknown charset": (PART + b"abc\r\n--x--\r\n", "multipart/form-data; boundary=x; charset=none"),
    "no name": (PART.replace(b' name="file";', b"") + b"abc\r\n--x--\r\n", MULTIPART),
    "another name": (PART.replace(b'"file"', b'"other"') + b"abc\r\n--x--\r\n", MULTIPART),
    "no disposition": (b"--x\r\n\r\nabc\r\n--x--\r\n", MULTIPART),
    "two dispositions": (PART[:-2] + PART[5:] + b"abc\r\n--x--\r\n", MULTIPART),
    "no file name": (PART.replace(b'; filename="a.png"', b"") + b"abc\r\n--x--\r\n", MULTIPART),
    "file name with a path": (PART.replace(b"a.png", b"../../a.png") + b"abc\r\n--x--\r\n", MULTIPART),
    "file name with zeros": (PART.replace(b"a.png", b"a\x00.png") + b"abc\r\n--x--\r\n", MULTIPART),
    "file name that is no UTF-8": (PART.replace(b"a.png", b"\xff\xfe.png") + b"abc\r\n--x--\r\n", MULTIPART),
    "very long file name": (PART.replace(b"a.png", b"a" * 100_000) + b"abc\r\n--x--\r\n", MULTIPART),
    "very long part header": (PART[:-2] + b"A: " + b"b" * 100_000 + b"\r\n\r\nabc\r\n--x--\r\n", MULTIPART),
    "very many part headers": (PART[:-2] + b"A: b\r\n" * 10_000 + b"\r\nabc\r\n--x--\r\n", MULTIPART),
    "very many fields": (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 3000 + b"--x--\r\n",
        MULTIPART,
    ),
    "very many files": ((PART + b"abc\r\n") * 2000 + b"--x--\r\n", MULTIPART),
    "a field of a megabyte": (
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"a" * 2**21 + b"\r\n--x--\r\n",
        MULTIPART,
    ),
    "no end": (PART + b"abc", MULTIPART),
    "beginnings of a boundary": (PART + b"\r\n--" * 500_000 + b"\r\n--x--\r\n", MULTIPART),
    "line ends": (PART + b"\r" * 2_000_000 + b"\r\n--x--\r\n", MULTIPART),
    "text before": (b"a" * 1000 + PART + b"abc\r\n--x--\r\n", MULTIPART),
    "a form in a form": (
        PART.replace(b"image/png", b"multipart/mixed; boundary=y") + b"--y\r\n\r\n--x--\r\n",
        MULTIPART,
    ),
    "percent signs": (b"image=%zz&channels=%", "application/x-www-form-urlencoded"),
    "very many pairs": (b"a=b&" * 100_000, "application/x-www-form-urlencoded"),
    "ampersands": (b"&" * 1_000_000, "application/x-www-form-urlencoded"),
}
KINDS = ("text/plain", "text/html", "application/json", "application/octet-stream", "image/png", "nonsense", "a/b;c=d")
PATHS = (
    *(
        "/nothing",
        "/api/nothing",
        "/api/",
        "/docs",
        "/redoc",
        "/.git/config",
        "/%00",
        "/page.js%00.html",
        "//etc/passwd",
    ),
    *(
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/....//a",
        "/page.css/../../etc/passwd",
    ),
    *("/\\..\\..\\etc\\passwd", "/api/images/../../../../etc/passwd", "/static/..;/etc/passwd", "/" + "a/" * 5000),
)
VALUES = {
    "channels": ("X", "R,R", "R,X", ",", "R,,G", " ", "-", "*", "r", "R;G", "../../a", "0", "R\x00", "R," * 50_000),
    "file_channels": (
        "X",
        "R,G",
        "R,G,B,R",
        "-,-,-",
        "R,R,R",
        ",",
        "R,G,NIR",
        "R,G,B," * 10_000,
        "\N{GRINNING FACE},G,B",
    ),
    "layout": ("x", "PLANAR", "planar,interleaved", "0", "\x00", "None"),
    "top": ("0", "-1", "1001", "1.5", "x", "1e3", "nan", " ", "9" * 500, "0x5", "1,000", "1 2"),
    "image": ("x", "example-0", "../../a", "\x00"),
}


def malformed_cases() -> Iterator[Case]:
    short = {"two hosts", "very long header", "length '-1'", "chunks of a huge size", "TLS", "head without its end"}
    for name, body in RAW.items():
        yield Case(MALFORMED, f"bytes: {name}", partial(send_raw, body, name not in LAWFUL), short=name in short)
    for name, (body, kind) in FORMS.items():
        for path in ("/api/images", "/api/predict"):
            yield Case(
                MALFORMED, f"form to {path}: {name}", partial(post, body, kind, path), short=name == "no boundary"
            )
    whole = PART + photo_like() + b"\r\n--x--\r\n"
    for cut in range(8):
        begun = whole[: len(PART) * cut // 8]
        yield Case(MALFORMED, f"form cut in its part {cut}", partial(post, begun, MULTIPART, "/api/images"))
    for kind in KINDS:
        check = partial(post, b"a", kind, "/api/predict")
        yield Case(MALFORMED, f"a body of {kind}", check, short=kind == "text/plain")
    for key, values in VALUES.items():
        for number, value in enumerate(values):
            yield Case(MALFORMED, f"{key} {number}: {value[:20]!r}", partial(ask, {key: value}), short=number == 0)
    for path in PATHS:
        yield Case(MALFORMED, f"GET {path[:40]}", partial(request, "GET", path), short=path == "/../../etc/passwd")
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND"):
        for path in ("/", "/api/predict", "/api/model"):
            yield Case(MALFORMED, f"{method} {path}", partial(request, method, path))
    for seed in range(60):
        yield Case(MALFORMED, f"bytes changed at random {seed}", partial(send_changed, seed), fuzzed=True)


def photo_like() -> bytes:
    """A PNG file."""
    buffer = BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, format="PNG")
    return buffer.getvalue()


def send_changed(seed: int, folder: Path) -> None:
    """A lawful request with some bytes changed, removed or repeated."""
    random = np.random.default_rng(seed)
    body = PART + photo_like() + b"\r\n--x--\r\n"
    head = b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + FORM
    data = bytearray(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    for _ in range(int(random.integers(1, 12))):
        at = int(random.integers(len(data)))
        kind = random.integers(3)
        if kind == 0:
            data[at] = int(random.integers(256))
        elif kind == 1:
            del data[at : at + int(random.integers(1, 20))]
        else:
            data[at:at] = data[at : at + int(random.integers(1, 20))]
    send_raw(bytes(data), False, folder)


def png(width: int, height: int, *, lie: bool = False) -> bytes:
    """A black PNG; with ``lie`` the header alone, of an image of that size."""
    if not lie:
        buffer = BytesIO()
        Image.new("RGB", (width, height)).save(buffer, format="PNG")
        return buffer.getvalue()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tiff(shape: tuple[int, ...], compression: str | None = "zlib", dtype: str = "uint8") -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(
        buffer, np.zeros(shape, dtype), compression=compression, photometric="minisblack", metadata={"axes": "CYX"}
    )
    return buffer.getvalue()


def looping_tiff(back: int) -> bytes:
    """A TIFF whose last directory's next pointer leads back, to its own directory or between the earlier ones."""
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(3):
            writer.write(np.zeros((8, 8), np.uint8), photometric="minisblack", contiguous=False, metadata=None)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(BytesIO(bytes(data))) as file:
        offsets = [page.offset for page in file.pages]
    last = offsets[-1]
    entries = int.from_bytes(data[last : last + 2], "little")
    data[last + 2 + 12 * entries : last + 6 + 12 * entries] = pack("<I", offsets[back])
    return bytes(data)


def npy(shape: str, *, bytes_after: int = 100) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + pack("<H", len(header)) + header + bytes(bytes_after)


MAGIC = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff\xe0",
    "TIFF": b"II*\x00\x08\x00\x00\x00",
    "BMP": b"BM",
    "WebP": b"RIFF\xff\xff\x00\x00WEBP",
    "NumPy": b"\x93NUMPY\x01\x00",
}
SHAPES = ("(3,30000,30000)", "(10**9,)", "(-1,2,3)", "(0,0)", "(3,0,9)")


def magic(kind: str) -> bytes:
    return MAGIC[kind] + np.random.default_rng(0).bytes(2000)


HOSTILE_FILES: dict[str, Callable[[], bytes]] = {
    **{f"TIFF whose directories lead back to {back}": partial(looping_tiff, back) for back in range(3)},
    **{f"PNG of {side} pixels": partial(png, side, side, lie=True) for side in (20_000, 65_535, 2**30)},
    **{f"deflated TIFF of {side} pixels": partial(tiff, (3, side, side)) for side in (8_500, 12_000)},
    **{f"npy of {shape}": partial(npy, shape) for shape in SHAPES},
    "npy with a deep header": lambda: npy("(" * 3000 + ")" * 3000),
    "npy with an expression": lambda: npy("(__import__('os').system('touch /tmp/executed'),)"),
    "npy of objects": lambda: npy("(3,2,2)").replace(b"'<f8'", b"'|O' "),
    "PNG cut": lambda: photo_like()[:60],
    "GIF": lambda: b"GIF89a" + bytes(100),
    "zip": lambda: b"PK\x03\x04" + bytes(100),
    "pickle": lambda: b"\x80\x04cos\nsystem\n(S'touch /tmp/executed'\ntR.",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "XML with entities": lambda: b"<!DOCTYPE a [<!ENTITY b 'c'><!ENTITY d '&b;&b;'>]><a>&d;</a>",
    "zeros": lambda: bytes(3_000_000),
    **{f"{kind} magic and random bytes": partial(magic, kind) for kind in MAGIC},
}


def upload_hostile(name: str, _: Path) -> None:
    began = time.monotonic()
    answer = httpx.post(f"{address()}/api/images", files={"file": (name, HOSTILE_FILES[name]())}, timeout=60)
    assert answer.status_code in (422, 503), (answer.status_code, answer.text)
    assert answer.json()["error"]
    assert time.monotonic() - began < decoding.SECONDS + 10
    assert not Path("/tmp/executed").exists()
    check_alive(address())


def upload_flipped(seed: int, _: Path) -> None:
    """An image with bits flipped is answered or refused, not failed."""
    random = np.random.default_rng(seed)
    data = bytearray([photo(), tiff((3, 20, 30)), tiff((3, 20, 30), None, "uint16")][seed % 3])
    for _flip in range(int(random.integers(1, 8))):
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    answer = httpx.post(f"{address()}/api/images", files={"file": ("a", bytes(data))}, timeout=60)
    assert answer.status_code in (200, 422), (answer.status_code, answer.text)


def upload_many(count: int, _: Path) -> None:
    """Hostile uploads at once: health is answered meanwhile, and usual images soon after."""
    files = [HOSTILE_FILES[name]() for name in list(HOSTILE_FILES)[:8]]

    def upload(number: int) -> int:
        file = files[number % len(files)]
        return httpx.post(f"{address()}/api/images", files={"file": ("a", file)}, timeout=200).status_code

    with ThreadPoolExecutor(count) as pool:
        pending = [pool.submit(upload, number) for number in range(count)]
        assert httpx.get(f"{address()}/api/health", timeout=10).status_code == 200
        assert {each.result() for each in pending} <= {422, 503}
    check_alive(address())


CRASHES = ("SIGSEGV", "SIGKILL", "SIGABRT")


def decode_badly(how: str, _: Path) -> None:
    """A decoder that never ends is ended; one that crashes is replaced."""
    service, seconds, large = Service(run()), decoding.SECONDS, png(4000, 4000)
    DECODER.warm()
    if how == "late":
        decoding.SECONDS = 0.05
    else:
        nursery = psutil.Process(DECODER._nursery.pid)  # type: ignore[union-attr]

        def kill() -> None:
            time.sleep(0.3)
            for process in nursery.children():
                process.send_signal(getattr(signal, how))

        Thread(target=kill).start()
    try:
        with pytest.raises(ValueError, match="took longer than" if how == "late" else "crashed the program"):
            service.open(large, "large.png")
    finally:
        decoding.SECONDS = seconds
        DECODER._idle.clear()
    assert service.open(photo(), "a.png").view.width == 30


def peak_while(process: subprocess.Popen[str], work: Callable[[], object]) -> float:
    """Largest memory of a process and all of its own while ``work`` runs, in GB: proportional set size."""
    over, peak = Event(), 0.0

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while not over.is_set():
            total = 0
            for each in [root, *root.children(recursive=True)]:
                try:
                    total += each.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total / 2**30)
            time.sleep(0.05)

    thread = Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    return peak


MUCH: dict[str, Callable[[], list[bytes]]] = {
    "8 PNGs of 192 million values": lambda: [png(8000, 8000)] * 8,
    "8 TIFFs of 192 million values": lambda: [tiff((3, 8000, 8000), "zlib", "uint16")] * 8,
    "24 uploads of 60 MB": lambda: [os.urandom(60 * 2**20)] * 24,
    "100 uploads of 2 MB": lambda: [os.urandom(2**21)] * 100,
}


def send_much(name: str, _: Path) -> None:
    files = MUCH[name]()
    with started() as (process, url):

        def upload(data: bytes) -> int:
            try:
                return httpx.post(f"{url}/api/images", files={"file": ("a", data)}, timeout=300).status_code
            except httpx.TransportError:  # closed while it was sending
                return 503

        def work() -> None:
            with ThreadPoolExecutor(len(files)) as pool:
                assert set(pool.map(upload, files)) <= {200, 422, 503}

        peak = peak_while(process, work)
        assert peak < 5, f"{peak:.2f} GB"
        check_alive(url)


UPLOAD = b"POST /api/images HTTP/1.1\r\nHost: localhost\r\n" + FORM
SLOWLY = {
    "no byte": (b"", b""),
    "a head, byte by byte": (b"GET / HTTP/1.1\r\nHost: local", b"h"),
    "headers without an end": (HEAD, b"A: b\r\n"),
    "a body, byte by byte": (UPLOAD + b"Content-Length: 100000\r\n\r\n--x\r\n", b"a"),
    "a body that stops": (UPLOAD + b"Content-Length: 100000\r\n\r\n" + PART, b""),
    "chunks without an end": (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\n", b"1\r\na\r\n"),
    "a second head, byte by byte": (HEAD + b"\r\nGET /", b"a"),
    "a refused body, byte by byte": (
        UPLOAD.replace(b"localhost", b"evil.example") + b"Content-Length: 9999\r\n\r\n",
        b"a",
    ),
    "a body that is expected": (UPLOAD + b"Expect: 100-continue\r\nContent-Length: 9999\r\n\r\n", b""),
}


def send_slowly(name: str, clients: int, _: Path) -> None:
    """With deadlines of half a second, all connections are closed within ten."""
    first, more = SLOWLY[name]
    kept = guard.SECONDS, server.HEAD_SECONDS
    guard.SECONDS = server.HEAD_SECONDS = 0.5
    try:
        with ExitStack() as stack:
            waiting = [stack.enter_context(connect(address())) for _client in range(clients)]
            for client in waiting:
                client.sendall(first)
                client.settimeout(0.02)
            until = time.monotonic() + 10
            while waiting and time.monotonic() < until:
                waiting = [client for client in waiting if not is_closed(client, more)]
                time.sleep(0.1)
            assert not waiting, f"{len(waiting)} of {clients} connections are open after 10 s"
    finally:
        guard.SECONDS, server.HEAD_SECONDS = kept
    check_alive(address())


def is_closed(client: socket.socket, more: bytes) -> bool:
    """Send more and look whether the other side has closed."""
    try:
        client.sendall(more)
        return client.recv(65536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def end(name: str, busy: str, _: Path) -> None:
    """Signal the service while a connection is open."""
    number = getattr(signal, name)
    with started() as (process, url), ExitStack() as stack:
        if busy == "open connections":
            for _connection in range(20):
                stack.enter_context(connect(url))
        elif busy in ("unfinished uploads", "a second signal"):
            for _upload in range(5):
                stack.enter_context(connect(url)).sendall(UPLOAD + b"Content-Length: 100000\r\n\r\n" + PART)
        elif busy == "decoding":
            body = PART + png(8000, 8000) + b"\r\n--x--\r\n"
            client = stack.enter_context(connect(url))
            client.sendall(UPLOAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.5)
        httpx.get(f"{url}/api/health", timeout=60)
        own = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.send_signal(number)
        if busy == "a second signal":
            time.sleep(0.3)
            process.send_signal(number)
        out, err = process.communicate(timeout=30)
        took = time.monotonic() - began
        assert took < 10, took
        ended = (0, -number, 128 + number) if busy == "a second signal" else (0,)
        assert process.returncode in ended, process.returncode
        assert (out, err) == ("", ""), err
        _, left = psutil.wait_procs(own, timeout=5)
        assert not left


ORIGINS: list[dict[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://localhost.evil.example"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "file://"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "same-origin", "origin": "http://evil.example"},
]


def send_foreign(headers: dict[str, str], path: str, _: Path) -> None:
    answer = httpx.post(f"{address()}{path}", files={"file": photo()}, headers=headers, timeout=60)
    assert answer.status_code == 403, answer.text


def read_foreign(_: Path) -> None:
    """No header lets another site read an answer."""
    answer = httpx.get(f"{address()}/api/model", headers={"origin": "http://evil.example"})
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def copy_run(folder: Path, data: str, path: str | None = None) -> Path:
    """A copy of the run as a stranger would change it: other data, other paths of its examples."""
    home = folder / "run"
    shutil.copytree(run(), home)
    config = (home / "config.toml").read_text()
    line = next(line for line in config.splitlines() if line.startswith("data ="))
    (home / "config.toml").write_text(config.replace(line, f"data = {json.dumps(data)}"))
    examples = json.loads((home / "examples.json").read_text())
    for image in examples["images"] if path else ():
        image["path"] = path
    (home / "examples.json").write_text(json.dumps(examples))
    return home


def confine(data: str, path: str, folder: Path) -> None:
    Image.new("RGB", (16, 16), (1, 2, 3)).save(folder / "secret.png")
    filled = {"folder": folder, "outside": folder / "outside"}
    home = copy_run(folder, data.format(**filled), path.format(**filled))
    shown, own = Service(home).examples.images, Service(run()).examples.images
    assert [image.channels for image in shown] == [image.channels for image in own]
    assert not (folder / "executed").exists()


def link(name: str, folder: Path) -> None:
    home = copy_run(folder, "nowhere")
    (home / name).rename(folder / name)
    (home / name).symlink_to(folder / name)
    assert Service(home).examples.images == []


def serve_clients(seconds: float, _: Path) -> None:
    """Each client asks for one image again and again; all answers are the first one's."""
    files = [path.read_bytes() for path in sorted((run().parent / "photos").rglob("*.png"))[:20]]

    def question(data: bytes, client: httpx.Client) -> object:
        answer = client.post("/api/predict", files={"file": ("a.png", data)})
        assert answer.status_code == 200, answer.text
        return answer.json()["top"]

    def repeat(data: bytes) -> int:
        with httpx.Client(base_url=address(), timeout=60) as client:
            first, count, until = question(data, client), 1, time.monotonic() + seconds
            while time.monotonic() < until:
                assert question(data, client) == first
                count += 1
            return count

    with ThreadPoolExecutor(20) as pool:
        assert min(pool.map(repeat, files)) > 1


def cases() -> list[Case]:
    quick = ("npy of (3,30000,30000)", "PNG of 65535 pixels", "TIFF whose directories lead back to 0", "pickle")
    found = list(malformed_cases())
    found += [Case(HOSTILE, name, partial(upload_hostile, name), short=name in quick) for name in HOSTILE_FILES]
    found += [Case(HOSTILE, f"{count} at once", partial(upload_many, count)) for count in (46, 100)]
    found += [Case(HOSTILE, f"decoder: {how}", partial(decode_badly, how)) for how in ("late", *CRASHES)]
    found += [Case(HOSTILE, f"bits flipped {seed}", partial(upload_flipped, seed), fuzzed=True) for seed in range(90)]
    found += [Case(MEMORY, name, partial(send_much, name)) for name in MUCH]
    found += [
        Case(
            SLOW,
            f"{clients} times {name}",
            partial(send_slowly, name, clients),
            short=clients == 1 and "byte by byte" in name,
        )
        for name in SLOWLY
        for clients in (1, 50)
    ]
    found += [
        Case(ENDING, f"{name}, {busy}", partial(end, name, busy))
        for name in ("SIGINT", "SIGTERM")
        for busy in ("nothing", "open connections", "unfinished uploads", "decoding", "a second signal")
    ]
    found += [
        Case(FOREIGN, f"{headers} to {path}", partial(send_foreign, headers, path), short=path.endswith("images"))
        for headers in ORIGINS
        for path in ("/api/images", "/api/predict")
    ]
    found.append(Case(FOREIGN, "reading", read_foreign, short=True))
    found += [
        Case(CONFINED, f"data {data}, examples {path}", partial(confine, data, path), short=data == "{folder}")
        for data in ("{folder}", "/", "nowhere", "bands:3", "wds:pipe:touch {folder}/executed")
        for path in ("../secret.png", "../../secret.png", "{folder}/secret.png", "/etc/passwd", "secret.png")
    ]
    found.append(Case(CONFINED, "examples.npy is a link", partial(link, "examples.npy"), short=True))
    found += [Case(CLIENTS, f"for {seconds} s", partial(serve_clients, seconds)) for seconds in (3, 60)]
    return found
