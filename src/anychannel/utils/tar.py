"""Read tar archives from a stream, compressed or not, without trusting the sizes that they declare.

``tarfile`` reads long names, extended headers and maps of sparse files whole, follows their chains by recursion, and
does not check the checksum of a compressed archive.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Generator
from io import BufferedReader, RawIOBase
from pathlib import PurePosixPath
from typing import IO, Any

from anychannel.utils.folders import is_junk
from anychannel.utils.unfold import OPENERS

BLOCK = tarfile.BLOCKSIZE
MOST_HEADER = 2**20
"""Bytes of a long name or an extended header."""
MOST_RATIO = 100
"""An archive that unfolds to more times its size must not exceed the limit of a single file."""
RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=")
EXTENDED = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
FILE = re.compile(r"(?!__[^/]*__(?:/|$))((?:.*/)?[^.]+)\.([^/]*)", re.DOTALL)
"""Key and field of a file's name; those of ``__metadata__`` belong to no sample."""


class Counted(RawIOBase):
    """A stream that counts the bytes that are read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.count = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as the stream goes."""
        found = self.stream.read(len(buffer))
        buffer[: len(found)] = found
        self.count += len(found)
        return len(found)


def read_samples(stream: IO[bytes], check: Callable[[int], None]) -> Generator[tuple[str, dict[str, bytes]]]:
    """Yield the key of each sample and its fields: the files in a row whose names are equal up to the first dot.

    For the arguments and errors see ``read_tar``; a sample counts as one file.
    """
    key, values, held = "", dict[str, bytes](), 0

    def check_sample(size: int) -> None:
        check(held + size)

    for name, content in read_tar(stream, check_sample):
        named = FILE.fullmatch(name)
        if named is None or any(map(is_junk, PurePosixPath(name).parts)):
            continue
        if named[1] != key:
            if values:
                yield key, values
            key, values, held = named[1], {}, 0
        field = named[2].lower()
        if field in values:
            raise ValueError(f"{name} is there twice")
        values[field] = content
        held += len(content)
    if values:
        yield key, values


def read_tar(stream: IO[bytes], check: Callable[[int], None]) -> Generator[tuple[str, bytes]]:
    """Yield name and content of each regular file of an archive, one in memory at a time. Links are left out.

    Args:
        stream: the archive. It is read to its end, and not closed.
        check: called with a number of bytes before they are read; raises if they are too many.

    Raises:
        tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error: the archive is damaged or cut, or
            has sparse files.
    """
    counted = Counted(stream)
    stored = BufferedReader(counted)
    magic = stored.peek(BLOCK)
    archive = next((opener(stored) for start, opener in OPENERS.items() if magic.startswith(start)), stored)
    place, name, size = 0, "", -1

    def take(length: int) -> bytes:
        nonlocal place
        place += length
        if place > MOST_RATIO * counted.count:
            check(place)
        found: bytes = archive.read(length)
        if len(found) < length:
            raise tarfile.ReadError("unexpected end of data")
        return found

    while (header := archive.read(BLOCK)) and header.strip(b"\0"):
        place += BLOCK
        entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        length = entry.size if size < 0 else size
        if entry.type in EXTENDED and 0 <= length <= MOST_HEADER:
            body = take(length)
            if entry.type == tarfile.GNUTYPE_LONGNAME:
                name = body.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                found = parse_records(body)
                name, size = found.get("path", name), int(found.get("size", size))
        elif entry.type in (*EXTENDED, tarfile.GNUTYPE_SPARSE) or length < 0:
            raise tarfile.ReadError(f"the header of {name or entry.name} is of no use")
        else:
            name, known, size = "", name or entry.name, -1
            if entry.isreg():
                check(length)
                yield known, take(length)
            elif entry.type in tarfile.SUPPORTED_TYPES and entry.type != tarfile.GNUTYPE_LONGLINK:
                length = 0  # links, folders and devices have no content
            for start in range(0, length if not entry.isreg() else 0, MOST_HEADER):  # of a type that nobody knows
                take(min(MOST_HEADER, length - start))
        take(-length % BLOCK)
    while rest := archive.read(MOST_HEADER):  # the checksum of a compressed archive is at its end
        place += len(rest)
        if place > MOST_RATIO * counted.count:
            check(place)


def parse_records(body: bytes) -> dict[str, str]:
    """The records of an extended header, ``length key=value`` in a line each. Those of sparse files are refused."""
    found, place = {}, 0
    while record := RECORD.match(body, place):
        end = place + int(record[1])
        key, value = (part.decode("utf-8", "surrogateescape") for part in (record[2], body[record.end() : end - 1]))
        if key.startswith("GNU.sparse.") or end <= record.end():
            raise tarfile.ReadError(f"an extended header holds {key}, which is not supported")
        found[key] = value
        place = end
    return found
