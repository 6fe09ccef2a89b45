"""Batch normalisation that knows which channels it sees.

One batch norm for all subsets is right as long as training shows it the mixture that evaluation draws from: the parts
of a batch are joined right after the stem, so that it meets them together. A bank holds batch norms of its own for
each subset or each subset size instead, or just statistics of its own for each subset; ``calibrate`` adds those of one
subset to a trained network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.module_utils import process_count, replace_module
from anychannel.nn.subset_context import current_parts
from anychannel.utils.names import unknown_name

MOST_CHANNELS = 6


def by_subset(subset: Subset) -> str:
    """A bank entry for each subset."""
    return "_".join(str(position) for position in subset)


def by_size(subset: Subset) -> str:
    """A bank entry for each number of channels."""
    return f"size_{len(subset)}"


class SubsetBatchNorm(nn.Module):
    """A batch norm with further ones for the subsets that have their own; the others share it.

    Args:
        shared: the batch norm that stood here.
        key: names the entry that a subset uses.
        entries: names to start with; each starts as a copy of ``shared``.
        tied: entries have only their statistics for themselves, and scale and shift are those of ``shared``.
    """

    def __init__(
        self, shared: nn.Module, key: Callable[[Subset], str], entries: Iterable[str] = (), *, tied: bool = False
    ) -> None:
        super().__init__()
        self.shared = shared
        self.key = key
        self.tied = tied
        self.entries = nn.ModuleDict()
        for name in entries:
            self.add(name)
        self.register_state_dict_post_hook(leave_out_tied)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(fill_in_tied)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(tie_again)  # type: ignore[no-untyped-call]

    def add(self, name: str) -> None:
        """Give a name an entry, if it has none."""
        if name in self.entries:
            return
        self.entries[name] = copy.deepcopy(self.shared)
        self.tie()

    def tie(self) -> None:
        """Give the entries of a tied bank the shared norm's own parameters."""
        if self.tied:
            for entry in self.entries.values():
                for name, parameter in self.shared.named_parameters():
                    setattr(entry, name, parameter)

    def tied_names(self, prefix: str) -> dict[str, str]:
        """For each parameter of an entry that is the shared one's, both names in a state dict."""
        names = [name for name, _ in self.shared.named_parameters()] if self.tied else []
        return {f"{prefix}entries.{entry}.{n}": f"{prefix}shared.{n}" for entry in self.entries for n in names}

    def choose(self, subset: Subset) -> nn.Module:
        """The batch norm that a subset uses."""
        name = self.key(subset)
        return self.entries[name] if name in self.entries else self.shared  # noqa: SIM401 - ModuleDict has no get

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each part of the batch with its own batch norm; parts that use the same one are joined."""
        parts = current_parts()
        norms = [self.choose(part.subset) for part in parts]
        if all(norm is norms[0] for norm in norms):
            whole: Tensor = norms[0](x)
            return whole
        images = sum(map(len, parts))
        rows, rest = divmod(len(x), images)  # a network may have folded positions into the first axis
        if rest:
            raise ValueError(
                f"a batch norm is given {len(x)} rows of a batch of {images} images, so that it cannot tell which "
                "subset each row shows; use norm='shared'"
            )
        lengths = [rows * len(part) for part in parts]
        pieces = list(torch.split(x, lengths))
        for norm in dict.fromkeys(norms):
            places = [i for i, other in enumerate(norms) if other is norm]
            joined = normalise(norm, torch.cat([pieces[i] for i in places]))
            for i, piece in zip(places, torch.split(joined, [lengths[i] for i in places]), strict=True):
                pieces[i] = piece
        return torch.cat(pieces)


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """One part's batch norm; one image of one value a feature has no variance and takes the running statistics."""
    alone = norm.training and x.numel() == x.shape[1] and process_count() == 1
    try:
        joined: Tensor = norm.train(norm.training and not alone)(x)
    finally:
        norm.train(norm.training or alone)
    return joined


