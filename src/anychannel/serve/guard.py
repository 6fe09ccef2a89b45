"""Limits for every request and security headers for every response.

Requests may not be too large or too slow, and all that are under way together may not be too large either. A service
for this machine only accepts requests to a name of this machine: otherwise another site could point its own name here
(DNS rebinding) and read the answers. Pages of other sites may not send anything that changes or computes something.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from anyio import current_time, move_on_after
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
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
SECONDS = 30.0
"""Time in which a request has to arrive, and again in which it has to be answered."""
BYTES_A_SECOND = 2**17
"""A request gets a second more for each so many bytes that have arrived, so that slow links can send large images."""
REQUESTS_UNDER_WAY = 4
"""Bodies of requests under way may together have the size of so many of the largest ones."""
SAFE = ("GET", "HEAD", "OPTIONS")
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class Guard:
    """ASGI middleware.

    ``max_bytes`` limits the body of a request, with or without a declared length. ``hosts`` are the host names that
    requests may use; None accepts all.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, hosts: Sequence[str] | None = None) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.hosts = hosts
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = arrived = False
        read = 0

        async def strict(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        async def limited() -> Message:
            nonlocal read, arrived
            message = await receive()
            size = len(message.get("body", b""))
            if read + size > self.max_bytes:
                raise HTTPException(413, self.message(None))
            if self.held + size > REQUESTS_UNDER_WAY * self.max_bytes:
                raise HTTPException(503, BUSY, {"retry-after": "5"})
            read += size
            self.held += size
            arrived = not message.get("more_body", False)
            clock.deadline = current_time() + SECONDS if arrived else began + SECONDS + read / BYTES_A_SECOND
            return message

        refusal = self.refuse(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, strict)
            return
        began = current_time()
        try:
            with move_on_after(SECONDS) as clock:
                await self.app(scope, limited, strict)
        finally:
            self.held -= read
        if clock.cancelled_caught and not started:
            late = JSONResponse({"error": f"the request did not arrive within {SECONDS:g} s; send it again"}, 408)
            busy = JSONResponse({"error": BUSY}, 503, {"retry-after": "5"})
            answer = busy if arrived else late
            answer.headers["connection"] = "close"
            await answer(scope, receive, strict)

    def refuse(self, method: str, headers: Headers) -> JSONResponse | None:
        """The answer to a request that is refused for its headers; None if it is not."""
        host = host_of(headers.get("host", ""))
        length = headers.get("content-length", "")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.hosts is not None and host not in self.hosts:
            status = 400
            text = f"the service is not called {host!r}; reach it as {' or '.join(self.hosts)}"
        elif method not in SAFE and self.is_foreign(headers):
            status, text = 403, "the request comes from a page of another site; send it from this service's own page"
        elif method not in SAFE and kind and kind not in FORMS:
            status, text = 415, f"the body is {kind}; send a form ({FORMS[0]})"
        elif length.isdigit() and int(length) > self.max_bytes:
            status, text = 413, self.message(int(length))
        else:
            return None
        return JSONResponse({"error": text}, status)

    def is_foreign(self, headers: Headers) -> bool:
        """Whether a browser says that a page of another origin sent the request.

        Programs that are no browsers say nothing. Behind a proxy that changes Host, which only a service for all hosts
        allows, ``Sec-Fetch-Site`` alone decides.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin", "none"):
            return True
        if origin is None or (site == "same-origin" and self.hosts is None):
            return False
        return origin.partition("://")[2].lower() != headers.get("host", "").lower()

    def message(self, size: int | None) -> str:
        """The error for a request that is too large; ``size`` is its declared length in bytes."""
        given = "the request is" if size is None else f"the request has {size / 2**20:,.1f} MB,"
        return (
            f"{given} larger than the {self.max_bytes / 2**20:,.1f} MB that this service takes; send a smaller file, "
            "or start it with a larger --max-upload-mb"
        )


BUSY = "the service is busy with other requests; send this one again later"


def host_of(header: str) -> str:
    """The name or address in a Host header, without port and brackets; empty if there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
