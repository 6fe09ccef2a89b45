"""The order in which an epoch visits the images of shards: lanes, so that it does not depend on who reads them.

A batch's image number p comes from lane p mod L. Of W processes, process i takes the images i, i + W, ... of each
batch, so where W divides L it needs the lanes i, i + W, ... and no others: processes share the shards, and what they
train on together is what one process alone would. (Fixing the order by a number of readers that is not the number of
processes is the idea of MosaicML's StreamingDataset.)

Where it is known how many images each shard holds, an epoch visits each image once: the shards, in an order of the
epoch's own, make one long row of images, which is cut into one stretch a lane. Otherwise lane l reads the shards l,
l + L, ... of that order until the epoch is over, and begins again, in another order, where they give out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
LANES = 8
"""Lanes where nobody says how many: shards that one program reads side by side."""


class Stretch(NamedTuple):
    """Images ``start`` to ``stop`` (not included) of a shard, or, with ``stop`` None, all that there are."""

    shard: int
    start: int = 0
    stop: int | None = None


def count_lanes(lanes: int | None, shards: int, processes: int) -> int:
    """How many lanes there are: those asked for, else about ``LANES`` and not more than there are shards.

    The number is a multiple of the processes that train together. Raises ValueError if ``lanes`` is not.
    """
    if lanes is None:
        wanted = min(-(-LANES // processes) * processes, shards)
        return max(wanted // processes, 1) * processes
    if lanes < 1 or lanes % processes:
        raise ValueError(f"lanes={lanes} cannot be shared by {processes} processes; give a multiple of their number")
    return lanes


def check_lanes(lanes: int, shards: int) -> None:
    """Refuse endless lanes of which some have no shard. Raises ValueError if there are fewer shards than lanes."""
    if shards < lanes:
        raise ValueError(
            f"{lanes} lanes need as many shards, got {shards}; give lanes={shards} or fewer, a multiple of the number "
            "of processes, or leave epoch_images out, so that shards are counted and shared"
        )


def shard_order(seed: int, epoch: int, shards: int, round_: int = 0) -> list[int]:
    """The shards of an epoch, in an order of its own; ``round_`` counts how often they have been gone through."""
    order: list[int] = np.random.default_rng([seed, 1, epoch, round_]).permutation(shards).tolist()
    return order


def cut_row(counts: Sequence[int], order: Sequence[int], lengths: Sequence[int]) -> list[list[Stretch]]:
    """Cut the row of all images into consecutive pieces of the given lengths; say where each piece's images lie.

    ``counts`` holds the images of each shard, ``order`` the shards in the row's order.
    """
    ends = np.cumsum([counts[shard] for shard in order])
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    pieces = []
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        piece = []
        place = int(np.searchsorted(ends, first, side="right"))
        while first < last:
            shard, end = order[place], int(ends[place])
            begin = end - counts[shard]
            stop = min(last, end)
            if stop > first:
                piece.append(Stretch(shard, first - begin, stop - begin))
            first, place = stop, place + 1
        pieces.append(piece)
    return pieces


def endless(seed: int, epoch: int, shards: int, lane: int, lanes: int) -> Iterator[Stretch]:
    """A lane's whole shards, round after round; see ``check_lanes``."""
    for round_ in count():
        for shard in shard_order(seed, epoch, shards, round_)[lane::lanes]:
            yield Stretch(shard)


def shuffled(items: Iterator[T], size: int, rng: np.random.Generator) -> Iterator[T]:
    """The items in a random order, of which ``size`` are held at a time; 0 and 1 leave the order alone."""
    if size <= 1:
        yield from items
        return
    held: list[T] = []
    for item in items:
        if len(held) < size:
            held.append(item)
            continue
        place = int(rng.integers(size))
        chosen, held[place] = held[place], item
        yield chosen
    for place in rng.permutation(len(held)).tolist():
        yield held[place]
