"""How large a file becomes once decoded, read from its header: a small file can unfold to more than memory holds."""

from __future__ import annotations

from io import BytesIO

import tifffile
from PIL import Image

from anychannel.data.content import Content
from anychannel.data.files.read import DAMAGED, PILLOW_FORMATS
from anychannel.data.files.tiff import DAMAGED as DAMAGED_TIFF
from anychannel.data.files.tiff import TIFF_SIGNATURES
from anychannel.data.problems import ImageError

MOST_VALUES = 200_000_000
"""Pixels times channels: 4,096 x 4,096 of 11 channels, or 1.6 GB while it is resized."""


def check_extent(data: Content, most: int = MOST_VALUES) -> None:
    """Refuse a file that would decode to more than ``most`` values. One that has no legible header passes: decoding
    says what is wrong with it. A folder image passes too, as none is ever sent.

    Raises:
        ImageError: it is too large.
    """
    if not isinstance(data, bytes):
        return
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
