"""GeoTIFFs, by rasterio: reads GDAL's band names, nodata, mask, scale and offset.

Values are returned as stored, with the scale and offset and the mask beside them. A fourth band that is declared as
alpha is a channel like the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import tifffile

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, library_errors
from anychannel.utils.extras import need

GEO_TAGS = (34735, 42112, 42113)  # GeoKeyDirectory, GDAL_METADATA, GDAL_NODATA
_OPENING = Lock()

Window = tuple[int, int, int, int]
"""First row, first column, height and width in pixels."""


def is_geotiff(page: tifffile.TiffPage) -> bool:
    """Whether a TIFF's first page has tags that plain readers ignore."""
    return any(tag in page.tags for tag in GEO_TAGS)


def decode_geotiff(data: bytes) -> Decoded:
    """Decode the only image of a GeoTIFF."""
    rasterio = need("rasterio", "geo", "a GeoTIFF")
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with library_errors(RasterioError), rasterio.MemoryFile(data) as file:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            image = file.open(driver="GTiff")
        with image:
            if len(image.subdatasets) > 1:
                raise ImageError(f"it holds {len(image.subdatasets)} images", "keep the one that you want")
            return read_raster(image)


def read_raster(image: Any, bands: Sequence[int] | None = None, window: Window | None = None) -> Decoded:
    """Read bands, counted from 0, of an open raster in a window; None means all."""
    from rasterio.enums import MaskFlags

    chosen = list(range(image.count)) if bands is None else list(bands)
    numbers = [band + 1 for band in chosen]
    part = None
    if window is not None:
        row, column, height, width = window
        part = ((row, row + height), (column, column + width))
    pixels, flags = image.read(numbers, window=part), [image.mask_flag_enums[band] for band in chosen]
    # An alpha band is not a mask: files often declare red, green, blue and infrared of 8 bits like that.
    masked = [MaskFlags.all_valid not in band and MaskFlags.alpha not in band for band in flags]
    missing = np.zeros(pixels.shape, bool)
    for place in np.flatnonzero(masked):
        missing[place] = image.read_masks(numbers[place], window=part) == 0
    scaling = tuple((image.scales[band], image.offsets[band]) for band in chosen)
    upright = image.crs is not None and image.transform.is_rectilinear and window is None
    return Decoded(
        pixels,
        names=tuple(image.descriptions[band] for band in chosen),
        scaling=scaling if any(pair != (1.0, 0.0) for pair in scaling) else None,
        missing=missing if any(masked) else None,
        area=(image.crs.to_string(), *image.bounds) if upright else None,
    )
