"""Load an object of the user's own code that is named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def load_object(address: str, flag: str) -> Any:
    """What a function of the user's returns, or the object itself if it is none.

    Args:
        address: ``package.module:name`` or ``path/to/file.py:name``. It is imported, which runs its code.
        flag: that gave it, for messages.

    Raises:
        ValueError: there is no such file, module or name, or the function needs arguments.
    """
    place, colon, name = address.rpartition(":")
    if not colon or not place or not name:
        raise ValueError(f"{flag} takes package.module:function or file.py:function, got {address!r}")
    if place.endswith(".py"):
        path = Path(place).expanduser()
        if not path.is_file():
            raise ValueError(f"{flag}: there is no file {path}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        folder = str(path.resolve().parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)  # as python FILE does
        spec.loader.exec_module(module)
    else:
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if not f"{place}.".startswith(f"{error.name}."):
                raise
            raise ValueError(
                f"{flag}: there is no module {place!r} here; give its import name, or a file.py"
            ) from error
    if not hasattr(module, name):
        raise ValueError(f"{flag}: {place} has no {name!r}")
    found = getattr(module, name)
    if not is_function(found):
        return found
    try:
        return found()
    except TypeError as error:
        if "argument" not in str(error) or error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        raise ValueError(f"{flag}: {address} is called without arguments ({error})") from error


def is_function(found: Any) -> bool:
    """Whether this is to be called: a function or class, not a network, which can be called as well."""
    return isinstance(found, type) or (callable(found) and hasattr(found, "__code__"))
