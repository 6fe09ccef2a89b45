"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def readable(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file's name that are no UTF-8 become replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    Args:
        path: the file to make or replace; its folder is made if missing.
        write: called with the temporary path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse a path at which no file can be written, before the work that makes its content; nothing is made.

    Raises:
        OSError: it is a folder, or lies in something that is no folder or may not be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    refused = {
        errno.EISDIR: path.is_dir(),
        errno.ENOTDIR: not folder.is_dir(),
        errno.EACCES: not os.access(folder, os.W_OK),
    }
    for reason, holds in refused.items():
        if holds:
            raise OSError(reason, os.strerror(reason), str(path))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
