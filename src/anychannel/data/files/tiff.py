"""TIFF files with any number of channels: planar, interleaved, or one page for each channel.

tifffile and imagecodecs decode them. The file says which axis holds the channels (samples per pixel, ImageJ, OME or
tifffile metadata). Plain stacks of pages do not: a program that writes a (40, 40, 5) array without metadata makes 40
pages of 40 x 5. Their axes stay unknown here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from xml.etree.ElementTree import ParseError

import numpy as np
import tifffile

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, Format, damaged, library_errors, starts_with
from anychannel.data.files.geotiff import decode_geotiff, is_geotiff
from anychannel.data.files.ome import read_ome_xml

BUILT_IN = (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)
DAMAGED = (*BUILT_IN, tifffile.TiffFileError, ParseError)
"""What tifffile and imagecodecs raise for damaged files, found by damaging some; it trusts a file's tags."""

PHOTOMETRIC_TAG, ORIENTATION_TAG = 262, 274
JPEG, CONTIGUOUS = 7, 1
TO_RGB = "convert it to RGB"
REFUSED_PHOTOMETRIC = {
    "PALETTE": ("a palette image", TO_RGB),
    "SEPARATED": ("CMYK", TO_RGB),
    "YCBCR": ("YCbCr without JPEG compression", TO_RGB),
    **dict.fromkeys(("CIELAB", "ICCLAB", "ITULAB"), ("CIELAB", TO_RGB)),
    **dict.fromkeys(("LOGL", "LOGLUV"), ("logarithmic luminance (LogLuv)", TO_RGB)),
    "MINISWHITE": ("greyscale stored inverted (MINISWHITE)", "save it with black as 0"),
    "MASK": ("a transparency mask", "replace it by the image"),
    "CFA": ("a raw sensor mosaic", "demosaic it"),
    "LINEAR_RAW": ("a camera's raw image", "develop it to RGB"),
    "DEPTH_MAP": ("a depth map of a camera's raw image", "replace it by the image"),
    "SEMANTIC_MASK": ("a mask of a camera's raw image", "replace it by the image"),
}
"""Photometric interpretations whose values are not those of channels, and what to do about them."""


def decode_tiff(data: bytes) -> Decoded:
    """Decode the only image of a TIFF."""
    with library_errors(*DAMAGED):
        tiff = tifffile.TiffFile(BytesIO(data))
        pages = list(tiff.pages)
        last, width = tiff.pages.next_page_offset or 0, tiff.tiff.offsetsize
    if not pages:
        raise ImageError("it holds no image", "replace or remove it")
    check_complete(pages, data, data[last : last + width], width)
    page = tiff.pages.first
    photometric = check_photometric(page)
    if is_geotiff(page):
        return decode_geotiff(data)
    with library_errors(*DAMAGED):
        ome = tiff.ome_metadata
        images = [series for series in tiff.series if not series.keyframe.is_reduced]
        shapes = [" x ".join(map(str, series.shape)) for series in images]
        held = [sum(page.size for page in series if page is not None) for series in images]
        orientation = page.tags.valueof(ORIENTATION_TAG, 1)
    names = read_ome_xml(ome) if ome else ()
    if len(images) != 1:
        raise ImageError(f"it holds {len(images)} images ({' and '.join(shapes[:3])})", "keep the one that you want")
    series = images[0]
    # An image of one page may continue after it without further pages, as ImageJ writes large ones.
    if held[0] < series.size and (len(pages) > 1 or series.dataoffset is None):
        raise ImageError(
            f"its metadata declare an image of {shapes[0]}, {series.size:,} values, but its pages hold {held[0]:,}",
            "write it again with all of its planes, or replace or remove it",
        )
    with library_errors(*DAMAGED):
        pixels = np.asarray(series.asarray(maxworkers=1))
    if pixels.ndim != len(series.axes):
        raise damaged(f"its axes are {series.axes}, its pixels {' x '.join(map(str, pixels.shape))}")
    is_colour = photometric in ("RGB", "YCBCR") and "S" in series.axes
    return Decoded(pixels, series.axes, orientation if isinstance(orientation, int) else 1, is_colour, names)


def check_photometric(page: tifffile.TiffPage) -> str:
    """Return the name of the photometric interpretation ("" if there is none), or refuse what is not channels."""
    name = getattr(page.photometric, "name", "")
    if not name and PHOTOMETRIC_TAG in page.tags:
        raise ImageError(f"its photometric interpretation {page.photometric} is unknown", TO_RGB)
    is_converted = name == "YCBCR" and page.compression == JPEG and page.planarconfig == CONTIGUOUS  # by tifffile
    is_inks = name == "SEPARATED" and page.samplesperpixel != 4
    if name in REFUSED_PHOTOMETRIC and not is_converted and not is_inks:
        what, fix = REFUSED_PHOTOMETRIC[name]
        raise ImageError(f"it is {what}", fix)
    return name


def check_complete(pages: list[tifffile.TiffPage], data: bytes, next_page: bytes, width: int) -> None:
    """Refuse a file that ends before its pixels or its list of pages does; tifffile would fill in or omit the rest.

    ``next_page`` is the pointer after the last page: ``width`` zero bytes in a complete file.
    """
    for number, page in enumerate(pages, start=1):
        if len(page.dataoffsets) != len(page.databytecounts):
            raise damaged(f"page {number} has {len(page.dataoffsets)} offsets and {len(page.databytecounts)} sizes")
        end = max((start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if end > len(data):
            raise damaged(f"page {number} ends at byte {end:,}, the file at {len(data):,}")
    if len(next_page) < width or any(next_page):
        raise damaged(f"pages are missing after page {len(pages)}")


def count_values(data: bytes) -> int:
    """Pixels times channels, from the header."""
    with library_errors(*DAMAGED), tifffile.TiffFile(BytesIO(data)) as tiff:
        return max(sum(int(one.size) for one in tiff.series), sum(int(page.size) for page in tiff.pages))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep tifffile from logging what is wrong with a file, for all threads; ``ImageError`` says it."""
    logger = tifffile.logger()
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


TIFF = Format((".tif", ".tiff"), starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), decode_tiff, count_values)
