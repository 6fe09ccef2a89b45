"""GeoTIFFs, by rasterio: what GDAL's tags say about bands, values without data, scale and offset is heeded.

Values come as stored. Where the file gives a band a scale and an offset, they come with it; where it marks values as no
data, by a number or a mask, they are marked too. A fourth band that is declared as alpha is a channel like the others.
"""

from __future__ import annotations

import warnings
from threading import Lock
from typing import Any

import numpy as np
import tifffile

from anychannel.data.decoded import Decoded, Scaling
from anychannel.data.errors import ImageError
from anychannel.utils.extras import need

GEO_TAGS = (34735, 42112, 42113)
"""GeoKeyDirectory, GDAL_METADATA, GDAL_NODATA."""
_OPENING = Lock()


def is_geotiff(page: tifffile.TiffPage) -> bool:
    """Whether a TIFF's first page carries what plain readers overlook."""
    return any(tag in page.tags for tag in GEO_TAGS)


def decode_geotiff(data: bytes) -> Decoded:
    """Decode a GeoTIFF's first and only image.

    Raises:
        ImageError: it is damaged, or holds several images.
        MissingExtraError: rasterio is not installed.
    """
    rasterio = need("rasterio", "geo", "a GeoTIFF")
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with rasterio.MemoryFile(data) as file:
            with _OPENING, warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                image = file.open(driver="GTiff")
            with image:
                if len(image.subdatasets) > 1:
                    raise ImageError(f"it holds {len(image.subdatasets)} images", "keep the one that you want")
                pixels = image.read()
                meaning = {1: "greyscale"}.get(image.count, "")
                return Decoded(pixels, meaning, image.descriptions, find_scaling(image), find_missing(image, pixels))
    except RasterioError as error:
        reason = str(error).strip().split("\n")[0]
        raise ImageError(f"it is truncated or damaged ({reason})", "replace or remove it") from error


def find_scaling(image: Any) -> Scaling | None:
    """Scale and offset of each band; None where the file declares none."""
    scaling = tuple(zip(image.scales, image.offsets, strict=True))
    return None if all(pair == (1.0, 0.0) for pair in scaling) else scaling


def find_missing(image: Any, pixels: np.ndarray) -> np.ndarray | None:
    """(C, H, W), True where a band's number for no data or the file's mask marks a value; None where there is neither.

    An alpha band is no such mask here: four bands of 8 bit are often declared so that are red to infrared.
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
