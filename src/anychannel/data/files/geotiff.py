"""GeoTIFFs, by rasterio: reads GDAL's band names, nodata, mask, scale and offset.

Values are returned as stored, with the scale and offset and the mask beside them. A fourth band that is declared as
alpha is a channel like the others.
"""

from __future__ import annotations

import warnings
from threading import Lock

import numpy as np
import tifffile

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, library_errors
from anychannel.utils.extras import need

GEO_TAGS = (34735, 42112, 42113)  # GeoKeyDirectory, GDAL_METADATA, GDAL_NODATA
_OPENING = Lock()


def is_geotiff(page: tifffile.TiffPage) -> bool:
    """Whether a TIFF's first page has tags that plain readers ignore."""
    return any(tag in page.tags for tag in GEO_TAGS)


def decode_geotiff(data: bytes) -> Decoded:
    """Decode the only image of a GeoTIFF."""
    rasterio = need("rasterio", "geo", "a GeoTIFF")
    from rasterio.enums import MaskFlags
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with library_errors(RasterioError), rasterio.MemoryFile(data) as file:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            image = file.open(driver="GTiff")
        with image:
            if len(image.subdatasets) > 1:
                raise ImageError(f"it holds {len(image.subdatasets)} images", "keep the one that you want")
            pixels, flags = image.read(), image.mask_flag_enums
            # An alpha band is not a mask: files often declare red, green, blue and infrared of 8 bits like that.
            masked = [MaskFlags.all_valid not in band and MaskFlags.alpha not in band for band in flags]
            missing = np.zeros(pixels.shape, bool)
            for band in np.flatnonzero(masked):
                missing[band] = image.read_masks(int(band) + 1) == 0
            scaling = tuple(zip(image.scales, image.offsets, strict=True))
            names = image.descriptions
            upright = image.crs is not None and image.transform.is_rectilinear
            area = (image.crs.to_string(), *image.bounds) if upright else None
    is_scaled = any(pair != (1.0, 0.0) for pair in scaling)
    return Decoded(
        pixels,
        names=names,
        scaling=scaling if is_scaled else None,
        missing=missing if any(masked) else None,
        area=area,
    )
