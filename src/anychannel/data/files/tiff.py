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
from math import prod
from xml.etree.ElementTree import ParseError

import numpy as np
import tifffile

from anychannel.data.errors import ColourError, ImageError
from anychannel.data.files.decoded import Decoded, Format, damaged, library_errors, starts_with
from anychannel.data.files.geotiff import decode_geotiff, is_geotiff
from anychannel.data.files.ome import read_ome_xml
from anychannel.data.files.pillow import DAMAGED as PILLOW_ERRORS
from anychannel.data.files.pillow import count_values, open_image
from anychannel.data.limits import check_extent

BUILT_IN = (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)
DAMAGED = (*BUILT_IN, tifffile.TiffFileError, ParseError)
"""What tifffile and imagecodecs raise for damaged files, found by damaging some; it trusts a file's tags."""

PHOTOMETRIC_TAG, ORIENTATION_TAG = 262, 274
JPEG, CONTIGUOUS = 7, 1
BOUNDED = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)
"""None, CCITT, LZW, deflate, PackBits, LZMA, Zstandard: tifffile decodes them to the declared size at most."""
PILLOW_COMPRESSION = {
    **dict.fromkeys((JPEG, 33007, 34892), "JPEG"),
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG2000"),
    34933: "PNG",
    50001: "WEBP",
}
"""Compressions whose parts are images, with a header of their own that Pillow reads."""
MOST_PAGES = 4096
COLOURS = {
    "PALETTE": "a palette image",
    "SEPARATED": "CMYK",
    "YCBCR": "YCbCr without JPEG compression",
    "MINISWHITE": "greyscale stored inverted (MINISWHITE)",
}
"""Photometric interpretations that Pillow converts to RGB."""
TO_RGB = "convert it to RGB"
REFUSED_PHOTOMETRIC = {
    **dict.fromkeys(("CIELAB", "ICCLAB", "ITULAB"), ("CIELAB", TO_RGB)),
    **dict.fromkeys(("LOGL", "LOGLUV"), ("logarithmic luminance (LogLuv)", TO_RGB)),
    "MASK": ("a transparency mask", "replace it by the image"),
    "CFA": ("a raw sensor mosaic", "demosaic it"),
    "LINEAR_RAW": ("a camera's raw image", "develop it to RGB"),
    "DEPTH_MAP": ("a depth map of a camera's raw image", "replace it by the image"),
    "SEMANTIC_MASK": ("a mask of a camera's raw image", "replace it by the image"),
}
"""Other photometric interpretations whose values are not those of channels, and what to do about them."""


def decode_tiff(data: bytes) -> Decoded:
    """Decode the only image of a TIFF."""
    check_directories(data)
    with library_errors(*DAMAGED):
        tiff = tifffile.TiffFile(BytesIO(data))
        pages = list(tiff.pages)
    if not pages:
        raise ImageError("it holds no image", "replace or remove it")
    check_complete(pages, data)
    page = tiff.pages.first
    photometric = check_photometric(page)
    with library_errors(*DAMAGED):
        ome = tiff.ome_metadata
    names = read_ome_xml(ome) if ome else ()  # before tifffile lists all planes that it declares
    with library_errors(*DAMAGED):
        check_extent(max(sum(int(one.size) for one in tiff.series), sum(int(one.size) for one in pages)))
        check_extent(max(prod(one.chunks) for one in pages))
    if is_geotiff(page):
        return decode_geotiff(data)
    with library_errors(*DAMAGED):
        images = [series for series in tiff.series if not series.keyframe.is_reduced]
        shapes = [" x ".join(map(str, series.shape)) for series in images]
        held = [sum(page.size for page in series if page is not None) for series in images]
        orientation = page.tags.valueof(ORIENTATION_TAG, 1)
    if len(images) != 1:
        raise ImageError(f"it holds {len(images)} images ({' and '.join(shapes[:3])})", "keep the one that you want")
    series = images[0]
    # An image of one page may continue after it without further pages, as ImageJ writes large ones.
    if held[0] < series.size and (len(pages) > 1 or series.dataoffset is None):
        raise ImageError(
            f"its metadata declare an image of {shapes[0]}, {series.size:,} values, but its pages hold {held[0]:,}",
            "write it again with all of its planes, or replace or remove it",
        )
    for one in series.pages:
        check_compression(one, data)
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
    if name in COLOURS and not is_converted and not is_inks:
        fix = "save it with black as 0" if name == "MINISWHITE" else TO_RGB
        raise ColourError(f"it is {COLOURS[name]}", fix)
    if name in REFUSED_PHOTOMETRIC:
        what, fix = REFUSED_PHOTOMETRIC[name]
        raise ImageError(f"it is {what}", fix)
    return name


def check_directories(data: bytes) -> None:
    """Refuse a list of pages that breaks off, which tifffile would cut, or that goes in a circle without an end."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = b"+" in data[2:4]
    count, pointer, entry_size = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    place, seen = 8 if is_big else 4, set[int]()
    while True:
        try:
            (offset,) = struct.unpack_from(order + pointer, data, place)
            if offset == 0:
                return
            (entries,) = struct.unpack_from(order + count, data, offset)
        except (struct.error, OverflowError) as error:
            raise damaged(f"pages are missing after page {len(seen)}") from error
        if offset in seen:
            raise damaged(f"page {len(seen) + 1} is an earlier page again")
        seen.add(offset)
        if len(seen) > MOST_PAGES:
            raise ImageError(f"it holds more than {MOST_PAGES:,} pages", "keep the image that you want")
        place = offset + struct.calcsize(count) + entries * entry_size


def check_compression(page: tifffile.TiffPage | tifffile.TiffFrame | None, data: bytes) -> None:
    """Refuse compressed parts that decode to more than their page declares, or that do not tell before it is done."""
    if page is None or page.compression in BOUNDED:
        return
    if page.compression not in PILLOW_COMPRESSION:
        name = getattr(page.compression, "name", page.compression)
        raise ImageError(f"its compression {name} is not supported", "save it with deflate, LZW or no compression")
    formats, total = (PILLOW_COMPRESSION[page.compression],), 0
    for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        with library_errors(*PILLOW_ERRORS):
            total += count_values(open_image(data[start : start + size], formats))
    check_extent(total)
    if total > 2 * prod(page.chunks) * len(page.dataoffsets):  # some writers pad
        raise damaged("its compressed parts hold more pixels than it declares")


def check_complete(pages: list[tifffile.TiffPage], data: bytes) -> None:
    """Refuse a file that ends before its pixels do; tifffile would fill in the rest."""
    for number, page in enumerate(pages, start=1):
        if len(page.dataoffsets) != len(page.databytecounts):
            raise damaged(f"page {number} has {len(page.dataoffsets)} offsets and {len(page.databytecounts)} sizes")
        end = max((start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if end > len(data):
            raise damaged(f"page {number} ends at byte {end:,}, the file at {len(data):,}")


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


TIFF = Format((".tif", ".tiff"), starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), decode_tiff)
