"""Write files atomically: a reader never sees an incomplete file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".lock"
"""Lock file in a run's folder. The process that trains there holds it; the system frees it however the process ends."""

CHECKED = 2**24
"""Bytes of a block that has a checksum of its own."""
SIGNED = re.compile(r'\{"digest": "([0-9a-f]{32})", ')

FULL = 2**20
"""A failed write is attributed to a full disk if the disk has fewer free bytes than this."""


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
        if shutil.disk_usage(path.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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


def dump_signed(values: Mapping[str, Any]) -> str:
    """JSON of a table with a digest of itself, for ``load_signed``."""
    text = json.dumps(values)[1:]
    return f'{{"digest": "{digest_text(text)}", {text}'


def load_signed(text: str) -> dict[str, Any]:
    """The table that ``dump_signed`` wrote. Raises ValueError if the text is damaged."""
    head = SIGNED.match(text)
    if head is None or head[1] != digest_text(text[head.end() :]):
        raise ValueError("it is damaged")
    values: dict[str, Any] = json.loads(text)
    return values


def digest_text(text: str) -> str:
    """BLAKE2b, 128 bits in hexadecimal."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def find_checksums(file: Path) -> list[int]:
    """The CRC-32 of each block of a file; about 4 GB a second on each of up to four cores."""

    def checksum(start: int) -> int:
        with file.open("rb", buffering=0) as opened:
            opened.seek(start)
            return zlib.crc32(opened.read(CHECKED))

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(checksum, range(0, file.stat().st_size, CHECKED)))
