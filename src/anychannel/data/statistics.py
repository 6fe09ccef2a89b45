"""Mean, standard deviation and correlation of the channels over a split's pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anychannel.channels import ChannelSet

BLOCK_VALUES = 2**22
"""Values taken into memory at a time: 32 MB as float64."""


@dataclass(frozen=True)
class Statistics:
    """Over all pixels of all images, in the images' own units; population (not sample) moments.

    Args:
        mean: one value a channel.
        std: one value a channel, 0 where it is constant.
        correlation: (C, C); 0 between a constant channel and any other.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]


def measure(images: np.ndarray) -> Statistics:
    """Statistics of (N, C, H, W) images, read in blocks and summed in float64.

    Blocks are centred before they are summed and merged by Chan, Golub and LeVeque's update (1979), so that 16-bit
    values far from zero lose no precision.
    """
    channels = images.shape[1]
    step = max(1, BLOCK_VALUES // int(np.prod(images.shape[1:])))
    count, mean, scatter = 0, np.zeros(channels), np.zeros((channels, channels))
    for start in range(0, len(images), step):
        values = np.moveaxis(np.asarray(images[start : start + step]), 1, 0).reshape(channels, -1).astype(np.float64)
        size = values.shape[1]
        block_mean = values.mean(axis=1)
        values -= block_mean[:, None]
        difference = block_mean - mean
        total = count + size
        scatter += values @ values.T + np.outer(difference, difference) * (count * size / total)
        mean += difference * (size / total)
        count = total
    covariance = scatter / max(count, 1)
    std = np.sqrt(np.diag(covariance))
    scale = np.where(std > 0, std, 1.0)
    correlation = np.clip(covariance / np.outer(scale, scale), -1, 1)
    np.fill_diagonal(correlation, 1.0)
    return Statistics(tuple(mean.tolist()), tuple(std.tolist()), tuple(tuple(row) for row in correlation.tolist()))


def with_statistics(channels: ChannelSet, statistics: Statistics) -> ChannelSet:
    """Give a channel set its statistics; a constant channel gets standard deviation 1.

    Warns:
        UserWarning: names the channels that are constant over the training split.
    """
    dead = constant_channels(channels.names, statistics.std)
    if dead:
        warnings.warn(
            f"channel {', '.join(map(repr, dead))} has the same value in every training pixel and can tell a model "
            "nothing; its standard deviation is taken as 1",
            UserWarning,
            stacklevel=4,
        )
    std = [value if name not in dead else 1.0 for name, value in zip(channels.names, statistics.std, strict=True)]
    return channels.with_statistics(statistics.mean, std, statistics.correlation)


def constant_channels(names: Sequence[str], std: Sequence[float]) -> list[str]:
    """Names of the channels that do not vary."""
    return [name for name, value in zip(names, std, strict=True) if value == 0]
