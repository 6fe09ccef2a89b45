"""Small files that unfold to more than memory holds, for ``bombs.py`` and the tests."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import tifffile
import zarr
from PIL import Image

BLANK = np.zeros((16, 16), np.uint8)
VAST = {256: 50_000, 257: 46_000, 278: 46_000}
"""Width, length and rows per strip of a TIFF of 2.3 GB."""


def patched_tiff(path: Path, tags: dict[int, int], **options) -> None:
    """A TIFF of 16 x 16 pixels with other numbers in its tags."""
    tifffile.imwrite(path, BLANK, photometric="minisblack", **options)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag, value in tags.items():
            tiff.pages.first.tags[tag].overwrite(value)


def tiff_with_part(path: Path, compression: str, part: bytes) -> None:
    """A TIFF that declares 16 x 16 pixels, which are in ``part``."""
    patched_tiff(path, {}, compression=compression)
    end = path.stat().st_size
    path.write_bytes(path.read_bytes() + part)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[273].overwrite(end)
        tiff.pages.first.tags[279].overwrite(len(part))


def npy_header(path: Path) -> None:
    np.save(path, BLANK)
    path.write_bytes(path.read_bytes().replace(b"(16, 16), }" + b" " * 10, b"(60000, 300000), }   ", 1))
    assert b"300000" in path.read_bytes()


def png(path: Path, width: int, height: int, bits: int = 8) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    body = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def zarr_of(path: Path, shape: list[int], chunks: list[int]) -> None:
    array = zarr.create_array(path / "0", shape=(1, 16, 16), dtype="u1", zarr_format=2)
    array[:] = 1
    (path / ".zattrs").write_text(json.dumps({"multiscales": [{"datasets": [{"path": "0"}], "axes": list("cyx")}]}))
    values = json.loads((path / "0" / ".zarray").read_text()) | {"shape": shape, "chunks": chunks}
    (path / "0" / ".zarray").write_text(json.dumps(values))


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 20 << 30)


def jpeg2000(side: int) -> bytes:
    return imagecodecs.jpeg2k_encode(np.zeros((side, side), np.uint8))


def bomb_png_text(path: Path, kind: bytes, bits: int = 8) -> None:
    """A PNG of 16 x 16 pixels whose text or colour profile unfolds to 1 GB."""
    buffer = io.BytesIO()
    Image.fromarray(BLANK if bits == 8 else BLANK.astype(np.uint16)).save(buffer, "PNG")
    whole = buffer.getvalue()
    chunk = kind + b"a\0\0" + squeeze_zeros(1 << 29)
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(whole[:33] + packed + whole[33:])


@cache
def squeeze_zeros(count: int) -> bytes:
    """Zeros, compressed by deflate, never in memory at once."""
    packer = zlib.compressobj(1)
    pieces = [packer.compress(bytes(1 << 24)) for _ in range(count >> 24)]
    return b"".join([*pieces, packer.flush()])


def header_of(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A tar header whose size is whatever is said."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def write_tar(path: Path, head: bytes, zeros: int, pack: Callable[[bytes], bytes] | None) -> None:
    """A tar file that starts with ``head`` and goes on with zeros; compressed, by ``pack``, as streams in a row."""
    if pack is None:
        path.write_bytes(head + bytes(zeros + 1024))
        return
    packed = pack(bytes(PIECE))
    path.write_bytes(pack(head) + packed * (zeros // PIECE) + pack(bytes(zeros % PIECE + 1024)))


def extended(records: dict[str, str]) -> bytes:
    """An extended header of a tar file, and its records."""
    body = b"".join(
        f"{len(line) + len(str(len(line) + 4)) + 1} {line}".encode()
        for line in (f"{key}={value}\n" for key, value in records.items())
    )
    return header_of("x", len(body), b"x") + body + bytes(-len(body) % 512)


PACKED: dict[str, Callable[[bytes], bytes] | None] = {
    ".tar": None,
    ".tar.gz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}
PIECE = 1 << 25
GIB = 1 << 30
SHARDS: dict[str, tuple[bytes, int, tuple[str, ...]]] = {
    "a file of 3 GB": (header_of("a.npy", 3 * GIB), 3 * GIB, (".tar.gz", ".tar.bz2", ".tar.xz")),
    "a file that declares 1 TB": (header_of("a.npy", 1 << 40), 4096, tuple(PACKED)),
    "an extended header of 3 GB": (header_of("x", 3 * GIB, b"x"), 1 << 20, tuple(PACKED)),
    "a long name of 3 GB": (header_of("x", 3 * GIB, b"L"), 1 << 20, tuple(PACKED)),
    "a sparse file of 1 TB": (header_of("a.npy", 1 << 40, b"S"), 4096, tuple(PACKED)),
    "a size of 1 TB in an extended header": (
        extended({"size": str(1 << 40)}) + header_of("a.npy", 8),
        4096,
        tuple(PACKED),
    ),
    "a sparse map": (
        extended({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + header_of("a", 512),
        4096,
        (".tar",),
    ),
    "10,000 headers in a row": (header_of("x", 0, b"x") * 10_000, 4096, (".tar", ".tar.gz")),
    "3 GB that no sample uses": (header_of("__x__", 3 * GIB), 3 * GIB, (".tar.gz",)),
    "3 GB after the end": (bytes(1024), 3 * GIB, (".tar.gz",)),
}
"""Start of a tar file, zeros after it, and how it may be packed."""


def zarr_chunk(path: Path, kind: str) -> None:
    """An OME-Zarr of 16 x 16 pixels whose only chunk unfolds to half a GB."""
    zarr_of(path, [1, 16, 16], [1, 16, 16])
    values = json.loads((path / "0" / ".zarray").read_text())
    values["compressor"] = numcodecs.get_codec({"id": kind}).get_config()
    (path / "0" / ".zarray").write_text(json.dumps(values))
    (path / "0" / "0.0.0").write_bytes(zarr_bomb(kind))


@cache
def zarr_bomb(kind: str) -> bytes:
    """Zeros, compressed as zarr does."""
    if kind in ("gzip", "bz2"):
        pack = {"gzip": gzip.compress, "bz2": bz2.compress}[kind]
        return pack(bytes(PIECE)) * (GIB // 2 // PIECE)
    packed: bytes = numcodecs.get_codec({"id": kind}).encode(bytes(GIB // 2))
    return packed


def gif(path: Path) -> None:
    """A GIF that declares 60,000 x 60,000 pixels."""
    Image.fromarray(BLANK).save(path, "GIF")
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 60_000, 60_000)
    path.write_bytes(content)
