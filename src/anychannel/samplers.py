"""Samplers: which subset of the channels each part of a training batch sees.

A sampler is a training policy and knows nothing of stems. It cuts a batch into parts, one subset a part, so that the
stem stays one convolution a part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Protocol

import torch

from anychannel.channels import Subset


@dataclass(frozen=True)
class Part:
    """The images ``start`` to ``stop`` (exclusive) of a batch, and the channels that they show."""

    subset: Subset
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Sampler(Protocol):
    """Called once a step."""

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        """Parts of one batch; an image may be in none, one or several of them.

        Args:
            batch_size: images in the batch.
            generator: the only source of randomness, so that a step can be repeated.
        """
        ...


def split_evenly(batch_size: int, parts: int) -> list[tuple[int, int]]:
    """Cut 0 .. batch_size into ``parts`` ranges whose lengths differ by one at most; empty ones are left out."""
    edges = [round(batch_size * i / parts) for i in range(parts + 1)]
    return [(a, b) for a, b in pairwise(edges) if b > a]


@dataclass(frozen=True)
class FullSampler:
    """Every image shows every channel: ordinary training."""

    num_channels: int

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:  # noqa: ARG002
        """One part."""
        return [Part(tuple(range(self.num_channels)), 0, batch_size)]


@dataclass(frozen=True)
class DropoutSampler:
    """Each channel is dropped independently; a draw that drops them all is drawn again (report, Task I, v4).

    Args:
        num_channels: number of channels of the full set.
        drop: probability that a channel is dropped, in [0, 1).
        parts: number of draws a batch; 1 gives the whole batch one subset.
    """

    num_channels: int
    drop: float = 0.2
    parts: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is a probability in [0, 1), got {self.drop}")
        if self.parts < 1:
            raise ValueError(f"parts must be at least 1, got {self.parts}")

    def __call__(self, batch_size: int, generator: torch.Generator) -> list[Part]:
        """One subset a part."""
        return [Part(self.draw(generator), start, stop) for start, stop in split_evenly(batch_size, self.parts)]

    def draw(self, generator: torch.Generator) -> Subset:
        """One non-empty subset."""
        while True:
            kept = torch.rand(self.num_channels, generator=generator) >= self.drop
            if kept.any():
                return tuple(torch.nonzero(kept).flatten().tolist())


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "full": FullSampler,
    "dropout": DropoutSampler,
}


def list_samplers() -> list[str]:
    """Names that ``fit(..., sampler=name)`` takes."""
    return list(SAMPLERS)


def create_sampler(name: str, num_channels: int, **options: Any) -> Sampler:
    """A sampler by name.

    Raises:
        ValueError: the name or an option is unknown or out of range; the message lists the valid names.
    """
    if name not in SAMPLERS:
        near = get_close_matches(name, SAMPLERS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown sampler {name!r}{hint}; the samplers are {', '.join(SAMPLERS)}")
    try:
        return SAMPLERS[name](num_channels, **options)
    except TypeError as error:
        raise ValueError(f"sampler {name!r} does not take these options: {error}") from error
