"""Write files atomically: a reader never sees an incomplete file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".lock"
"""Lock file in a run's folder. The process that trains there holds it; the system frees it however the process ends."""

FULL = 2**20
"""A failed write is put down to the system if the file cannot be extended by so many bytes."""


def is_free(lock: Path) -> bool:
    """Whether no process on this machine holds a lock file."""
    with suppress(Timeout, OSError), FileLock(lock).acquire(timeout=0):
        return True
    return False


def readable(text: str) -> str:
    """Replace the bytes of a file's name that are not UTF-8, so that the text can be encoded as UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it to ``path``, whose folder may be missing.

    An OSError names ``path``, even if a library reports a full disk as another error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        temporary = Path(name)
        os.close(handle)
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except Exception as error:
        reason = None if temporary is None else find_obstacle(temporary)
        if reason is not None:
            raise OSError(reason, os.strerror(reason), str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def find_obstacle(file: Path) -> int | None:
    """Number of the error with which the system refuses to extend a file: a full disk, a quota, a limit on sizes."""
    if shutil.disk_usage(file.parent).free < FULL:
        return errno.ENOSPC
    try:
        with file.open("ab") as opened:
            opened.write(bytes(FULL))
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        return error.errno
    return None


def check_place(path: Path) -> None:
    """Check that a file can be written at a path, before its content is computed. Creates nothing."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    refused = {errno.EISDIR: path.is_dir(), errno.ENOTDIR: not folder.is_dir()}
    for reason, holds in {**refused, errno.EACCES: not os.access(folder, os.W_OK)}.items():
        if holds:
            raise OSError(reason, os.strerror(reason), str(path))


def write_by(path: Path, save: Callable[[BytesIO], object]) -> None:
    """Write what ``save`` puts into a buffer, atomically. PyTorch aborts the process if its own writing fails."""
    buffer = BytesIO()
    save(buffer)
    write_atomically(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
