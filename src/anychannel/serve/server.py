"""Run the service on an address of this machine."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from anychannel.serve.app import DEFAULT_UPLOAD_MB, create_app

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServeError(ValueError):
    """The service cannot start as requested; the message says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. This happens before the run is loaded, so a port in use is reported at once."""
    if not 0 <= port <= 65535:
        raise ServeError(f"port is a number from 0 (any free one) to 65535, got {port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind)
    except OSError as error:
        raise ServeError(f"{host!r} is not an address of this machine ({error.strerror}); try 127.0.0.1") from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(128)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} on {host} is in use by another program; give another with --port, or 0 for any free one"
            ) from error
        if error.errno == errno.EACCES:
            raise ServeError(f"port {port} needs administrator rights; give one above 1023 with --port") from error
        raise ServeError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return taken


def serve(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_upload_mb: float = DEFAULT_UPLOAD_MB,
    cache_dir: str | Path | None = None,
    ready: Callable[[str], object] = print,
) -> None:
    """Serve a run until interrupted; see ``create_app``.

    Only this machine can reach the ``host`` 127.0.0.1. The ``port`` 0 is any free one. ``ready`` is called with the
    page's address as soon as it can be opened.
    """
    with listen(host, port) as taken:
        hosts = LOOPBACK if host in LOOPBACK else None
        app = create_app(run, max_upload_mb=max_upload_mb, hosts=hosts, cache_dir=cache_dir)
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{taken.getsockname()[1]}")
        settings = uvicorn.Config(app, log_level="warning", server_header=False)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[taken])
