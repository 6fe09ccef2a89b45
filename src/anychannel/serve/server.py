"""Run the service on an address of this machine."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from anychannel.models import Classifier
from anychannel.serve.app import DEFAULT_UPLOAD_MB, create_app
from anychannel.serve.decoding import DECODER

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEAD_SECONDS = 10.0
"""Time in which a connection has to send a request's head, or the rest of a request that was refused before its end."""
CONNECTION_SECONDS = 600.0
"""Time after which a connection is closed whose request is not yet answered in full; ``Guard`` answers sooner."""
GRACE_SECONDS = 2.0
"""Time that requests under way have to end after Ctrl+C."""
CONNECTIONS = 200
"""More get status 503."""


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


class Server(uvicorn.Server):
    """A server that ends slow connections, and itself within seconds of Ctrl+C or SIGTERM, whatever its clients do."""

    _since: dict[Any, tuple[object, float]] = {}  # noqa: RUF012  # replaced, never changed

    async def on_tick(self, counter: int) -> bool:
        """Close connections that have not changed their state in time; called ten times a second."""
        now, before, self._since = monotonic(), self._since, {}
        for connection in list(self.server_state.connections):
            cycle = connection.cycle  # type: ignore[union-attr]  # it speaks HTTP/1.1 here
            waits = cycle is None or cycle.response_complete
            state, since = before.get(connection, (None, now))
            if state != (cycle, waits):
                since = now
            elif now - since > (HEAD_SECONDS if waits else CONNECTION_SECONDS):
                connection.transport.abort()
            self._since[connection] = ((cycle, waits), since)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests under way end for a while, then end them."""
        clock = asyncio.get_running_loop().call_later(GRACE_SECONDS, self.abort)
        await super().shutdown(sockets)
        clock.cancel()

    def abort(self) -> None:
        """Close all connections and end all decoding."""
        DECODER.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; a second one ends everything at once."""
        if self.should_exit and self.started:
            self.servers[0].get_loop().call_soon_threadsafe(self.abort)
        else:
            super().handle_exit(sig, frame)


def serve(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_upload_mb: float = DEFAULT_UPLOAD_MB,
    ready: Callable[[str], object] = print,
    model: Classifier | None = None,
) -> None:
    """Serve a run until interrupted; see ``create_app``.

    Only this machine can reach the ``host`` 127.0.0.1. The ``port`` 0 is any free one. ``ready`` is called with the
    page's address as soon as it can be opened.
    """
    with listen(host, port) as taken:
        hosts = LOOPBACK if host in LOOPBACK else None
        app = create_app(run, max_upload_mb=max_upload_mb, hosts=hosts, model=model)
        DECODER.warm()
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{taken.getsockname()[1]}")
        with suppress(KeyboardInterrupt):
            Server(configure(app)).run(sockets=[taken])


def configure(app: FastAPI) -> uvicorn.Config:
    """The server's settings."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the answer says what is wrong with a request
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_level="error",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=2 * round(GRACE_SECONDS),
    )
