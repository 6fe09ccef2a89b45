"""JPEG 2000 (``.jp2`` files and bare codestreams), by imagecodecs: values as stored, of any depth up to 32 bits.

Pillow is not used, since it scales 9 to 15 bits, as Sentinel-2 has, to 16. A ``.jp2`` file is a list of boxes (ISO/IEC
15444-1, annex I). Only its codestream is decoded, so that the size that is checked is the size that is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np

from anychannel.data.errors import ColourError, ImageError
from anychannel.data.files.decoded import Decoded, Format, damaged, library_errors, starts_with
from anychannel.data.limits import check_extent

CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of codestream, followed by the marker of the image's size."""
SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
SIZE = struct.Struct(">HH4I4IH")
"""Length and profile; the right, bottom, left and top of the image; those of its tiles; the number of components."""

SRGB = 16
REFUSED_COLOURS = {12: "CMYK", 14: "CIELAB", 18: "YCbCr"}
"""Numbers of colour spaces (table I.10, and ISO/IEC 15444-2) whose values are not those of channels."""


def decode_jpeg2000(data: bytes) -> Decoded:
    """Decode a JPEG 2000 file."""
    colours, stream = 0, data
    if data.startswith(SIGNATURE):
        found = dict(reversed(list(boxes(data))))  # of several of one kind, the first counts
        stream, header = found.get(b"jp2c", b""), dict(reversed(list(boxes(found.get(b"jp2h", b"")))))
        if b"pclr" in header:
            raise ColourError("it is a palette image")
        colour = header.get(b"colr", b"")
        colours = int.from_bytes(colour[3:7]) if colour[:1] == b"\x01" else 0
    if colours in REFUSED_COLOURS:
        raise ColourError(f"it is {REFUSED_COLOURS[colours]}")
    shape = read_shape(stream)
    check_extent(shape[0] * shape[1] * shape[2])
    with library_errors(imagecodecs.Jpeg2kError, ValueError):
        pixels = np.asarray(imagecodecs.jpeg2k_decode(stream, planar=False))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape != shape:
        raise damaged(f"it declares {shape[0]} x {shape[1]} x {shape[2]} values, and holds others")
    return Decoded(pixels, axes="YXS", is_colour=colours == SRGB)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each box; the last may reach to the end of the data. Raises ImageError if one is cut."""
    place = 0
    while place < len(data):
        try:
            length, kind = struct.unpack_from(">I4s", data, place)
            start = place + 8
            if length == 1:
                (length,) = struct.unpack_from(">Q", data, start)
                start += 8
        except struct.error as error:
            raise damaged(error) from error
        end = place + length if length else len(data)
        if not start <= end <= len(data):
            raise damaged(f"its part {kind.decode('latin-1')!r} ends at byte {end:,}, the file at {len(data):,}")
        yield kind, data[start:end]
        place = end


def read_shape(stream: bytes) -> tuple[int, int, int]:
    """Height, width and number of components that a codestream declares."""
    try:
        _, _, right, bottom, left, top, *_, count = SIZE.unpack_from(stream, len(CODESTREAM))
    except struct.error as error:
        raise damaged("it holds no codestream") from error
    steps = stream[len(CODESTREAM) + SIZE.size :][: 3 * count]
    if not stream.startswith(CODESTREAM) or len(steps) < 3 * count or right <= left or bottom <= top or not count:
        raise damaged("its codestream declares no size")
    if any(step != 1 for i, step in enumerate(steps) if i % 3):
        raise ImageError("its components differ in resolution", "save each component with a value for every pixel")
    return bottom - top, right - left, count


JPEG2000 = Format((".jp2", ".j2k", ".jpx"), starts_with(SIGNATURE, CODESTREAM), decode_jpeg2000)
