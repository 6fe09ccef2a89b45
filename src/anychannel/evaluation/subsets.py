"""Which channel subsets to evaluate: all of them, or a sample of each size if there are too many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, Subset

MOST_SIZES = 15
"""Beyond 16 channels this many subset sizes are sampled, evenly spaced."""

SEED = 0


def choose_subsets(
    channels: ChannelSet, names: str | Sequence[str] | None = None, *, limit: int = 64, per_size: int = 8
) -> tuple[list[Subset], bool, str]:
    """Choose the subsets to evaluate.

    These are the named ones; or all 2^C - 1 if they are at most ``limit``; or the full set, every single channel (up
    to 16 channels), and ``per_size`` subsets of each smaller size, drawn without replacement (all subsets of a size
    that has no more). Beyond 16 channels, 15 evenly spaced sizes from 1 to C-1 stand for all sizes, and single
    channels are drawn like any other size. The number of subsets is thus bounded (129 with the defaults). A smaller
    ``per_size`` draws part of what a larger one draws.

    Returns the subsets (named ones in the order given, without repeats; otherwise largest first), whether they are a
    sample, and a sentence that describes the sample (empty without one).
    """
    if names is not None:
        given = [names] if isinstance(names, str) else list(names)
        if not given:
            raise ChannelError(
                f"no subset is named; give some, such as {channels.key(channels.full)!r}, or leave them out for all"
            )
        return list(dict.fromkeys(channels.subset(name) for name in given)), False, ""
    count = len(channels)
    if channels.count_subsets() <= limit:
        return channels.subsets(), False, ""
    sizes = sorted({round(size) for size in np.linspace(1, count - 1, min(count - 1, MOST_SIZES))}, reverse=True)
    chosen = [channels.full]
    for size in sizes:
        every = size == 1 and count <= MOST_SIZES + 1
        chosen += draw(count, size, count if every else per_size)
    which = "each size" if len(sizes) == count - 1 else f"the sizes {', '.join(map(str, reversed(sizes)))}"
    note = (
        f"{count} channels have {channels.count_subsets():,} subsets, too many to evaluate; these {len(chosen)} are "
        f"the full set{', every single channel' if count <= MOST_SIZES + 1 else ''} and at most {per_size} of "
        f"{which}, drawn at random (seed {SEED})."
    )
    return chosen, True, note


def draw(count: int, size: int, wanted: int) -> list[Subset]:
    """Up to ``wanted`` different subsets of ``size`` out of ``count`` channels; sizes are drawn independently."""
    if comb(count, size) <= wanted:
        return list(combinations(range(count), size))
    generator = np.random.default_rng([SEED, size])
    drawn: dict[Subset, None] = {}
    while len(drawn) < wanted:
        drawn[tuple(sorted(generator.choice(count, size, replace=False).tolist()))] = None
    return list(drawn)
