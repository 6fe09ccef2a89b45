"""Packages that only some readers need, imported when a file asks for them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError, ValueError):
    """A package that an extra brings is not installed; the message gives the command."""


def need(module: str, extra: str, what: str) -> Any:
    """Import a module of an extra.

    Args:
        module: to import.
        extra: of ``anychannel``, which brings it.
        what: is read with it, for the message.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{what} needs the package {error.name}, which is not installed; pip install 'anychannel[{extra}]'"
        ) from error
