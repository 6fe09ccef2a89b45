"""A web page and a JSON API for a trained run: ``anychannel serve RUN``.

    from anychannel.serve import create_app

    app = create_app("runs/photos")  # an ASGI application, for any server

Needs the extra ``serve`` (FastAPI, uvicorn, python-multipart).
"""

from __future__ import annotations

from anychannel.utils.extras import need

for package in ("fastapi", "uvicorn", "python_multipart"):
    need(package, "serve", "serving a run")

from anychannel.serve.app import create_app  # noqa: E402
from anychannel.serve.server import ServeError, serve  # noqa: E402

__all__ = ["ServeError", "create_app", "serve"]
