"""A page and a JSON endpoint to try a trained run: ``anychannel serve RUN``.

    from anychannel.serve import create_app

    app = create_app("runs/photos")  # an ASGI application, for any server

Needs the extra ``serve`` (FastAPI, uvicorn, python-multipart).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anychannel.utils.extras import need

if TYPE_CHECKING:
    from anychannel.serve.app import create_app
    from anychannel.serve.server import ServeError, serve

_HOMES = {"ServeError": "server", "create_app": "app", "serve": "server"}

__all__ = ["ServeError", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anychannel.serve' has no attribute {name!r}")
    for package in ("fastapi", "uvicorn", "python_multipart"):
        need(package, "serve", "serving a run")
    return getattr(import_module(f"anychannel.serve.{_HOMES[name]}"), name)
