"""One image file to an array of channels, with nothing converted on the way.

TIFF goes to ``tifffile``, 16-bit PNG to ``imagecodecs`` (Pillow would cut it to 8 bit), the rest to Pillow. A file
whose content is not plainly one array of channels (palette, CMYK, transparency, animation, unusual number types) is
refused with what to do about it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageFile

from anychannel.channels import parse_names
from anychannel.data.orientation import ORIENTATION_TAG, orient
from anychannel.data.problems import DataError, ImageError
from anychannel.data.resize import resize_and_crop
from anychannel.data.tiff import TIFF_SIGNATURES, check_layout, damaged, decode_tiff

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
"""Names of files that a folder of images may hold. What decides how a file is read is its content."""

PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
DTYPES = ("uint8", "uint16", "float32")

REFUSED_MODES = {
    "1": "a black-and-white bitmap",
    "P": "a palette image",
    "PA": "a palette image",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "CIELAB",
    "HSV": "HSV",
}
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises on damaged files."""
MODE_NAMES = {1: "greyscale", 2: "greyscale with alpha", 3: "RGB", 4: "RGB with alpha"}


@dataclass(frozen=True)
class ReadSettings:
    """How files become arrays.

    Args:
        channels: names of the files' channels in file order; None accepts any number.
        size: side of the square to which images are brought; None keeps the files' size.
        layout: ``planar`` or ``interleaved``, for TIFFs that do not tell; None asks where it is needed.
    """

    channels: tuple[str, ...] | None = None
    size: int | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is the side of the images in pixels, at least 1, or None, got {self.size}")


@dataclass(frozen=True)
class Decoded:
    """A decoded file: (C, H, W) pixels, and what its channels are where the format says so (``"RGB"``), else ""."""

    pixels: np.ndarray
    meaning: str


def decode(data: bytes, settings: ReadSettings) -> Decoded:
    """Decode a file's bytes and check what is in it.

    Raises:
        ImageError: the bytes cannot be decoded, or not without a conversion; the number of channels is not the one
            named; the number type is not uint8, uint16 or float32; a value is not finite.
    """
    if not data:
        raise ImageError("the file is empty (zero bytes)", "replace or remove it")
    if data[:8] == PNG_SIGNATURE and PNG_END not in data:
        raise damaged("its end is missing")
    if data[:4] in TIFF_SIGNATURES:
        pixels, meaning = decode_tiff(
            data, None if settings.channels is None else len(settings.channels), settings.layout
        )
    elif data[:8] == PNG_SIGNATURE and data[24:25] == b"\x10":
        pixels, meaning = decode_png16(data)
    else:
        pixels, meaning = decode_with_pillow(data)
    if pixels.dtype.name not in DTYPES:
        raise ImageError(
            f"it holds {pixels.dtype.name} values",
            f"convert it to one of {', '.join(DTYPES)} in the scale that you want",
        )
    names = settings.channels
    if names is not None and len(pixels) != len(names):
        kind = f" ({meaning})" if meaning else ""
        raise ImageError(
            f"it has {count_channels(len(pixels))}{kind}, but {len(names)} expected ({', '.join(names)})",
            channel_fix(meaning),
        )
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise ImageError("it holds NaN or infinite values", "replace them with the value that marks no data")
    return Decoded(pixels.astype(pixels.dtype.newbyteorder("="), copy=False), meaning)


def count_channels(count: int) -> str:
    """The count in words: 1 channel, 5 channels."""
    return f"{count} channel{'s' * (count != 1)}"


def channel_fix(meaning: str) -> str:
    """What to do about a file with another number of channels."""
    if "alpha" in meaning:
        return "remove the alpha channel, or name it"
    if meaning == "greyscale":
        return "replace it by one with all channels, or name one channel if all files are like this"
    return "name the files' channels in their order, or replace the file"


def decode_png16(data: bytes) -> tuple[np.ndarray, str]:
    """A 16-bit PNG as (C, H, W) uint16."""
    try:
        pixels = imagecodecs.png_decode(data)
        with Image.open(BytesIO(data), formats=PILLOW_FORMATS) as image:
            orientation = int(image.getexif().get(ORIENTATION_TAG, 1)) if b"eXIf" in data else 1
    except (imagecodecs.PngError, *DAMAGED) as error:
        raise unreadable(error) from error
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return orient(pixels, orientation), MODE_NAMES[len(pixels)]


def decode_with_pillow(data: bytes) -> tuple[np.ndarray, str]:
    """An 8-bit image as (C, H, W) uint8."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so that damaged files would pass; set it to False")
    try:
        with Image.open(BytesIO(data), formats=PILLOW_FORMATS) as image:
            if image.mode in REFUSED_MODES:
                raise ImageError(
                    f"it is {REFUSED_MODES[image.mode]}", "convert it to RGB, or to greyscale if it is grey"
                )
            if data[:8] == PNG_SIGNATURE and data[24] < 8:
                raise ImageError(f"it holds {data[24]}-bit values", "convert it to 8 bit")
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise ImageError("it is an animation", "save one frame of it")
            if "transparency" in image.info:
                raise ImageError("it has a transparent colour", "convert it to RGB")
            orientation = int(image.getexif().get(ORIENTATION_TAG, 1))
            pixels = np.asarray(image)
    except ImageError:
        raise
    except DAMAGED as error:
        raise unreadable(error) from error
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return orient(pixels, orientation), MODE_NAMES.get(len(pixels), "")


def unreadable(error: Exception) -> ImageError:
    """What a decoder's own error means to whoever owns the file."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return damaged("not an image in a known format" if "cannot identify image file" in reason else reason)


def read_pixels(data: bytes, settings: ReadSettings) -> np.ndarray:
    """Decode and bring to size: (C, H, W), contiguous.

    Raises:
        ImageError: see ``decode``.
    """
    pixels = decode(data, settings).pixels
    return np.ascontiguousarray(pixels) if settings.size is None else resize_and_crop(pixels, settings.size)


def read_image(
    path: str | Path,
    *,
    channels: str | Sequence[str],
    size: int | None = None,
    layout: str | None = None,
) -> np.ndarray:
    """Read one image as ``load_dataset`` does.

    Args:
        path: JPEG, PNG, TIFF, BMP or WebP file.
        channels: names of the file's channels in file order.
        size: height and width in pixels to which it is resized and cropped; None keeps its size.
        layout: ``planar`` (C, H, W) or ``interleaved`` (H, W, C), where a TIFF does not tell.

    Returns:
        (C, H, W) uint8, uint16 or float32 in the file's own units.

    Raises:
        DataError: the file is missing, cannot be decoded or holds something else than these channels.
    """
    settings = ReadSettings(parse_names(channels), size, layout)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        return read_pixels(data, settings)
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error
