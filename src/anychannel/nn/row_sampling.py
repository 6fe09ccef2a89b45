"""Which subset each row of a training batch shows: a sampler's parts, dealt to the rows and to the processes.

A sampler cuts the whole batch, that of all processes together, into parts. Here rows are assigned to the parts, each
process takes its own rows, and a row keeps the channels of its part that its image has or, if it has none of them, all
that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.channel_sampling import Part, Sampler, create_sampler
from anychannel.nn.module_utils import process_count
from anychannel.nn.subset_context import Shown

Groups = list[tuple[Subset, Tensor]]
"""Subsets, and the rows that show each."""


class ChannelSampling:
    """Draws which subset of the channels each row of a training batch shows, as a function of a seed and a step.

    The rows are assigned to a sampler's parts at random, and keep their places. Each of several processes takes every
    ``count``-th row of the whole batch, as ``DistributedSampler`` deals images, so that all show the same subsets.

    Args:
        sampler: a name from ``list_samplers()``, or a ``Sampler``.
        num_channels: number of channels of the full set.
        options: keyword options of a sampler by name.

    Raises:
        ValueError: a name or option is unknown, or the sampler does not show each row exactly once.
    """

    def __init__(self, sampler: str | Sampler, num_channels: int, options: Mapping[str, Any] | None = None) -> None:
        self.name = sampler if isinstance(sampler, str) else type(sampler).__name__
        self.named = isinstance(sampler, str)
        self.options = dict(options or {})
        if not self.named and options:
            raise ValueError("sampling_options are for a sampler by name; give them to the sampler itself")
        self.sampler = create_sampler(sampler, num_channels, **options or {}) if isinstance(sampler, str) else sampler
        self.check(self.sampler(16, torch.Generator().manual_seed(0)), 16)

    def check(self, parts: Sequence[Part], batch: int) -> None:
        """Refuse parts that show an image several times, or not at all."""
        edges = sorted((part.start, part.stop) for part in parts if len(part))
        if [0, *(stop for _, stop in edges)] != [*(start for start, _ in edges), batch]:
            raise ValueError(
                f"the sampler {self.name!r} does not show every image exactly once, and a model has one output row for "
                "each image; use 'split' (without paired), 'dropout' or 'uniform_size', or train with fit, which "
                "repeats images"
            )

    def draw(self, batch: int, seed: int, step: int, present: Tensor | None, device: torch.device) -> Shown:
        """What each of this process's ``batch`` rows shows; ``present`` is (batch, C) booleans, None means all."""
        generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + step) % 2**32)
        count = process_count()
        parts = self.sampler(batch * count, generator)
        self.check(parts, batch * count)
        if len(parts) == 1:
            groups: Groups = [(parts[0].subset, torch.arange(batch))]
        else:
            order = torch.randperm(batch * count, generator=generator)
            groups = [(part.subset, order[part.start : part.stop].sort()[0]) for part in parts]
            groups = take_share(groups, dist.get_rank() if count > 1 else 0, count)
        return show(groups if present is None else group_by_channels(groups, present), device)


def group_by_channels(groups: Groups, present: Tensor) -> Groups:
    """Rows by the channels that they keep, in the order in which the subsets first occur.

    ``present``, (B, C) booleans, marks the channels that each row's image has. A row in several groups occurs several
    times. ValueError if an image has no channel.
    """
    empty = torch.nonzero(~present.any(1)).flatten()
    if len(empty):
        raise ValueError(f"present says that image {int(empty[0])} of the batch has no channel at all")
    found: dict[Subset, list[Tensor]] = {}
    for subset, rows in groups:
        have = present[rows]
        kept = torch.zeros_like(have)
        kept[:, list(subset)] = have[:, list(subset)]
        kept = torch.where(kept.any(1, keepdim=True), kept, have)
        patterns, places = torch.unique(kept, dim=0, return_inverse=True)
        subsets = [tuple(torch.nonzero(pattern).flatten().tolist()) for pattern in patterns]
        for i in sorted(range(len(subsets)), key=lambda i: (-len(subsets[i]), subsets[i])):
            found.setdefault(subsets[i], []).append(rows[places == i])
    return [(subset, torch.cat(pieces)) for subset, pieces in found.items()]


def take_share(groups: Groups, index: int, count: int) -> Groups:
    """The rows of one of ``count`` processes, numbered in its own batch; groups may be empty."""
    return [(subset, rows[rows % count == index] // count) for subset, rows in groups]


def as_parts(groups: Groups) -> list[Part]:
    """The groups as parts of the batch that is put together from their rows."""
    edges = torch.tensor([0, *(len(rows) for _, rows in groups)]).cumsum(0).tolist()
    return [Part(subset, start, stop) for (subset, _), (start, stop) in zip(groups, pairwise(edges), strict=True)]


def show(groups: Groups, device: torch.device) -> Shown:
    """What each row shows, from groups that hold every row once; the order lies on ``device``."""
    order = torch.cat([rows for _, rows in groups])
    parts = tuple(as_parts(groups))
    if torch.equal(order, torch.arange(len(order))):
        return Shown(parts)
    both = torch.stack([order, order.argsort()]).to(device, non_blocking=True)
    return Shown(parts, both[0], both[1])


def share_subsets(shown: Shown, network: nn.Module) -> Shown:
    """Add empty parts for the subsets that other processes' images show, if batch norms exchange their statistics.

    Every process then calls the same batch norms in the same order.
    """
    if process_count() == 1 or not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules()):
        return shown
    everyone: list[Any] = [None] * process_count()
    dist.all_gather_object(everyone, [part.subset for part in shown.parts])
    subsets = sorted({subset for subsets in everyone for subset in subsets}, key=lambda subset: (-len(subset), subset))
    groups = []
    order = torch.arange(sum(map(len, shown.parts))) if shown.order is None else shown.order.cpu()
    for subset in subsets:
        rows = [order[part.start : part.stop] for part in shown.parts if part.subset == subset]
        groups.append((subset, torch.cat([order[:0], *rows])))
    return show(groups, torch.device("cpu") if shown.order is None else shown.order.device)
