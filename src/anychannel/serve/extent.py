"""The decoded size of a file, read from its header: a small file can decode to more than memory holds."""

from __future__ import annotations

from io import BytesIO

import tifffile
from PIL import Image

from anychannel.data.decode import DAMAGED, PILLOW_FORMATS
from anychannel.data.problems import ImageError
from anychannel.data.tiff import DAMAGED as DAMAGED_TIFF
from anychannel.data.tiff import TIFF_SIGNATURES

MOST_VALUES = 200_000_000
"""Pixels times channels: 4,096 x 4,096 of 11 channels, or 1.6 GB while it is resized."""


def check_extent(data: bytes, most: int = MOST_VALUES) -> None:
    """Refuse a file that would decode to more than ``most`` values.

    A file without a readable header passes, because decoding reports what is wrong with it.

    Raises:
        ImageError: the file is too large.
    """
    try:
        if data[:4] in TIFF_SIGNATURES:
            with tifffile.TiffFile(BytesIO(data)) as tiff:
                declared = sum(series.size for series in tiff.series)
                values = max(declared, sum(page.size for page in tiff.pages))
        else:
            with Image.open(BytesIO(data), formats=PILLOW_FORMATS) as image:
                values = image.width * image.height * len(image.getbands())
    except (*DAMAGED, *DAMAGED_TIFF):
        return
    if values > most:
        raise ImageError(
            f"it decodes to {values:,} values, more than the {most:,} that this service takes", "cut or scale it down"
        )
