"""Limits for every request and security headers for every response.

Requests may not be too large. A service for this machine only accepts requests to a name of this machine: otherwise
another site could point its own name here (DNS rebinding) and read the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware.

    ``max_bytes`` limits the body of a request, with or without a declared length. ``hosts`` are the host names that
    requests may use; None accepts all.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, hosts: Sequence[str] | None = None) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host = host_of(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            text = f"the service is not called {host!r}; reach it as {' or '.join(self.hosts)}"
            await JSONResponse({"error": text}, 400)(scope, receive, strict)
            return
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.max_bytes:
            await JSONResponse({"error": self.message(int(length))}, 413)(scope, receive, strict)
            return
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_bytes:
                raise HTTPException(413, self.message(None))
            return message

        await self.app(scope, limited, strict)

    def message(self, size: int | None) -> str:
        """The error for a request that is too large; ``size`` is its declared length in bytes."""
        given = "the request is" if size is None else f"the request has {size / 2**20:,.1f} MB,"
        return (
            f"{given} larger than the {self.max_bytes / 2**20:,.1f} MB that this service takes; send a smaller file, "
            "or start it with a larger --max-upload-mb"
        )


def host_of(header: str) -> str:
    """The name or address in a Host header, without port and brackets; empty if there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
