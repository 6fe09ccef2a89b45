"""Batch normalisation that knows which channels it sees.

One batch norm for all subsets is right as long as training shows it the mixture that evaluation draws from: the parts
of a batch are joined right after the stem, so that it meets them together. A bank holds batch norms of its own for
each subset or each subset size instead, and ``calibrate`` adds one for a single subset to a trained network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.channels import ChannelSet, Subset
from anychannel.names import unknown_name
from anychannel.processes import share
from anychannel.shown import shown_parts

MOST_CHANNELS = 6
ENTRY_MOMENTUM = 0.025
"""A bank's entry sees about a quarter of a step's images, so that its running statistics average over as many of them
as a batch norm of the whole batch does with torch's 0.1."""


def by_subset(subset: Subset) -> str:
    """A bank entry for each subset."""
    return "_".join(str(position) for position in subset)


def by_size(subset: Subset) -> str:
    """A bank entry for each number of channels."""
    return f"size_{len(subset)}"


class NormBank(nn.Module):
    """A batch norm with further ones for the subsets that have their own; the others share it.

    Args:
        shared: the batch norm that stood here.
        key: names the entry that a subset uses.
        entries: names to start with; each starts as a copy of ``shared``.
    """

    def __init__(self, shared: nn.Module, key: Callable[[Subset], str], entries: Iterable[str] = ()) -> None:
        super().__init__()
        self.shared = shared
        self.key = key
        self.entries = nn.ModuleDict({name: copy.deepcopy(shared) for name in entries})
        self.seen: dict[str, int] = {}
        self.register_load_state_dict_post_hook(forget_counts)  # type: ignore[no-untyped-call]

    def choose(self, subset: Subset) -> nn.Module:
        """The batch norm that a subset uses."""
        name = self.key(subset)
        return self.entries[name] if name in self.entries else self.shared  # noqa: SIM401 - ModuleDict has no get

    def pace(self, names: set[str]) -> None:
        """Let the entries' running statistics be plain averages at first, and from then on follow slowly."""
        for name in names & self.entries.keys():
            entry = self.entries[name]
            if isinstance(entry, _BatchNorm) and entry.training and entry.momentum is not None:
                if name not in self.seen:  # once, since reading a counter waits for the device
                    self.seen[name] = int(entry.num_batches_tracked or 0)
                self.seen[name] += 1
                entry.momentum = max(ENTRY_MOMENTUM, 1 / self.seen[name])

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each part of the batch with its own batch norm; parts that use the same one are joined."""
        parts = shown_parts()
        norms = [self.choose(part.subset) for part in parts]
        if self.training:
            self.pace({self.key(part.subset) for part in parts})
        if all(norm is norms[0] for norm in norms):
            whole: Tensor = norms[0](x)
            return whole
        pieces = list(torch.split(x, [len(part) for part in parts]))
        for norm in dict.fromkeys(norms):
            places = [i for i, other in enumerate(norms) if other is norm]
            joined = normalise(norm, torch.cat([pieces[i] for i in places]))
            for i, piece in zip(places, torch.split(joined, [len(parts[i]) for i in places]), strict=True):
                pieces[i] = piece
        return torch.cat(pieces)


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """One part's batch norm; one image of one value a feature has no variance and takes the running statistics."""
    alone = norm.training and x.numel() == x.shape[1] and share().count == 1
    try:
        joined: Tensor = norm.train(norm.training and not alone)(x)
    finally:
        norm.train(norm.training or alone)
    return joined


def forget_counts(bank: NormBank, keys: object) -> None:  # noqa: ARG001
    """Read the counters anew: other statistics have been loaded."""
    bank.seen.clear()


def subset_entries(channels: ChannelSet) -> list[str]:
    """An entry for every subset but the full set, which the shared norm serves.

    Raises:
        ValueError: there are more than ``MOST_CHANNELS`` channels.
    """
    if len(channels) > MOST_CHANNELS:
        raise ValueError(
            f"a norm bank for each subset takes at most {MOST_CHANNELS} channels, got {len(channels)}; "
            "use norm='shared' or norm='size'"
        )
    return [by_subset(subset) for subset in channels.subsets() if subset != channels.full]


def size_entries(channels: ChannelSet) -> list[str]:
    """An entry for every size below the full set's."""
    return [by_size(tuple(range(size))) for size in range(1, len(channels))]


def no_entries(channels: ChannelSet) -> list[str]:  # noqa: ARG001
    """None: all subsets share."""
    return []


NORMS: dict[str, tuple[Callable[[Subset], str], Callable[[ChannelSet], list[str]], bool]] = {
    "shared": (by_subset, no_entries, False),
    "subset": (by_subset, subset_entries, False),
    "size": (by_size, size_entries, False),
    "stem": (by_subset, subset_entries, True),
}
"""For each kind: which entry a subset uses, the entries, and whether only the first norm has them."""


def list_norms() -> list[str]:
    """Names that ``create_model(..., norm=name)`` takes."""
    return list(NORMS)


def install_norms(network: nn.Module, kind: str, channels: ChannelSet) -> None:
    """Replace a network's batch norms, in place, by banks of a kind; ``shared`` leaves them as they are.

    Raises:
        ValueError: the kind is unknown, or the network has no batch norm.
    """
    if kind not in NORMS:
        raise ValueError(unknown_name("norm", kind, NORMS))
    key, entries, first_only = NORMS[kind]
    names = entries(channels)
    if kind != "shared":
        replace_norms(network, lambda norm: NormBank(norm, key, names), first_only=first_only)


def replace_norms(network: nn.Module, wrap: Callable[[nn.Module], nn.Module], *, first_only: bool = False) -> int:
    """Put ``wrap(norm)`` where each batch norm is; banks are left alone. Returns how many were replaced.

    Raises:
        ValueError: the network has no batch norm.
    """
    inside = {path for path, module in network.named_modules() if isinstance(module, NormBank)}
    found = [
        path
        for path, module in network.named_modules()
        if isinstance(module, _BatchNorm) and not any(path.startswith(f"{bank}.") for bank in inside)
    ]
    if not found and not inside:
        raise ValueError(f"{type(network).__name__} has no batch norm; use norm='shared'")
    for path in found[:1] if first_only else found:
        parent, _, attribute = path.rpartition(".")
        setattr(network.get_submodule(parent), attribute, wrap(network.get_submodule(path)))
    return len(found)
