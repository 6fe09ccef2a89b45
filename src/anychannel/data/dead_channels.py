"""Find channels of an image that are dead or saturated, so that the image may do better without them.

A channel is noticed if it is constant or far from what it looked like in training, and others of the image are not. If
all of them are, the image is of another kind (``anychannel.data.appearance``), and there is nothing to leave out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.appearance import LEAST, Familiar, describe_appearance, familiar

FAR = 3.0
"""A channel is far off if its mean is this many training standard deviations from the training mean."""
CLIPPED = 0.5
"""A channel counts as saturated if at least this share of its pixels has its largest or its smallest value."""
SPREAD = 2
"""Where ``describe_appearance`` has the logarithm of 1 plus a channel's standard deviation."""


class DeadChannels:
    """Compares channels of images with those of the training images.

    Args:
        channels: the network's, with their statistics.
        sample: of ``sample_appearance``; None, or fewer than ``LEAST`` images with a channel, compares its mean alone.
    """

    def __init__(self, channels: ChannelSet, sample: np.ndarray | None = None) -> None:
        self.channels = channels
        self.sample = sample
        self._known = lru_cache(maxsize=None)(self._find_known)

    def find(
        self, pixels: np.ndarray, positions: Sequence[int], figures: np.ndarray | None = None
    ) -> list[dict[str, str]]:
        """The dead channels of images of one subset: what each looks like, by its name.

        Args:
            pixels: (n, k, H, W) in the files' units.
            positions: the k channels' positions in ``channels``.
            figures: ``describe_appearance`` of the images, if known.
        """
        if pixels.shape[1] < 2 or pixels[0, 0].size < 2:
            return [{} for _ in pixels]
        with np.errstate(over="ignore", invalid="ignore"):  # of float32's largest values
            if self.sample is not None and figures is None:
                figures = describe_appearance(pixels)
            judged = [self._judge(pixels[:, i], i, place, figures) for i, place in enumerate(positions)]
        noticed = np.stack(judged, axis=1)
        noticed &= ~noticed.all(axis=1, keepdims=True)
        names = [self.channels.names[place] for place in positions]
        return [
            {names[i]: describe_values(planes[i]) for i in np.flatnonzero(row).tolist()}
            for planes, row in zip(pixels, noticed, strict=True)
        ]

    def _judge(self, planes: np.ndarray, column: int, position: int, figures: np.ndarray | None) -> np.ndarray:
        """Which of the planes (n, H, W) of one channel are dead: (n,) booleans."""
        constant: np.ndarray = planes.max(axis=(1, 2)) == planes.min(axis=(1, 2))
        varies, known = self._known(position)
        if known is None or figures is None:
            mean, std = self.channels.mean[position], self.channels.std[position]
            average = planes.mean(axis=(1, 2), dtype=np.float64)
            odd: np.ndarray = np.abs(average - mean) > FAR * std
            return constant | odd if self.channels.measured else constant
        far: np.ndarray = ~(known.distance(figures[:, [column]]) <= known.limit)  # NaN is far
        return far | (constant & varies)

    def _find_known(self, position: int) -> tuple[bool, Familiar | None]:
        """Whether a channel varies in each image of the sample, and what it looks like there."""
        if self.sample is None:
            return False, None
        spreads = self.sample[:, position, SPREAD]
        spreads = spreads[np.isfinite(spreads)]
        return len(spreads) >= LEAST and bool(spreads.min() > 0), familiar(self.sample, (position,))


def describe_values(plane: np.ndarray) -> str:
    """What is wrong with a dead channel (H, W), as the end of a sentence that begins with its name."""
    least, most = plane.min().item(), plane.max().item()
    if least == most:
        return f"is {most:.4g} throughout"
    for value in (most, least):
        share = float((plane == value).mean())
        if share >= CLIPPED:
            return f"is {value:.4g} in {100 * share:.0f} % of its pixels"
    return "looks as in no training image"


def remarks(dead: Mapping[str, str], used: Sequence[str]) -> list[str]:
    """A sentence for each dead channel; ``used`` are the channels that the network got."""
    return [
        f"{name} {text}: it may be dead or saturated"
        + (", and the answer may be better without it." if name in used else ", so it was left out.")
        for name, text in dead.items()
    ]
