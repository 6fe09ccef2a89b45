"""Mean, standard deviation and correlation of the channels over a split's pixels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet, Subset

BLOCK_VALUES = 2**22
"""Values taken into memory at a time: 32 MB as float64."""


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation and correlation (C, C) over all pixels of all images, in the images' own units.

    Moments are those of a population, not of a sample. ``std`` is 0 where a channel is constant; the correlation with
    such a channel is 0. ``apart`` lists pairs of channels that no image has together, whose correlation is taken as 0.
    The correlation is positive semi-definite.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    apart: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Statistics:
        """From plain values, also from JSON."""
        correlation, apart = (tuple(map(tuple, values[name])) for name in ("correlation", "apart"))
        return cls(tuple(values["mean"]), tuple(values["std"]), correlation, apart)


@dataclass(frozen=True)
class Moments:
    """Of k channels over some images: number of pixels, mean (k,), scatter (k, k): sums of products of differences."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray


def combine(found: Mapping[Subset, Moments], channels: int) -> Statistics:
    """Statistics of ``channels`` channels from the moments of images that have the same of them."""
    covariance, correlation = np.zeros((channels, channels)), np.eye(channels)
    mean, apart = np.zeros(channels), []
    for i in range(channels):
        for j in range(i, channels):
            pieces = [pick(moments, pattern, (i, j)) for pattern, moments in found.items() if {i, j} <= set(pattern)]
            if not pieces:
                apart.append((i, j))
                continue
            pair = merge(pieces)
            if i == j:
                mean[i], covariance[i, i] = pair.mean[0], pair.scatter[0, 0] / max(pair.count, 1)
            elif pair.scatter[0, 0] > 0 and pair.scatter[1, 1] > 0:
                both = np.sqrt(pair.scatter[0, 0]) * np.sqrt(pair.scatter[1, 1])
                correlation[i, j] = correlation[j, i] = np.clip(pair.scatter[0, 1] / both, -1, 1)
    if len(found) > 1:
        correlation = nearest_correlation(correlation)
    std = np.sqrt(np.diag(covariance))
    rows = tuple(tuple(row) for row in correlation.tolist())
    return Statistics(tuple(mean.tolist()), tuple(std.tolist()), rows, tuple(apart))


class RunningMoments:
    """Statistics of images of shape (C, H, W) that arrive one by one, in blocks that are summed in float64.

    A channel's mean and standard deviation are those over the images that have it. The correlation of two channels is
    that over the images that have both, with these images' own means and deviations. As pairs then rest on different
    images, a matrix that is not positive semi-definite is replaced by the nearest that is. Blocks are centred before
    they are summed and merged, so that 16-bit values far from zero lose no precision.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.channels = shape[0]
        self.step = max(1, BLOCK_VALUES // int(np.prod(shape)))
        self.waiting: dict[Subset, list[np.ndarray]] = {}
        self.found: dict[Subset, Moments] = {}

    def add(self, planes: np.ndarray, pattern: Subset) -> None:
        """Count an image in: (k, H, W), its planes of the k channels of ``pattern``."""
        block = self.waiting.setdefault(pattern, [])
        block.append(planes)
        if len(block) == self.step:
            self.close_block(pattern)

    def close_block(self, pattern: Subset) -> None:
        """Turn the images that wait into moments."""
        block = np.stack(self.waiting.pop(pattern), axis=1)  # (k, n, H, W)
        values = block.reshape(len(pattern), -1).astype(np.float64)
        mean = values.mean(axis=1)
        values -= mean[:, None]
        before = [self.found[pattern]] if pattern in self.found else []
        self.found[pattern] = merge([*before, Moments(values.shape[1], mean, values @ values.T)])

    def statistics(self) -> Statistics:
        """Of all images so far, of which there has to be one."""
        for pattern in list(self.waiting):
            self.close_block(pattern)
        order = sorted(self.found, key=lambda pattern: (-len(pattern), pattern))  # sums in a fixed order
        return combine({pattern: self.found[pattern] for pattern in order}, self.channels)


def pick(moments: Moments, pattern: Subset, pair: tuple[int, int]) -> Moments:
    """Moments of two of a pattern's channels."""
    places = [pattern.index(channel) for channel in pair]
    return Moments(moments.count, moments.mean[places], moments.scatter[np.ix_(places, places)])


def merge(pieces: Sequence[Moments]) -> Moments:
    """Moments over all pieces together, one after the other: Chan, Golub and LeVeque's update (1979)."""
    total = pieces[0]
    for piece in pieces[1:]:
        count = total.count + piece.count
        difference = piece.mean - total.mean
        between = np.outer(difference, difference) * (total.count * piece.count / max(count, 1))
        mean = total.mean + difference * (piece.count / max(count, 1))
        total = Moments(count, mean, total.scatter + piece.scatter + between)
    return total


def nearest_correlation(matrix: np.ndarray, *, tolerance: float = 1e-10, most_steps: int = 1000) -> np.ndarray:
    """The positive semi-definite matrix with unit diagonal that is nearest in the Frobenius norm.

    Alternating projections with Dykstra's correction: Higham, "Computing the nearest correlation matrix - a problem
    from finance", IMA Journal of Numerical Analysis 22, 2002, algorithm 3.3. It stops when no entry changes by more
    than the tolerance; eigenvalues may be negative by about as much. A matrix that fits already comes back as it is.
    """
    if np.linalg.eigvalsh(matrix)[0] >= -tolerance:
        return matrix
    result, correction = matrix, np.zeros_like(matrix)
    for _ in range(most_steps):
        shifted = result - correction
        values, vectors = np.linalg.eigh(shifted)
        projected = (vectors * values.clip(min=0)) @ vectors.T
        correction = projected - shifted
        before, result = result, (projected + projected.T) / 2
        np.fill_diagonal(result, 1.0)
        if np.abs(result - before).max() < tolerance:
            break
    return result


def with_statistics(channels: ChannelSet, statistics: Statistics) -> ChannelSet:
    """Give a channel set its statistics; a constant channel gets standard deviation 1.

    Warns of channels that are constant over the training split, and of pairs that no measured training image has
    together.
    """
    dead = [name for name, value in zip(channels.names, statistics.std, strict=True) if value == 0]
    if dead:
        warnings.warn(
            f"channel {', '.join(map(repr, dead))} has the same value in every training pixel and can tell a model "
            "nothing; its standard deviation is taken as 1",
            stacklevel=6,
        )
    if statistics.apart:
        pairs = [" and ".join(repr(channels.names[i]) for i in pair) for pair in statistics.apart]
        more = f" ({len(pairs) - 3} more such pairs)" if len(pairs) > 3 else ""
        warnings.warn(
            f"no measured training image has {', '.join(pairs[:3])} together{more}; their correlation is not known and "
            "taken as 0, so that nothing is estimated of the one from the other; add images that have both if you can",
            stacklevel=6,
        )
    std = [value or 1.0 for value in statistics.std]
    return channels.with_statistics(statistics.mean, std, statistics.correlation)