def leave_out_tied(bank: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, metadata: object) -> None:  # noqa: ARG001
    """A state dict holds a tied parameter once."""
    for name in bank.tied_names(prefix):
        del state[name]


def fill_in_tied(bank: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, *rest: object) -> None:  # noqa: ARG001
    """Undo ``leave_out_tied`` in a state dict that is loaded."""
    state.update({name: state[source] for name, source in bank.tied_names(prefix).items() if source in state})


def tie_again(bank: SubsetBatchNorm, _: object) -> None:
    """A state dict that was assigned, not copied, leaves the shared norm with parameters of its own."""
    bank.tie()


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


@dataclass(frozen=True)
class NormKind:
    """Which batch norms a network has.

    Args:
        key: names the entry that a subset uses.
        entries: their names for a channel set.
        first_only: only the first batch norm, right after the stem, has them.
        tied: see ``SubsetBatchNorm``.
    """

    key: Callable[[Subset], str] = by_subset
    entries: Callable[[ChannelSet], list[str]] = no_entries
    first_only: bool = False
    tied: bool = False

    @property
    def own_statistics(self) -> bool:
        """Whether every batch norm has statistics for each subset."""
        return self.entries is subset_entries and not self.first_only


NORMS: dict[str, NormKind] = {
    "shared": NormKind(),
    "statistics": NormKind(entries=subset_entries, tied=True),
    "subset": NormKind(entries=subset_entries),
    "size": NormKind(by_size, size_entries),
    "stem": NormKind(entries=subset_entries, first_only=True),
}


REPORTED = ("static", "masked", "per_size", "kernel_attention")


def list_norms() -> list[str]:
    """Names that ``create_model(..., norm=name)`` takes, besides ``auto``."""
    return list(NORMS)


def choose_norm(channels: ChannelSet, stem: str, network: nn.Module) -> str:
    """What ``auto`` stands for: ``statistics`` for two to ``MOST_CHANNELS`` channels, else ``shared``.

    Channels that hardly predict each other give subsets too different means and variances for one batch norm; where
    they do predict each other, statistics of its own still bring a point or two (docs/method.md). It is ``shared`` too
    where the network has no batch norm that keeps statistics, or the stem is a plain network's or the report's, whose
    networks stay as they are there.
    """
    without = stem in REPORTED or not any(keeps_statistics(module) for module in network.modules())
    return "shared" if without or not 1 < len(channels) <= MOST_CHANNELS else "statistics"


def keeps_statistics(module: nn.Module) -> bool:
    """Whether this is a batch norm with running averages, which evaluation normalises by."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def install_norms(network: nn.Module, kind: str, channels: ChannelSet) -> None:
    """Replace a network's batch norms, in place, by banks of a kind; ``shared`` leaves them as they are.

    Raises:
        ValueError: the kind is unknown, or the network has no batch norm.
    """
    if kind not in NORMS:
        raise ValueError(unknown_name("norm", kind, ["auto", *NORMS]))
    chosen = NORMS[kind]
    names = chosen.entries(channels)
    if kind != "shared":
        replace_norms(
            network,
            lambda norm: SubsetBatchNorm(norm, chosen.key, names, tied=chosen.tied),
            first_only=chosen.first_only,
        )


def replace_norms(network: nn.Module, wrap: Callable[[nn.Module], nn.Module], *, first_only: bool = False) -> int:
    """Put ``wrap(norm)`` where each batch norm is that keeps statistics; banks are left alone.

    Returns:
        How many were replaced.

    Raises:
        ValueError: the network has none.
    """
    inside = {path for path, module in network.named_modules() if isinstance(module, SubsetBatchNorm)}
    found = [
        path
        for path, module in network.named_modules()
        if keeps_statistics(module) and not any(path.startswith(f"{bank}.") for bank in inside)
    ]
    if not found and not inside:
        raise ValueError(f"{type(network).__name__} has no batch norm that keeps statistics; use norm='shared'")
    for path in found[:1] if first_only else found:
        norm = network.get_submodule(path)
        replace_module(network, norm, wrap(norm))
    return len(found)
