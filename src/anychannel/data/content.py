"""The bytes of an image: one file, for OME-Zarr a folder of files, or a file for each band."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from anychannel.data.limits import check_extent
from anychannel.utils.folders import walk_files

Content = bytes | Mapping[str, bytes]
"""A file's bytes, or those of a folder's files by relative path."""

FOLDER_SUFFIXES = (".zarr",)
"""Names of folders that are one image each."""

Stamp = tuple[int, ...]
"""Size in bytes and time of the last change in ns; for several files the sum, the last, and a digest of all."""


@dataclass(frozen=True)
class BandFiles:
    """An image whose planes lie in a file each: the files by the names of the planes."""

    files: Mapping[str, Path]

    def load(self) -> dict[str, Content]:
        """Content of each file. Raises OSError, ImageError as ``read_content``."""
        return {name: read_content(path) for name, path in self.files.items()}


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


def stamp_content(image: Path | BandFiles) -> Stamp | None:
    """Size and last change of an image, of several files those of all; None where it is neither file nor folder.

    Raises:
        OSError, ValueError: the path leads nowhere or cannot be looked at.
    """
    if isinstance(image, BandFiles):
        parts = {name: stamp_content(path) for name, path in image.files.items()}
        return None if None in parts.values() else join_stamps({name: part for name, part in parts.items() if part})
    status = image.stat()
    if S_ISREG(status.st_mode):
        return status.st_size, status.st_mtime_ns
    if S_ISDIR(status.st_mode) and is_folder_image(image):
        inner = {file.relative_to(image).as_posix(): file.stat() for file in walk_files(image)}
        stamps: dict[str, Stamp] = {name: (one.st_size, one.st_mtime_ns) for name, one in inner.items()}
        return join_stamps(stamps | {"": (0, status.st_mtime_ns)})
    return None


def join_stamps(stamps: Mapping[str, Stamp]) -> Stamp:
    """One stamp for several files by name. An older file in the place of one may change the digest alone."""
    listed = "".join(f"{stamps[name]} {name}\n" for name in sorted(stamps))
    digest = int.from_bytes(hashlib.blake2b(listed.encode("utf-8", "surrogateescape"), digest_size=7).digest())
    return sum(stamp[0] for stamp in stamps.values()), max(stamp[1] for stamp in stamps.values()), digest
