"""Write files atomically: a reader never sees an incomplete file."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, flock

LOCK = ".lock"
"""Lock file in a run's folder. The process that trains there holds it; the system frees it however the process ends."""

FULL = 2**20
"""A failed write is attributed to a full disk if the disk has fewer free bytes than this."""


TEMPORARY = re.compile(r"\..+?(\.[^.]+)\.[a-z0-9_]{8}\1")
"""Names of temporary files: ``.state.pt.abcd1234.pt`` beside ``state.pt``."""

SEAL = b"\nsha256:"
"""Stands before the digest at the end of a sealed file."""


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

    An OSError names ``path``, even if a library reports a full disk as another error. The temporary file is locked
    until it is renamed, so that ``remove_leftovers`` spares it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: Path | None = None
    try:
        remove_leftovers(path.parent, f".{glob.escape(path.name)}.*")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        temporary = Path(name)
        with os.fdopen(handle):
            lock_file(handle)
            write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except Exception as error:
        if shutil.disk_usage(path.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def lock_file(handle: int) -> bool:
    """Lock an open file until it is closed; False if another process holds it, or the file system knows no locks."""
    if sys.platform == "win32":  # where no one can delete an open file
        return True
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except OSError:
        return False
    return True


def remove_leftovers(folder: Path, pattern: str = "**/.*") -> None:
    """Remove the temporary files in a folder and below it whose writers were killed. Those of living processes stay."""
    for path in list(folder.glob(pattern)):
        if TEMPORARY.fullmatch(path.name):
            with suppress(OSError), path.open("rb+") as file:
                if lock_file(file.fileno()):
                    path.unlink()


def seal(path: Path) -> None:
    """Append a digest of a file's content to the file."""
    with path.open("rb+") as file:
        file.write(SEAL + hashlib.file_digest(file, "sha256").hexdigest().encode())


def seal_holds(path: Path) -> bool:
    """Whether a sealed file is as it was when it was sealed. A file without a seal is taken as it is."""
    content = max(0, path.stat().st_size - len(SEAL) - 64)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, content, 2**20):
            digest.update(file.read(min(2**20, content - start)))
        found, recorded = file.read(len(SEAL)), file.read()
    return found != SEAL or recorded == digest.hexdigest().encode()


def check_place(path: Path) -> None:
    """Check that a file can be written at a path, before its content is computed. Creates nothing."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    refused = {errno.EISDIR: path.is_dir(), errno.ENOTDIR: not folder.is_dir()}
    for reason, holds in {**refused, errno.EACCES: not os.access(folder, os.W_OK)}.items():
        if holds:
            raise OSError(reason, os.strerror(reason), str(path))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
