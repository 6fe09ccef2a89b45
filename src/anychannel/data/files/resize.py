"""Resize images with any number of channels."""

from __future__ import annotations

import numpy as np

LONGEST = 16
"""Largest ratio of an image's sides. Longer images are cropped to their middle first, because a strip one pixel high
would become ``size`` times as long."""


def resize_and_crop(pixels: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize the shorter side to ``size`` and crop the centre square, or cover a height and a width and crop these.

    Interpolation is antialiased, bilinear and in float32 (``torch.nn.functional.interpolate``, equal to Pillow's up to
    rounding); the result is rounded back to the given type: (C, H, W) uint8, uint16 or float32. An image whose shorter
    side is already ``size`` is not resampled.
    """
    short = min(pixels.shape[1:])
    cut = [max(0, side - LONGEST * short) // 2 for side in pixels.shape[1:]]
    pixels = pixels[:, cut[0] : pixels.shape[1] - cut[0], cut[1] : pixels.shape[2] - cut[1]]
    height, width = pixels.shape[1:]
    rows, columns = (size, size) if isinstance(size, int) else size
    new, old = (rows, height) if rows * width >= columns * height else (columns, width)
    if new != old:
        import torch  # here, since errors in settings and paths come without it
        import torch.nn.functional as F

        target = [max(rows, round(height * new / old)), max(columns, round(width * new / old))]
        image = torch.from_numpy(pixels.astype(np.float32))[None]
        resized = F.interpolate(image, size=target, mode="bilinear", antialias=True, align_corners=False)[0].numpy()
        if pixels.dtype != np.float32:
            limits = np.iinfo(pixels.dtype)
            resized = np.clip(np.rint(resized), limits.min, limits.max).astype(pixels.dtype)
        pixels, (height, width) = resized, target
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(pixels[:, top : top + rows, left : left + columns])
