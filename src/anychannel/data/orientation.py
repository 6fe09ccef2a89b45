"""Turn an image upright as its EXIF or TIFF orientation says."""

from __future__ import annotations

import numpy as np

ORIENTATION_TAG = 274


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an orientation.

    Args:
        pixels: (C, H, W) as stored.
        orientation: 1 to 8 as in the TIFF 6.0 and EXIF standards; anything else counts as 1, upright.

    Returns:
        (C, H, W), or (C, W, H) for orientations 5 to 8, as a view.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(1, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
