"""How many bytes compressed data unfold to, without holding them in memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

OPENERS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""How a compressed file begins, and what reads it."""
ZSTANDARD = b"\x28\xb5\x2f\xfd"
PIECE = 2**20


def unfolds_beyond(data: bytes, most: int) -> bool:
    """Whether data compressed by gzip, zlib, bzip2, LZMA, Zstandard or Blosc unfold to more than ``most`` bytes.

    Zstandard and Blosc declare it. A Zstandard frame that does not counts as too large.
    """
    if data.startswith(ZSTANDARD):
        length, single, dictionary = data[4] >> 6, data[4] >> 5 & 1, data[4] & 3
        size, start = (single, 2, 4, 8)[length], 6 - single + (0, 1, 2, 4)[dictionary]
        return not size or int.from_bytes(data[start : start + size], "little") + 256 * (size == 2) > most
    if data[:1] == b"\x02" and int.from_bytes(data[12:16], "little") == len(data):  # Blosc
        return int.from_bytes(data[4:8], "little") > most
    total = 0
    with suppress(OSError, EOFError, lzma.LZMAError, zlib.error):  # damage shows when it is decoded
        for magic, opener in OPENERS.items():
            if data.startswith(magic):
                file = opener(BytesIO(data))
                while total <= most and (piece := file.read(PIECE)):
                    total += len(piece)
        if data[:1] == b"\x78":  # zlib
            packed, stream = data, zlib.decompressobj()
            while total <= most and packed:
                total += len(stream.decompress(packed, PIECE))
                packed = stream.unconsumed_tail
    return total > most
