"""TIFF files of any number of channels: planar, interleaved, or one page a channel; OME-TIFF names them.

Which axis holds the channels is what the file says (samples per pixel, ImageJ, OME or tifffile metadata). Plain stacks
of pages do not say it: a program that writes a (40, 40, 5) array without metadata makes 40 pages of 40 x 5. Such a file
is read by the axis whose length is the number of channels named; if both could be it, ``layout`` decides.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from xml.etree.ElementTree import ParseError

import numpy as np
import tifffile

from anychannel.data.decoded import Decoded
from anychannel.data.errors import ImageError
from anychannel.data.geotiff import decode_geotiff, is_geotiff
from anychannel.data.ome import read_ome_xml
from anychannel.data.orientation import ORIENTATION_TAG, orient
from anychannel.utils.extras import MissingExtraError

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LAYOUTS = ("planar", "interleaved")
DAMAGED = (
    tifffile.TiffFileError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OSError,
    struct.error,
    zlib.error,
    MemoryError,
    ParseError,
)
"""What tifffile and its codecs raise on damaged files."""

UNKNOWN_AXES = "IQ"
REFUSED_PHOTOMETRIC = {
    "PALETTE": ("a palette image", "convert it to RGB"),
    "SEPARATED": ("CMYK", "convert it to RGB"),
    "CIELAB": ("CIELAB", "convert it to RGB"),
    "ICCLAB": ("CIELAB", "convert it to RGB"),
    "ITULAB": ("CIELAB", "convert it to RGB"),
    "MINISWHITE": ("greyscale stored inverted (MINISWHITE)", "save it with black as 0"),
    "MASK": ("a transparency mask", "replace it by the image"),
    "CFA": ("a raw sensor mosaic", "demosaic it"),
}


def check_layout(layout: str | None) -> None:
    """Refuse a layout that does not exist.

    Raises:
        ValueError: it is neither None nor one of ``LAYOUTS``.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout is {' or '.join(map(repr, LAYOUTS))}, or None to let the files tell, got {layout!r}")


def decode_tiff(data: bytes, expected: int | None, layout: str | None) -> Decoded:
    """Decode a TIFF.

    Args:
        data: the file.
        expected: number of channels that are named, None where they are not.
        layout: ``planar`` or ``interleaved``, used only where the file does not tell which axis holds the channels.

    Returns:
        Pixels (C, H, W); ``"RGB"``, ``"RGB with alpha"``, ``"greyscale"`` or ``""``; and the names that OME or GDAL
        metadata give the channels.

    Raises:
        ImageError: the file is damaged, holds images of several sizes, or its channel axis cannot be told.
    """
    try:
        with tifffile.TiffFile(BytesIO(data)) as tiff:
            if not tiff.pages:
                raise ImageError("it holds no image", "replace or remove it")
            page = tiff.pages.first
            check_complete(tiff, data)
            if page.photometric.name in REFUSED_PHOTOMETRIC and not (
                page.photometric.name == "SEPARATED" and page.samplesperpixel != 4
            ):
                what, fix = REFUSED_PHOTOMETRIC[page.photometric.name]
                raise ImageError(f"it is {what}", fix)
            if is_geotiff(page):
                return decode_geotiff(data)
            names = read_ome_xml(tiff.ome_metadata) if tiff.ome_metadata else ()
            images = [series for series in tiff.series if not series.keyframe.is_reduced]
            if len(images) != 1:
                shapes = " and ".join(" x ".join(map(str, series.shape)) for series in images[:3])
                raise ImageError(f"it holds {len(images)} images ({shapes})", "keep the one that you want")
            series = images[0]
            check_planes(series, len(tiff.pages))
            pixels = np.asarray(series.asarray(maxworkers=1))
            axes = series.axes
            is_rgb = page.photometric.name in ("RGB", "YCBCR") and "S" in axes
            tag = page.tags.get(ORIENTATION_TAG)
    except (ImageError, MissingExtraError):
        raise
    except DAMAGED as error:
        raise damaged(str(error).strip().split("\n")[0] or type(error).__name__) from error
    pixels = channels_first(pixels, axes, expected, layout)
    meaning = {3: "RGB", 4: "RGB with alpha"}.get(len(pixels), "") if is_rgb else "greyscale" * (len(pixels) == 1)
    return Decoded(orient(pixels, 1 if tag is None else int(tag.value)), meaning, names)


