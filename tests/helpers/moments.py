"""Statistics of images in memory, for the tests."""

from __future__ import annotations

import numpy as np

from anychannel.data.prepare.statistics import RunningMoments, Statistics


def measure(images: np.ndarray, valid: np.ndarray | None = None) -> Statistics:
    """Statistics of images (N, C, H, W); ``valid`` says by image (N, C) or by pixel (N, C, H, W) what counts."""
    moments = RunningMoments(images.shape[1:])
    valid = np.ones(images.shape[:2], bool) if valid is None else valid
    for image, counts in zip(images, valid.reshape(*valid.shape, *(1,) * (4 - valid.ndim)), strict=True):
        moments.add(image, counts)
    return moments.statistics()
