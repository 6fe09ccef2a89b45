"""One image file to an array of channels, with nothing converted on the way.

TIFF goes to ``tifffile``, GeoTIFF to ``rasterio``, OME-Zarr to ``zarr``, ``.npy`` to NumPy, 16-bit PNG to
``imagecodecs`` (Pillow would cut it to 8 bit), the rest to Pillow. A file whose content is not plainly one array of
channels (palette, CMYK, transparency, animation, numbers that float32 cannot hold) is refused with what to do about it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageFile

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data.band_names import check_names
from anychannel.data.content import Content, read_content
from anychannel.data.decoded import Decoded, apply_scaling, bring_to_known_type, fill_missing
from anychannel.data.errors import DataError, ImageError
from anychannel.data.numpy_files import NPY_SIGNATURE, decode_array, decode_npy
from anychannel.data.ome import decode_ome_zarr
from anychannel.data.orientation import ORIENTATION_TAG, orient
from anychannel.data.resize import resize_and_crop
from anychannel.data.tiff import TIFF_SIGNATURES, check_layout, damaged, decode_tiff
from anychannel.utils.plurals import plural

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".npy", ".zarr")
"""Names of files, and of OME-Zarr folders, that are images. How one is read, its content decides."""

PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"

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
        layout: ``planar`` or ``interleaved``, for TIFFs and arrays that do not tell; None asks where it is needed.
        nodata: what to do with values that a file marks as no data; see ``fill_missing``.
        scaled: turn stored into physical values by the scale and offset that the files declare.
        check_names: refuse a file that names its channels otherwise.
        kinds: what the channels show, where known, which a file may name them by.
    """

    channels: tuple[str, ...] | None = None
    size: int | None = None
    layout: str | None = None
    nodata: float | str | None = None
    scaled: bool = False
    check_names: bool = True
    kinds: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is the side of the images in pixels, at least 1, or None, got {self.size}")
        if isinstance(self.nodata, str) and self.nodata != "keep":
            raise ValueError(f"nodata is 'keep', a number, or None to refuse such values, got {self.nodata!r}")

    def naming(self, channels: ChannelSet) -> ReadSettings:
        """The same settings for files that hold these channels."""
        return replace(self, channels=channels.names, kinds=channels.kinds)

    def beyond_size(self) -> dict[str, object]:
        """The settings beside size and layout that shape pixels, where they are not the default: for a cache's key."""
        nodata: dict[str, object] = {} if self.nodata is None else {"nodata": self.nodata}
        return nodata | ({"scaled": True} if self.scaled else {})


def decode(data: Content | np.ndarray | Decoded, settings: ReadSettings) -> Decoded:
    """Decode a file's bytes, or take an array as it is, and check what is in it.

    Raises:
        ImageError: the bytes cannot be decoded, or not without a conversion; the number of channels is not the one
            named, or the file names them otherwise; values are marked as no data, not finite, or of a type that
            changes them.
        MissingExtraError: a package that reads this format is not installed.
    """
    if not isinstance(data, np.ndarray | Decoded) and not data:
        raise ImageError("the file is empty (zero bytes)", "replace or remove it")
    found = find_pixels(data, settings)
    pixels, names = found.pixels, settings.channels
    if names is not None and len(pixels) != len(names):
        kind = f" ({found.meaning})" if found.meaning else ""
        raise ImageError(
            f"it has {plural(len(pixels), 'channel')}{kind}, but {len(names)} expected ({', '.join(names)})",
            channel_fix(found.meaning),
        )
    if names is not None and settings.check_names and len(found.names) == len(names):
        check_names(found.names, names, settings.kinds)
    pixels = apply_scaling(pixels, found.scaling) if settings.scaled else bring_to_known_type(pixels)
    pixels = fill_missing(pixels, found.missing, settings.nodata)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise ImageError("it holds NaN or infinite values", "replace them with the value that marks no data")
    return replace(found, pixels=pixels)


def find_pixels(data: Content | np.ndarray | Decoded, settings: ReadSettings) -> Decoded:
    """Hand the content to the decoder for its format.

    Raises:
        ImageError: it cannot be decoded, or not without a conversion.
    """
    if isinstance(data, Decoded):
        return data
    expected = None if settings.channels is None else len(settings.channels)
    if isinstance(data, np.ndarray):
        return decode_array(data, expected, settings.layout)
    if not isinstance(data, bytes):
        return decode_ome_zarr(data)
    if data[:8] == PNG_SIGNATURE and PNG_END not in data:
        raise damaged("its end is missing")
    if data[: len(NPY_SIGNATURE)] == NPY_SIGNATURE:
        return decode_npy(data, expected, settings.layout)
    if data[:4] in TIFF_SIGNATURES:
        return decode_tiff(data, expected, settings.layout)
    if data[:8] == PNG_SIGNATURE and data[24:25] == b"\x10":
        return Decoded(*decode_png16(data))
    return Decoded(*decode_with_pillow(data))


def channel_fix(meaning: str) -> str:
    """What to do about a file with another number of channels."""
    if "alpha" in meaning:
        return "remove the alpha channel, or name it"
    if meaning == "greyscale":
        return (
            "replace it, name one channel if all files are like this, or tell which one it has (docs/partial-data.md)"
        )
    return (
        "name the files' channels in their order, tell which ones this file has (docs/partial-data.md), or replace it"
    )


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


def read(data: Content | np.ndarray | Decoded, settings: ReadSettings) -> Decoded:
    """Decode and bring to size: pixels (C, H, W), contiguous.

    Raises:
        ImageError: see ``decode``.
    """
    found = decode(data, settings)
    pixels = found.pixels
    pixels = np.ascontiguousarray(pixels) if settings.size is None else resize_and_crop(pixels, settings.size)
    return replace(found, pixels=pixels)


def read_image(
    path: str | Path,
    *,
    channels: ChannelSet | str | Sequence[str],
    size: int | None = None,
    layout: str | None = None,
    nodata: float | str | None = None,
    scaled: bool = False,
    check_names: bool = True,
) -> np.ndarray:
    """Read one image as ``load_dataset`` does.

    Args:
        path: JPEG, PNG, TIFF, BMP, WebP or NumPy file, or an OME-Zarr folder.
        channels: names of the file's channels in file order, or a sensor (see ``as_channel_set``).
        size: height and width in pixels to which it is resized and cropped; None keeps its size.
        layout: ``planar`` (C, H, W) or ``interleaved`` (H, W, C), where a TIFF or array does not tell.
        nodata, scaled, check_names: as ``load_dataset``.

    Returns:
        (C, H, W) uint8, uint16 or float32 in the file's own units.

    Raises:
        DataError: the file is missing, cannot be decoded or holds something else than these channels.
    """
    settings = ReadSettings(None, size, layout, nodata, scaled, check_names).naming(as_channel_set(channels))
    try:
        data = read_content(Path(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        return read(data, settings).pixels
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error
