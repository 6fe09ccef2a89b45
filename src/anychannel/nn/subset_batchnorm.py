"""Batch norms that differ between subsets of the channels.

One batch norm for all subsets is right as long as training shows it the mixture that evaluation draws from: the parts
of a batch are joined right after the stem, so it sees them together. A ``SubsetBatchNorm`` instead holds a batch norm
for each subset or each subset size, or only statistics for each subset. ``calibrate`` adds the statistics of one subset
to a trained network.
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
    """Key of a batch norm for each subset."""
    return "_".join(str(position) for position in subset)


def by_size(subset: Subset) -> str:
    """Key of a batch norm for each number of channels."""
    return f"size_{len(subset)}"


class SubsetBatchNorm(nn.Module):
    """A batch norm with further ones for the subsets that have their own; the others share it.

    Args:
        shared: the batch norm that stood here.
        key: names the entry that a subset uses.
        entries: keys to start with; each batch norm starts as a copy of ``shared``.
        tied: the further ones differ in their statistics only; scale and shift are those of ``shared``.
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
        """Add a batch norm under a key that has none."""
        if name in self.entries:
            return
        self.entries[name] = copy.deepcopy(self.shared)
        self.tie()

    def tie(self) -> None:
        """If tied, let all batch norms hold the shared one's parameters."""
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
                f"a batch norm gets {len(x)} rows for a batch of {images} images, so that the subset of each row is "
                "unknown; use norm='shared'"
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


def leave_out_tied(norm: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, metadata: object) -> None:  # noqa: ARG001
    """A state dict holds a tied parameter once."""
    for name in norm.tied_names(prefix):
        del state[name]


def fill_in_tied(norm: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, *rest: object) -> None:  # noqa: ARG001
    """Undo ``leave_out_tied`` in a state dict that is loaded."""
    state.update({name: state[source] for name, source in norm.tied_names(prefix).items() if source in state})


def tie_again(norm: SubsetBatchNorm, _: object) -> None:
    """Tie the parameters again after ``load_state_dict(..., assign=True)``."""
    norm.tie()


@dataclass(frozen=True)
class NormKind:
    """Which batch norms a network has.

    Args:
        key: names the batch norm that a subset uses; None if all subsets share one.
        first_only: only the first batch norm, right after the stem, differs between subsets.
        tied: see ``SubsetBatchNorm``.
    """

    key: Callable[[Subset], str] | None = None
    first_only: bool = False
    tied: bool = False

    @property
    def own_statistics(self) -> bool:
        """Whether every batch norm has statistics for each subset."""
        return self.key is by_subset and not self.first_only

    def entries(self, channels: ChannelSet) -> list[str]:
        """Names of the further batch norms for a channel set; the full set uses the shared one.

        Raises:
            ValueError: each subset has one, and there are more than ``MOST_CHANNELS`` channels.
        """
        if self.key is None:
            return []
        if self.key is by_size:
            return [by_size(tuple(range(size))) for size in range(1, len(channels))]
        if len(channels) > MOST_CHANNELS:
            raise ValueError(
                f"a batch norm for each subset takes at most {MOST_CHANNELS} channels, got {len(channels)}; "
                "use norm='shared' or norm='size'"
            )
        return [by_subset(subset) for subset in channels.subsets() if subset != channels.full]


NORMS: dict[str, NormKind] = {
    "shared": NormKind(),
    "statistics": NormKind(by_subset, tied=True),
    "subset": NormKind(by_subset),
    "size": NormKind(by_size),
    "stem": NormKind(by_subset, first_only=True),
}

REPORTED = ("static", "masked", "per_size", "kernel_attention")
"""Stems whose networks are the report's, and plain ones."""


def list_norms() -> list[str]:
    """Names that ``create_model(..., norm=name)`` takes, besides ``auto``."""
    return list(NORMS)


def choose_norm(channels: ChannelSet, stem: str, network: nn.Module) -> str:
    """What ``auto`` stands for: ``statistics`` for two to ``MOST_CHANNELS`` channels, else ``shared``.

    Subsets of channels that hardly predict each other have too different means and variances for one batch norm. If
    channels do predict each other, statistics for each subset still bring a point or two (docs/method.md). It is
    ``shared``, too, for a network without batch norms that keep statistics, and for the report's stems.
    """
    without = stem in REPORTED or not any(keeps_statistics(module) for module in network.modules())
    return "shared" if without or not 1 < len(channels) <= MOST_CHANNELS else "statistics"


def keeps_statistics(module: nn.Module) -> bool:
    """Whether this is a batch norm with running averages, which evaluation normalises by."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def install_norms(network: nn.Module, kind: str, channels: ChannelSet) -> None:
    """Replace a network's batch norms, in place, by a kind of ``NORMS``; ``shared`` leaves them as they are.

    Raises:
        ValueError: the kind is unknown, or the network has no batch norm.
    """
    if kind not in NORMS:
        raise ValueError(unknown_name("norm", kind, ["auto", *NORMS]))
    chosen, names = NORMS[kind], NORMS[kind].entries(channels)
    if (key := chosen.key) is not None:
        replace_norms(
            network, lambda norm: SubsetBatchNorm(norm, key, names, tied=chosen.tied), first_only=chosen.first_only
        )


def replace_norms(network: nn.Module, wrap: Callable[[nn.Module], nn.Module], *, first_only: bool = False) -> int:
    """Put ``wrap(norm)`` in the place of each batch norm that keeps statistics and is in no ``SubsetBatchNorm``.

    Returns:
        How many were replaced.

    Raises:
        ValueError: the network has none.
    """
    inside = {path for path, module in network.named_modules() if isinstance(module, SubsetBatchNorm)}
    found = [
        path
        for path, module in network.named_modules()
        if keeps_statistics(module) and not any(path.startswith(f"{outer}.") for outer in inside)
    ]
    if not found and not inside:
        raise ValueError(f"{type(network).__name__} has no batch norm that keeps statistics; use norm='shared'")
    for path in found[:1] if first_only else found:
        norm = network.get_submodule(path)
        replace_module(network, norm, wrap(norm))
    return len(found)
