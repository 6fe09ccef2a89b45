"""Resize images with any number of channels."""

from __future__ import annotations

from collections.abc import Sequence

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
    return resize_valid(pixels, size, None)[0]


def resize_valid(
    pixels: np.ndarray, size: int | tuple[int, int], missing: np.ndarray | None, nearest: Sequence[bool] = ()
) -> tuple[np.ndarray, np.ndarray | None]:
    """As ``resize_and_crop``, of an image with values that are no data; return where the result has none, too.

    Values where ``missing``, shaped like the pixels, is True do not mix into others: a pixel is the weighted mean of
    the valid ones below it, and no data where there is none. Planes that are ``nearest`` (masks) take the value of the
    nearest pixel instead.
    """
    short = min(pixels.shape[1:])
    cut = [max(0, side - LONGEST * short) // 2 for side in pixels.shape[1:]]
    inner = (slice(None), slice(cut[0], pixels.shape[1] - cut[0]), slice(cut[1], pixels.shape[2] - cut[1]))
    pixels, missing = pixels[inner], None if missing is None else missing[inner]
    height, width = pixels.shape[1:]
    rows, columns = (size, size) if isinstance(size, int) else size
    new, old = (rows, height) if rows * width >= columns * height else (columns, width)
    if new != old:
        height, width = max(rows, round(height * new / old)), max(columns, round(width * new / old))
        pixels, missing = stretch(pixels, (height, width), missing, nearest)
    top, left = (height - rows) // 2, (width - columns) // 2
    inner = (slice(None), slice(top, top + rows), slice(left, left + columns))
    return np.ascontiguousarray(pixels[inner]), None if missing is None else missing[inner]


def stretch(
    pixels: np.ndarray, target: tuple[int, int], missing: np.ndarray | None, nearest: Sequence[bool] = ()
) -> tuple[np.ndarray, np.ndarray | None]:
    """Bring an image to a height and width without cropping it; see ``resize_valid``."""
    if target == pixels.shape[1:]:
        return pixels, missing
    resized, valid = resample(pixels, target), None
    if missing is not None:
        weight = resample(~missing, target)
        resized = resized.clip(pixels.min(), pixels.max())  # rounding may not take the largest numbers to infinity
        mixed = (weight > 0) & (resample(missing, target) > 0)
        np.divide(resample(np.where(missing, 0, pixels), target), weight, out=resized, where=mixed)
        valid = weight > 0
    for plane in np.flatnonzero(nearest):
        resized[plane] = resample(pixels[[plane]], target, nearest=True)[0]
        if valid is not None and missing is not None:
            valid[plane] = resample(~missing[[plane]], target, nearest=True)[0] > 0
    if pixels.dtype != np.float32:
        limits = np.iinfo(pixels.dtype)
        resized = np.clip(np.rint(resized), limits.min, limits.max).astype(pixels.dtype)
    return resized, None if valid is None else ~valid


def resample(values: np.ndarray, size: tuple[int, int], *, nearest: bool = False) -> np.ndarray:
    """(C, H, W) values of another height and width, float32."""
    import torch  # here, since errors in settings and paths come without it
    import torch.nn.functional as F

    image = torch.from_numpy(values.astype(np.float32))[None]
    if nearest:
        return np.asarray(F.interpolate(image, size=size, mode="nearest-exact")[0])
    resized = F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
    return np.asarray(resized)
