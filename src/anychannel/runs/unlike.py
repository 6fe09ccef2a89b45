"""What sets an image apart from a run's training images: another number type, or values far off theirs.

A wrong depth or order of channels shows in no shape, only in a bad result. What can be seen of it is said in words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.utils.plurals import plural

FAR = 3.0
"""A channel whose mean lies this many training standard deviations off the training mean is remarked upon."""


def remark_on_type(dtype: np.dtype[Any], record: Mapping[str, Any]) -> list[str]:
    """A sentence if an image's number type is not the training images'.

    Args:
        dtype: of its pixels.
        record: the run's ``run.json``; nothing is said where it does not tell the type.
    """
    trained = record.get("image_type", dtype.name)
    if dtype.name == trained:
        return []
    return [f"It holds {dtype.name} values, the training images held {trained}: do equal numbers mean the same?"]


def find_far(pixels: np.ndarray, channels: Sequence[str], known: ChannelSet) -> dict[str, str]:
    """Channels whose mean lies far off the training images', with what it is and was.

    Args:
        pixels: (k, H, W).
        channels: names of the k channels.
        known: the network's channels, with their statistics.
    """
    far = {}
    for plane, name, position in zip(pixels, channels, known.positions(channels), strict=True):
        average, mean, std = float(plane.mean(dtype=np.float64)), known.mean[position], known.std[position]
        if abs(average - mean) > FAR * std:
            far[name] = f"{name} averages {plain(average)} here, but {plain(mean)} ± {plain(std)} in training"
    return far


def remark_on_values(far: Collection[str]) -> list[str]:
    """One sentence about what ``find_far`` found."""
    if not far:
        return []
    first, more = next(iter(far)), len(far) - 1
    others = f", and {plural(more, 'more channel')} likewise" if more else ""
    return [f"{first}{others}: is this the same sensor, depth and order of channels?"]


def plain(value: float) -> str:
    """Four digits, or a whole number with separators."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
