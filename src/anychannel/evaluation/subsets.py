"""Which channel subsets to evaluate: all of them, or a sample of each size if there are too many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.results.shapley import MOST_PLAYERS, SEED, draw_orders
from anychannel.utils.names import unknown_name

MOST_SIZES = 15
"""Beyond 64 channels this many subset sizes are sampled, evenly spaced."""
MOST_SINGLE = 16
"""Beyond so many channels, single ones are drawn like any other size."""
KINDS = ("groups", "channels")


def choose_subsets(
    channels: ChannelSet,
    names: str | Sequence[str] | None = None,
    *,
    by: str | None = None,
    limit: int = 64,
    per_size: int = 8,
) -> tuple[list[Subset], bool, str]:
    """Choose the subsets to evaluate.

    These are the named ones; or all 2^C - 1 if they are at most ``limit``; or the full set, every single channel and
    every subset that lacks one (up to 16 channels), and the first 1, 2, ... channels of up to ``per_size`` random
    orders. These give the channels' Shapley values (``anychannel.results.shapley``). There are 8 orders up to 16
    channels, and fewer for more, so that the number of subsets is bounded (137 with the defaults). Beyond 64 channels,
    the beginnings have 15 evenly spaced sizes. A smaller ``per_size`` draws part of what a larger one draws. With 1,
    which is for costs, the subsets that lack one channel are left out, and sizes are spaced beyond 16 channels.

    If the channels have groups, all of this holds for groups in place of channels. ``by="channels"`` takes subsets of
    single channels as well.

    Returns the subsets (named ones in the order given, without repeats; otherwise largest first), whether they are a
    sample, and a sentence that describes the sample (empty without one).
    """
    if by is not None and by not in KINDS:
        raise ValueError(unknown_name("by", by, KINDS))
    if by == "groups" and not channels.grouped:
        raise ChannelError(f"there are no groups among the channels {', '.join(channels.names)}; leave out by='groups'")
    if names is not None:
        given = [names] if isinstance(names, str) else list(names)
        if not given:
            raise ChannelError(
                f"no subset is named; give some, such as {channels.key(channels.full)!r}, or leave them out for all"
            )
        return list(dict.fromkeys(channels.subset(name) for name in given)), False, ""
    if by != "channels" or not channels.grouped:
        return sample(list(channels.units.values()), "groups" if channels.grouped else "channels", limit, per_size)
    whole, _, of_groups = sample(list(channels.units.values()), "groups", limit, per_size)
    every, sampled, note = sample([(position,) for position in channels.full], "channels", limit, per_size)
    both = sorted(dict.fromkeys([*whole, *every]), key=len, reverse=True)
    return both, sampled, " ".join(filter(None, [note, of_groups, "Subsets of groups are added." if sampled else ""]))


def sample(units: Sequence[Subset], what: str, limit: int, per_size: int) -> tuple[list[Subset], bool, str]:
    """``choose_subsets`` for units, each of which has some channels; ``what`` calls them channels or groups."""
    count, full = len(units), tuple(range(len(units)))
    if 2**count - 1 <= limit:
        chosen = ChannelSet(tuple(map(str, full))).subsets()
        return [ChannelSet.join(units[i] for i in places) for places in chosen], False, ""
    orders = draw_orders(count)[:per_size]
    sizes: Sequence[int] = range(1, count)
    if count > (MOST_PLAYERS if per_size > 1 else MOST_SINGLE):
        sizes = sorted({round(size) for size in np.linspace(1, count - 1, MOST_SIZES)})
    found = [full]
    if count <= MOST_SINGLE:
        found += [(i,) for i in full]
        found += [tuple(other for other in full if other != i) for i in full if per_size > 1]
    drawn = [tuple(sorted(order[:size])) for order in orders for size in sizes]
    places = sorted(dict.fromkeys([*found, *drawn]), key=len, reverse=True)
    every = f", every single one{', every set that lacks one' if per_size > 1 else ''}" if count <= MOST_SINGLE else ""
    which = "1, 2, ..." if len(sizes) == count - 1 else ", ".join(map(str, sizes))
    note = (
        f"{count} {what} have {2**count - 1:,} subsets, too many to evaluate; these {len(places)} are the full set"
        f"{every} and the first {which} {what} of {len(orders)} random orders (seed {SEED})."
    )
    return [ChannelSet.join(units[i] for i in chosen) for chosen in places], True, note
