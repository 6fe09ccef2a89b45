"""Optional packages, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError, ValueError):
    """A package of an extra is not installed; the message gives the command to install it."""


def need(module: str, extra: str, what: str) -> Any:
    """Import a module that an extra of anychannel installs; ``what`` needs it, for the message."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{what} needs the package {error.name}, which is not installed; pip install 'anychannel[{extra}]'"
        ) from error
