"""Which channel subsets to evaluate: all of them where that is possible, else a sample of each size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, Subset

MOST_SIZES = 15
"""Beyond 16 channels so many subset sizes are sampled, evenly spaced."""


def choose_subsets(
    channels: ChannelSet,
    names: str | Sequence[str] | None = None,
    *,
    limit: int = 64,
    per_size: int = 8,
    seed: int = 0,
) -> tuple[list[Subset], bool, str]:
    """Subsets to evaluate.

    Those named; else all 2^C - 1 where they are at most ``limit``; else the full set, every single channel (up to 16
    channels), and ``per_size`` subsets of each smaller size, drawn without replacement (all where a size has no more).
    Beyond 16 channels, 15 sizes from 1 to C-1, evenly spaced, stand for all and single channels are drawn like any
    other size. So the number of subsets stays bounded (129 with the defaults), however many channels there are.

    Args:
        channels: the full set.
        names: subsets as ``"R,G"``; None chooses.
        limit: up to how many subsets all are listed.
        per_size: subsets drawn of each size.
        seed: of the draw. Sizes are drawn independently, and what a smaller ``per_size`` draws is part of what a
            larger one draws.

    Returns:
        The subsets (those named in the order given, without repeats; otherwise largest first), whether they are a
        sample, and a sentence that says so (empty where they are not).

    Raises:
        ChannelError: ``names`` is empty, or a channel is unknown or repeats within a subset.
    """
    if names is not None:
        given = [names] if isinstance(names, str) else list(names)
        if not given:
            raise ChannelError(
                f"no subset is named; give some, such as {channels.key(channels.full)!r}, or leave them out for all"
            )
        return list(dict.fromkeys(channels.subset(name) for name in given)), False, ""
    if limit < 1 or per_size < 1:
        raise ValueError(f"limit and per_size must be at least 1, got {limit} and {per_size}")
    count = len(channels)
    if channels.count_subsets() <= limit:
        return channels.subsets(), False, ""
    sizes = sorted({round(size) for size in np.linspace(1, count - 1, min(count - 1, MOST_SIZES))}, reverse=True)
    chosen = [channels.full]
    for size in sizes:
        every = size == 1 and count <= MOST_SIZES + 1
        chosen += draw(count, size, count if every else per_size, seed)
    which = "each size" if len(sizes) == count - 1 else f"the sizes {', '.join(map(str, reversed(sizes)))}"
    note = (
        f"{count} channels have {channels.count_subsets():,} subsets, too many to evaluate; these {len(chosen)} are "
        f"the full set{', every single channel' if count <= MOST_SIZES + 1 else ''} and at most {per_size} of "
        f"{which}, drawn at random (seed {seed})."
    )
    return chosen, True, note


def draw(count: int, size: int, wanted: int, seed: int) -> list[Subset]:
    """Up to ``wanted`` different subsets of ``size`` out of ``count`` channels."""
    if comb(count, size) <= wanted:
        return list(combinations(range(count), size))
    generator = np.random.default_rng([seed, size])
    drawn: dict[Subset, None] = {}
    while len(drawn) < wanted:
        drawn[tuple(sorted(generator.choice(count, size, replace=False).tolist()))] = None
    return list(drawn)
