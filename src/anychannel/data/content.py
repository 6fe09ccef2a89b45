"""The bytes of an image: one file, or for OME-Zarr a folder of files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from errno import EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from anychannel.data.limits import check_extent
from anychannel.utils.folders import walk_files

Content = bytes | Mapping[str, bytes]
"""A file's bytes, or those of a folder's files by relative path."""

FOLDER_SUFFIXES = (".zarr",)
"""Names of folders that are one image each."""

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in ns."""


def is_folder_image(path: Path) -> bool:
    """Whether a folder of this name is one image."""
    return path.suffix.lower() in FOLDER_SUFFIXES


def read_content(path: Path) -> Content:
    """Everything that an image consists of.

    Raises:
        OSError: a file cannot be read, or is none, as a named pipe or ``/dev/zero``, which never end.
        ImageError: it is larger than any image within the limit.
    """
    if path.is_dir() and is_folder_image(path):
        files = list(walk_files(path))
        check_extent(sum(map(count_stored, files)), "holds")
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
    check_extent(count_stored(path), "holds")
    return path.read_bytes()


def count_stored(file: Path) -> int:
    """Number of values that a file holds at least, if it stores them without compression, in at most 64 bits each."""
    status = file.stat()
    if not S_ISREG(status.st_mode):
        raise OSError(EINVAL, "it is not a regular file", str(file))
    return status.st_size // 8


def digest_content(content: Content) -> str:
    """BLAKE2b of an image's bytes, 128 bits in hexadecimal; of a folder, of its files' names and digests."""
    if isinstance(content, bytes):
        return hashlib.blake2b(content, digest_size=16).hexdigest()
    listed = "".join(f"{digest_content(content[name])} {name}\n" for name in sorted(content))
    return hashlib.blake2b(listed.encode(), digest_size=16).hexdigest()


def stamp_content(path: Path) -> Stamp | None:
    """Size and last change of an image, of a folder those of all its files; None where it is neither file nor folder.

    Raises:
        OSError, ValueError: the path leads nowhere or cannot be looked at.
    """
    status = path.stat()
    if S_ISREG(status.st_mode):
        return status.st_size, status.st_mtime_ns
    if S_ISDIR(status.st_mode) and is_folder_image(path):
        inner = [file.stat() for file in walk_files(path)]
        changed = max([status.st_mtime_ns, *(one.st_mtime_ns for one in inner)])
        return sum(one.st_size for one in inner), changed
    return None
