"""GeoTIFFs, by rasterio: reads GDAL's band names, nodata, mask, scale and offset.

Values are returned as stored, with the scale and offset and the mask beside them. A fourth band that is declared as
alpha is a channel like the others.
"""

from __future__ import annotations

import warnings
from threading import Lock
from typing import Any

import numpy as np
import tifffile

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, Scaling, library_errors
from anychannel.utils.extras import need

GEO_TAGS = (34735, 42112, 42113)
"""GeoKeyDirectory, GDAL_METADATA, GDAL_NODATA."""
_OPENING = Lock()


def is_geotiff(page: tifffile.TiffPage) -> bool:
    """Whether a TIFF's first page has tags that plain readers ignore."""
    return any(tag in page.tags for tag in GEO_TAGS)


def decode_geotiff(data: bytes) -> Decoded:
    """Decode the only image of a GeoTIFF.

    Raises:
        ImageError: it is damaged, or holds several images.
        MissingExtraError: rasterio is not installed.
    """
    rasterio = need("rasterio", "geo", "a GeoTIFF")
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with library_errors(RasterioError), rasterio.MemoryFile(data) as file:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            image = file.open(driver="GTiff")
        with image:
            if len(image.subdatasets) > 1:
                raise ImageError(f"it holds {len(image.subdatasets)} images", "keep the one that you want")
            pixels = image.read()
            scaling, missing = find_scaling(image), find_missing(image, pixels)
            return Decoded(pixels, names=image.descriptions, scaling=scaling, missing=missing)


def find_scaling(image: Any) -> Scaling | None:
    """Scale and offset of each band; None if the file declares none."""
    scaling = tuple(zip(image.scales, image.offsets, strict=True))
    return None if all(pair == (1.0, 0.0) for pair in scaling) else scaling


def find_missing(image: Any, pixels: np.ndarray) -> np.ndarray | None:
    """(C, H, W), True where a band's nodata value or the file's mask marks a value; None if the file has neither.

    An alpha band is not a mask here: files often declare red, green, blue and infrared of 8 bits like that.
    """
    from rasterio.enums import MaskFlags

    marked = [MaskFlags.all_valid not in flags and MaskFlags.alpha not in flags for flags in image.mask_flag_enums]
    if not any(marked):
        return None
    missing = np.zeros(pixels.shape, bool)
    for band, has_mask in enumerate(marked):
        if has_mask:
            missing[band] = image.read_masks(band + 1) == 0
    return missing
