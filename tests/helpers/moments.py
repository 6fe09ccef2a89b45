"""Statistics of images in memory, for the tests."""

from __future__ import annotations

import numpy as np

from anychannel.data.prepare.statistics import RunningMoments, Statistics


def measure(images: np.ndarray, present: np.ndarray | None = None) -> Statistics:
    """Statistics of images (N, C, H, W), of which each has the channels that ``present`` (N, C) says."""
    moments = RunningMoments(images.shape[1:])
    for row, image in enumerate(images):
        held = np.arange(len(image)) if present is None else np.flatnonzero(present[row])
        moments.add(image[held], tuple(held.tolist()))
    return moments.statistics()
