"""Mean, standard deviation and correlation of the channels over a split's pixels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet

BLOCK_VALUES = 2**22
"""Values taken into memory at a time: 32 MB as float64."""


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation and correlation (C, C) over the valid pixels of all images, in the images' own units.

    Moments are those of a population, not of a sample. ``std`` is 0 where a channel is constant; the correlation with
    such a channel is 0. ``apart`` lists pairs of channels that no pixel has together, whose correlation is taken as 0.
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
    """Of C channels, for each pair (i, j) over the pixels in which both are valid: four (C, C) arrays of float64.

    Args:
        count: number of pixels.
        mean: of channel i.
        scatter: sum of the squared differences of channel i from its mean.
        product: sum of the products of both channels' differences.
    """

    count: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray
    product: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, valid: np.ndarray) -> Moments:
        """Of pixels (C, n) as float64, of which only those count where ``valid`` (C, n) is True."""
        weights = valid.astype(np.float64)
        count = weights @ weights.T
        some = np.maximum(count, 1)
        centre = (np.where(valid, values, 0).sum(axis=1) / np.diag(some))[:, None]
        values = np.where(valid, values - centre, 0)
        shift = values @ weights.T / some
        scatter = values**2 @ weights.T - count * shift**2
        return cls(count, centre + shift, scatter.clip(min=0), values @ values.T - count * shift * shift.T)

    def __add__(self, other: Moments) -> Moments:
        """Both together: Chan, Golub and LeVeque's update (1979)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        difference = other.mean - self.mean
        scatter, product = (self.count * share * difference * each for each in (difference, difference.T))
        return Moments(
            count,
            self.mean + share * difference,
            self.scatter + other.scatter + scatter,
            self.product + other.product + product,
        )

    def statistics(self) -> Statistics:
        """See ``RunningMoments``."""
        both = np.sqrt(self.scatter) * np.sqrt(self.scatter.T)
        correlation = np.divide(self.product, both, out=np.zeros_like(both), where=both > 0).clip(-1, 1)
        np.fill_diagonal(correlation, 1.0)
        std = np.sqrt(np.diag(self.scatter / np.maximum(self.count, 1)))
        if (self.count != self.count[0, 0]).any():
            correlation = nearest_correlation(correlation)
        apart = tuple((i, j) for i, j in np.argwhere(np.triu(self.count == 0)).tolist())
        rows = tuple(map(tuple, correlation.tolist()))
        return Statistics(tuple(np.diag(self.mean).tolist()), tuple(std.tolist()), rows, apart)


class RunningMoments:
    """Statistics of images of shape (C, H, W) that arrive one by one, in blocks that are summed in float64.

    Pixels without data and channels that an image lacks do not count. A channel's mean and standard deviation are those
    over its valid pixels. The correlation of two channels is that over the pixels in which both are valid, with these
    pixels' own means and deviations. As pairs then rest on different pixels, a matrix that is not positive
    semi-definite is replaced by the nearest that is. Blocks are centred before they are summed and merged, so that
    16-bit values far from zero lose no precision.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.step = max(1, BLOCK_VALUES // int(np.prod(shape)))
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.found: Moments | None = None

    def add(self, planes: np.ndarray, valid: np.ndarray) -> None:
        """Count an image (C, H, W) in; ``valid`` is (C, H, W), or (C, 1, 1) for whole planes."""
        self.waiting.append((planes, valid))
        if len(self.waiting) == self.step:
            self.close_block()

    def close_block(self) -> None:
        """Turn the images that wait into moments."""
        if not self.waiting:
            return
        values = np.stack([planes for planes, _ in self.waiting], axis=1).astype(np.float64)  # (C, n, H, W)
        valid = np.stack([np.broadcast_to(valid, planes.shape) for planes, valid in self.waiting], axis=1)
        self.waiting = []
        here = Moments.of(values.reshape(len(values), -1), valid.reshape(len(valid), -1))
        self.found = here if self.found is None else self.found + here

    def statistics(self) -> Statistics:
        """Of all images so far, of which there has to be one."""
        self.close_block()
        assert self.found is not None
        return self.found.statistics()


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
