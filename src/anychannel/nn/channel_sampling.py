"""Channel sampling: which subset of the channels each part of a training batch has.

A sampler is a training policy and does not depend on the stem. It cuts a batch into parts with one subset each, so that
the stem is one convolution for each part. If channels have groups, every sampler draws groups in place of channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

import torch

from anychannel.channels import ChannelSet, Subset
from anychannel.utils.names import unknown_name
from anychannel.utils.options import coerce_option, registry_options


@dataclass(frozen=True)
class Part:
    """The images ``start`` to ``stop`` (exclusive) of a batch, and the channels that are kept of them."""

    subset: Subset
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Sampler(Protocol):
    """Cuts a batch into parts, once a step; an image may be in none, one or several of them."""

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        """Parts of one batch. The generator is the only source of randomness, so that a step can be repeated."""
        ...


def split_evenly(batch_size: int, parts: int) -> list[tuple[int, int]]:
    """Cut 0 .. batch_size into ``parts`` ranges whose lengths differ by one at most; without empty ones."""
    edges = [round(batch_size * i / parts) for i in range(parts + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


@dataclass(frozen=True)
class FullSampler:
    """Every image keeps every channel: ordinary training."""

    num_channels: int

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:  # noqa: ARG002
        return [Part(tuple(range(self.num_channels)), 0, batch_size)]


@dataclass(frozen=True)
class DropoutSampler:
    """Drops each of ``num_channels`` independently, and draws again if that drops all (report, Task I, v4).

    Args:
        drop: probability that a channel is dropped, in [0, 1).
        parts: number of draws a batch.
    """

    num_channels: int
    drop: float = 0.2
    parts: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is a probability in [0, 1), got {self.drop}")
        check_number("parts", self.parts)
        if self.drop == 0 and self.parts > 1:
            raise ValueError(f"parts={self.parts} has no effect: drop is 0, so that no channel is dropped")

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        return [Part(self.draw(generator), start, stop) for start, stop in split_evenly(batch_size, self.parts)]

    def draw(self, generator: torch.Generator) -> Subset:
        """One non-empty subset."""
        while True:
            kept = torch.rand(self.num_channels, generator=generator) >= self.drop
            if kept.any():
                return tuple(torch.nonzero(kept).flatten().tolist())


@dataclass(frozen=True)
class UniformSizeSampler:
    """Draws a size evenly from 1 to C, then a subset of that size evenly, ``parts`` times a batch.

    Bao, Sivanandan and Karaletsos, "Channel Vision Transformers: An Image Is Worth C x 16 x 16 Words", ICLR 2024,
    https://arxiv.org/abs/2309.16108, call it hierarchical channel sampling.
    """

    num_channels: int
    parts: int = 1

    def __post_init__(self) -> None:
        check_number("parts", self.parts)

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        return [
            Part(draw_subset(self.num_channels, draw_integer(1, self.num_channels, generator), generator), start, stop)
            for start, stop in split_evenly(batch_size, self.parts)
        ]


@dataclass(frozen=True)
class SandwichSampler:
    """Passes every image three times: with all channels, with one, and with a random subset of a size between.

    The rule of Yu and Huang, "Universally Slimmable Networks", ICCV 2019, https://arxiv.org/abs/1903.05134, with
    channels in place of widths. A step costs three passes of an image (two for two channels, one for one).
    """

    num_channels: int

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        count = self.num_channels
        subsets = [tuple(range(count))]
        if count > 1:
            subsets.append(draw_subset(count, 1, generator))
        if count > 2:
            subsets.append(draw_subset(count, draw_integer(2, count - 1, generator), generator))
        return [Part(subset, 0, batch_size) for subset in subsets]


@dataclass(frozen=True)
class SplitSampler:
    """Keeps all channels in a share of the batch, one channel in half of the rest, and sizes between in the other half.

    One channel more or less changes little if most channels are present, but each single channel has to be learned. So
    the sizes between come in ranges that about double (for eight channels 2-3 and 4-7). Each range gets two parts of
    the batch: one with a single channel, and one with a random subset of a size from the range. With three channels
    that is one pair and one single channel a step. A random choice of the parts, as many as get ``fewest`` images or
    more, shares the images that are not enough for all.

    Args:
        full: share of the batch that keeps all channels, in (0, 1]. None means one over the number of doublings: half
            for up to four channels, a third for up to eight, a quarter for up to sixteen.
        ranges: number of ranges, below the number of channels. None takes one for each doubling, of which the first is
            single channels; with fewer, the first holds more sizes and takes their place.
        fractions: the share of the batch for each size, from all channels down to one: C numbers that sum to 1. It
            replaces ``full`` and ``ranges``. A step has one subset of each size whose share comes to an image.
        fewest: images in a reduced part, if the batch has as many for it. Batch norms compute with the images of one
            part, and a few images give them noise; but with fewer parts, a step shows fewer subsets.
        paired: take the images of the reduced parts from the full part, so that the network can learn from its answer
            to all channels. A step then has fewer different images at the same number of passes.
    """

    num_channels: int
    full: float | None = None
    ranges: int | None = None
    fractions: Sequence[float] | None = None
    fewest: int = 1
    paired: bool = False

    def __post_init__(self) -> None:
        check_number("fewest", self.fewest)
        if self.fractions is not None:
            if self.full is not None or self.ranges is not None:
                raise ValueError("fractions say what each size gets; leave full and ranges out")
            count, shares = self.num_channels, list(self.fractions)
            if len(shares) != count or shares[0] == 0 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
                raise ValueError(
                    f"fractions needs {count} numbers that sum to 1, for {count} channels down to one, of which the "
                    f"first is positive; got {shares}"
                )
        if self.full is not None and not 0 < self.full <= 1:
            raise ValueError(f"full is the share of the batch that keeps all channels, in (0, 1], got {self.full}")
        if self.ranges is not None and not 1 <= self.ranges <= max(self.num_channels - 1, 1):
            raise ValueError(
                f"ranges must be between 1 and {max(self.num_channels - 1, 1)}, the number of sizes below all "
                f"{self.num_channels} channels, got {self.ranges}"
            )
        if self.full == 1 and (self.ranges is not None or self.paired):
            raise ValueError("ranges and paired have no effect: full is 1, so that no channel is dropped")

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        count = self.num_channels
        if count == 1:
            return [Part((0,), 0, batch_size)]
        if self.fractions is not None:
            return self.by_fractions(self.fractions, batch_size, generator)
        smallest, *larger = size_ranges(count, self.ranges or (count - 1).bit_length())
        sizes = [size for others in larger for size in (smallest, others)] or [smallest]
        full = 1 / max(1 + len(larger), 2) if self.full is None else self.full
        whole = max(round(full * batch_size), 1)
        result = [Part(tuple(range(count)), 0, whole)]
        pieces = split_evenly(batch_size - whole, min(len(sizes), max((batch_size - whole) // self.fewest, 1)))
        if len(pieces) < len(sizes):
            drawn = torch.randperm(len(sizes), generator=generator)[: len(pieces)].tolist()
            sizes = [sizes[place] for place in sorted(drawn)]
        for (start, stop), (low, high) in zip(pieces, sizes, strict=True):
            subset = draw_subset(count, draw_integer(low, high, generator), generator)
            result.append(Part(subset, *self.place(start, stop, whole)))
        return result

    def place(self, start: int, stop: int, whole: int) -> tuple[int, int]:
        """Where a reduced part lies in the batch: first image and last (exclusive), from its place among the reduced.

        The reduced parts follow the ``whole`` images of the full part or, if paired, lie among them, again from the
        first image if they do not fit one after the other.
        """
        if not self.paired:
            return whole + start, whole + stop
        length = min(stop - start, whole)
        first = min(start % whole, whole - length)
        return first, first + length

    def by_fractions(self, fractions: Sequence[float], batch_size: int, generator: torch.Generator) -> list[Part]:
        """A part for each size, all channels first."""
        edges = [round(batch_size * share) for share in itertools.accumulate(fractions, initial=0.0)]
        whole = max(edges[1], 1)
        edges = [max(edge, whole) for edge in edges[1:-1]] + [batch_size]
        result = [Part(tuple(range(self.num_channels)), 0, whole)]
        for size, (start, stop) in zip(range(self.num_channels - 1, 0, -1), itertools.pairwise(edges), strict=True):
            if stop > start:
                place = self.place(start - whole, stop - whole, whole)
                result.append(Part(draw_subset(self.num_channels, size, generator), *place))
        return result


@dataclass(frozen=True)
class GroupSampler:
    """Draws groups of channels: a sampler's numbers stand for the groups ``units``, whose channels the parts get.

    Args:
        units: positions of each group's channels.
        of_groups: the sampler of as many channels as there are groups.
        of_channels: the sampler of single channels.
        within: share of the steps, drawn at random, that leave out single channels instead of whole groups.
    """

    units: tuple[Subset, ...]
    of_groups: Sampler
    of_channels: Sampler
    within: float = 0.0

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        if self.within and float(torch.rand(1, generator=generator)) < self.within:
            return self.of_channels(batch_size, generator)
        return [
            Part(ChannelSet.join(self.units[i] for i in part.subset), part.start, part.stop)
            for part in self.of_groups(batch_size, generator)
        ]


def size_ranges(num_channels: int, number: int) -> list[tuple[int, int]]:
    """The sizes 1 .. C-1 in at most ``number`` ranges that widen by about the same factor; both ends are included."""
    number = min(number, num_channels - 1)
    edges = [1]
    for i in range(1, number + 1):
        wanted = math.ceil(round(num_channels ** (i / number), 6))
        edges.append(min(max(wanted, edges[-1] + 1), num_channels - number + i))
    return [(low, high - 1) for low, high in itertools.pairwise(edges)]


def draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def draw_subset(num_channels: int, size: int, generator: torch.Generator) -> Subset:
    """A subset of that size, each as likely as any other."""
    return tuple(sorted(torch.randperm(num_channels, generator=generator)[:size].tolist()))


def check_number(name: str, number: int) -> None:
    """Refuse a number below 1."""
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "full": FullSampler,
    "dropout": DropoutSampler,
    "uniform_size": UniformSizeSampler,
    "sandwich": SandwichSampler,
    "split": SplitSampler,
}


def list_samplers() -> list[str]:
    """Names that ``fit(..., sampler=name)`` takes."""
    return list(SAMPLERS)


def create_sampler(name: str, channels: ChannelSet | int, **options: Any) -> Sampler:
    """A sampler by name, for channels or a number of them without groups.

    ``within``, an option of every sampler for channels with groups, is that of ``GroupSampler``. Raises ValueError if
    the name or an option is unknown, of another type or out of range, or has no effect.
    """
    if name not in SAMPLERS:
        raise ValueError(unknown_name("sampler", name, SAMPLERS))
    given = dict(options)
    within = coerce_option("within", given.pop("within", 0.0), float)
    if isinstance(channels, ChannelSet) and channels.grouped:
        if not 0 <= within <= 1:
            raise ValueError(f"within is the share of steps that leave out single channels, in [0, 1], got {within}")
        if within and name == "full":
            raise ValueError("within has no effect: sampler 'full' leaves no channel out")
        units = tuple(channels.units.values())
        of_groups = create_sampler(name, len(units), **given)
        of_channels = create_sampler(name, len(channels), **given) if within else of_groups
        return GroupSampler(units, of_groups, of_channels, within)
    if within:
        raise ValueError("within has no effect: the channels have no groups; leave it out, or name groups (--group)")
    kind, num_channels = SAMPLERS[name], channels if isinstance(channels, int) else len(channels)
    checked = registry_options("sampler", name, kind, given, reserved=("num_channels",))
    usual = signature(kind).parameters
    if num_channels == 1 and any(value != usual[option].default for option, value in checked.items()):
        raise ValueError(f"{', '.join(checked)} have no effect: a single channel is never dropped")
    return kind(num_channels, **checked)
