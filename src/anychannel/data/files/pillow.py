"""JPEG, PNG, BMP and WebP: by Pillow, and 16-bit PNG by imagecodecs, as Pillow would reduce it to 8 bits.

Images that are not plainly one array of channels (palette, CMYK, transparent colour, animation) are refused.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image, ImageFile

from anychannel.data.errors import ColourError, DataError, ImageError
from anychannel.data.files.decoded import Decoded, Format, damaged, library_errors, starts_with
from anychannel.data.limits import check_extent

DAMAGED = (OSError, SyntaxError, ValueError, struct.error, imagecodecs.PngError)
"""What Pillow and imagecodecs raise for damaged files."""

PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
ORIENTATION_TAG = 274
REFUSED_MODES = {"1": "a black-and-white bitmap", "P": "a palette image", "PA": "a palette image", "LAB": "CIELAB"}
REFUSED_MODES |= {mode: mode for mode in ("CMYK", "YCbCr", "HSV")}
COLOUR_FORMATS = (*PILLOW_FORMATS, "TIFF", "JPEG2000")
CONVERTED_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV")
"""Modes of 8 bits; Pillow does not scale others as it converts them."""


def decode_pillow(data: bytes) -> Decoded:
    """Decode a JPEG, PNG, BMP or WebP file."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so that damaged files would pass; set it to False")
    is_png = data.startswith(PNG_SIGNATURE)
    if is_png and PNG_END not in data:
        raise damaged("its end is missing")
    is_16_bit = is_png and data[24:25] == b"\x10"
    with library_errors(*DAMAGED), open_image(data) as image:
        has_exif = b"eXIf" in data or not is_16_bit  # without this chunk, Pillow decodes a PNG to look for EXIF
        orientation = image.getexif().get(ORIENTATION_TAG, 1) if has_exif else 1
        if image.format == "BMP":
            check_unused_bytes(data, *image.tile[0])
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        pixels = imagecodecs.png_decode(data) if is_16_bit else np.asarray(image)
    if frames > 1:
        raise ImageError("it is an animation", "save one frame of it")
    if not is_16_bit:
        if image.mode in REFUSED_MODES:
            raise ColourError(f"it is {REFUSED_MODES[image.mode]}", "convert it to RGB, or to greyscale if it is grey")
        if is_png and data[24] < 8:
            raise ColourError(f"it holds {data[24]}-bit values", "convert it to 8 bit")
        if "transparency" in image.info:
            raise ColourError("it has a transparent colour")
    orientation = orientation if isinstance(orientation, int) else 1
    return Decoded(pixels, axes="YXS"[: pixels.ndim], orientation=orientation, is_colour=True)


def decode_colours(data: bytes, what: str) -> Decoded:
    """Decode an image of any colour mode as 8-bit RGB, as Pillow converts it; ``what`` says which mode it has."""
    with library_errors(*DAMAGED), open_image(data, COLOUR_FORMATS) as image:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
        if image.mode not in CONVERTED_MODES:
            raise ImageError(f"{what} ({image.mode}), which is not converted", "save it as RGB")
        pixels = np.asarray(image.convert("RGB"))
    turn = orientation if isinstance(orientation, int) else 1
    return Decoded(pixels, axes="YXS", orientation=turn, is_colour=True, converted=what.removeprefix("it is "))


def check_unused_bytes(data: bytes, _: str, extent: tuple[int, ...] | None, offset: int, args: Any) -> None:
    """Refuse a 32-bit BMP with values in the byte of each pixel that its header declares as unused; Pillow omits them.

    The arguments after ``data`` are Pillow's: decoder, (left, top, width, height), first byte, and (raw mode, ...).
    """
    raw_mode = args[0]
    if extent and "X" in raw_mode:
        pixels = data[offset : offset + 4 * extent[2] * extent[3]]
        if len(set(pixels[raw_mode.index("X") :: 4])) > 1:
            raise ImageError(
                "its pixels have a fourth value that BMP declares as unused",
                "save it as TIFF or PNG with four channels, or as BMP of 24 bits",
            )


def open_image(data: bytes, formats: tuple[str, ...] = PILLOW_FORMATS) -> ImageFile.ImageFile:
    """Read an image's header, and refuse what exceeds our limit on values or Pillow's on pixels."""
    try:
        image = Image.open(BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        fix = "cut or scale it down, or set PIL.Image.MAX_IMAGE_PIXELS"
        raise ImageError(f"it is too large ({error})", fix) from error
    check_extent(count_values(image))
    return image


def count_values(image: Image.Image) -> int:
    """Pixels times channels."""
    return image.width * image.height * len(image.getbands())


PILLOW = Format(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    starts_with(b"\xff\xd8\xff", PNG_SIGNATURE, b"BM", b"RIFF"),
    decode_pillow,
)