def check_complete(tiff: tifffile.TiffFile, data: bytes) -> None:
    """Refuse a file that ends before its pixels or its list of pages do; tifffile would fill in or leave out the rest.

    Raises:
        ImageError: a strip or tile ends after the file, or the last page points to one that is not there.
    """
    for number, page in enumerate(tiff.pages, start=1):
        end = max((start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if end > len(data):
            raise damaged(f"page {number} ends at byte {end:,}, the file at {len(data):,}")
    last = tiff.pages.next_page_offset or 0
    pointer = data[last : last + tiff.tiff.offsetsize]
    if len(pointer) < tiff.tiff.offsetsize or any(pointer):
        raise damaged(f"pages are missing after page {len(tiff.pages)}")


def check_planes(series: tifffile.TiffPageSeries, pages: int) -> None:
    """Refuse an image of which the metadata declare more planes than the file holds; tifffile would make them blank, or
    read whatever follows as pixels.

    An image of one page may go on after it without further pages, as ImageJ writes large ones.

    Args:
        series: the image.
        pages: number of pages in the file.

    Raises:
        ImageError: planes are missing.
    """
    held = [page.size for page in series if page is not None]
    if sum(held) < series.size and (pages > 1 or series.dataoffset is None):
        shape = " x ".join(map(str, series.shape))
        raise ImageError(
            f"its metadata declare an image of {shape}, {series.size:,} values, but its pages hold {sum(held):,}",
            "write it again with all of its planes, or replace or remove it",
        )


def damaged(reason: str) -> ImageError:
    """The error for a file that cannot be decoded, or not to its end."""
    return ImageError(f"it is truncated or damaged ({reason})", "replace or remove it")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep tifffile from logging what is wrong with a file, as ``ImageError`` tells it; for all threads."""
    logger = tifffile.logger()
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def channels_first(pixels: np.ndarray, axes: str, expected: int | None, layout: str | None) -> np.ndarray:
    """Bring an array to (C, H, W).

    Args:
        pixels: the file's array.
        axes: one letter an axis, as tifffile names them: Y, X, S samples, C channels, Z depth, ...; of I and Q nothing
            is known, and then Y and X are a guess too.
        expected: number of channels that are named, None where they are not.
        layout: what to take where neither tells.

    Raises:
        ImageError: there is more than one axis beside height and width, or the channel axis cannot be told.
    """
    keep = [
        i for i, (letter, length) in enumerate(zip(axes, pixels.shape, strict=True)) if length > 1 or letter in "YX"
    ]
    pixels = pixels.reshape([pixels.shape[i] for i in keep])
    axes = "".join(axes[i] for i in keep)
    if pixels.ndim == 2:
        return pixels[None]
    if pixels.ndim != 3:
        raise ImageError(
            f"it has axes {axes} of lengths {pixels.shape}, more than channels, height and width",
            "save one image with its channels a file",
        )
    if not set(axes) & set(UNKNOWN_AXES):
        return np.moveaxis(pixels, next(i for i, letter in enumerate(axes) if letter not in "YX"), 0)
    first, last = pixels.shape[0] == expected, pixels.shape[2] == expected
    if layout == "planar" or (layout is None and first and not last):
        return pixels
    if layout == "interleaved" or (layout is None and last and not first):
        return np.moveaxis(pixels, -1, 0)
    shape = " x ".join(map(str, pixels.shape))
    if expected is not None and not first and not last:
        raise ImageError(
            f"it is an array of {shape}, no axis of which has the {expected} channels expected",
            "name the files' channels in their order, or replace the file",
        )
    raise ImageError(
        f"it is an array of {shape} that does not say which axis holds its channels",
        "give layout='planar' (channels first) or layout='interleaved' (channels last)",
    )
