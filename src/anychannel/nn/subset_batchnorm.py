"""Batch norms that differ between subsets of the channels.

The parts of a batch are joined right after the stem, so one batch norm for all subsets gets their mixture. That is
right if evaluation has the same mixture. A ``SubsetBatchNorm`` has a batch norm, or only statistics, for each subset or
subset size. ``calibrate`` adds the statistics of one subset to a trained network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.input_range import has_values
from anychannel.nn.module_utils import replace_module
from anychannel.nn.subset_context import current_shown
from anychannel.nn.sync_batchnorm import is_synchronising
from anychannel.utils.names import unknown_name

MOST_CHANNELS = 6


def by_subset(subset: Subset) -> str:
    """Key of a subset's batch norm."""
    return "_".join(str(position) for position in subset)


def by_size(subset: Subset) -> str:
    """Key of the batch norm for a number of channels."""
    return f"size_{len(subset)}"


class SubsetBatchNorm(nn.Module):
    """A batch norm, ``shared``, and further ones, ``entries``, for some subsets.

    ``key`` names the entry of a subset, which uses ``shared`` if it has none. An entry starts as a copy of ``shared``.
    ``tied`` entries differ from it in their statistics only, and share its scale and shift.

    In evaluation, a tied entry that no batch has reached yet normalises as ``shared`` does: its own statistics are
    those of no images. That concerns subsets that a short training never drew.
    """

    def __init__(
        self, shared: nn.Module, key: Callable[[Subset], str], entries: Iterable[str] = (), *, tied: bool = False
    ) -> None:
        super().__init__()
        self.shared = shared
        self.key = key
        self.tied = tied
        self.entries = nn.ModuleDict()
        self.unmet: frozenset[str] = frozenset()
        for name in entries:
            self.add(name)
        self.register_state_dict_post_hook(leave_out_tied)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(fill_in_tied)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(tie_again)  # type: ignore[no-untyped-call]

    def add(self, name: str) -> None:
        """Add an entry unless there is one."""
        if name not in self.entries:
            self.entries[name] = copy.deepcopy(self.shared)
            self.tie()

    def tie(self) -> None:
        """Give tied entries the shared parameters."""
        if self.tied:
            for entry in self.entries.values():
                for name, parameter in self.shared.named_parameters():
                    setattr(entry, name, parameter)

    def tied_names(self, prefix: str) -> dict[str, str]:
        """Names of tied parameters in a state dict, and those of the shared ones."""
        names = [name for name, _ in self.shared.named_parameters()] if self.tied else []
        return {f"{prefix}entries.{entry}.{n}": f"{prefix}shared.{n}" for entry in self.entries for n in names}

    def choose(self, subset: Subset) -> nn.Module:
        """The batch norm that a subset uses."""
        name = self.key(subset)
        if name not in self.entries:
            return self.shared
        entry: nn.Module = self.entries[name]
        return self.shared if name in self.unmet and not entry.training else entry

    def train(self, mode: bool = True) -> Self:
        """As ``nn.Module`` does."""
        super().train(mode)
        self.find_unmet()
        return self

    def find_unmet(self) -> None:
        """Look up, for evaluation, which tied entries no batch has reached, although one has reached ``shared``."""
        self.unmet = frozenset()
        if self.training or not self.tied or not self.entries:
            return
        counts = [norm.get_buffer("num_batches_tracked") for norm in (self.shared, *self.entries.values())]
        if has_values(counts[0]):
            shared, *own = torch.stack(counts).tolist()
            self.unmet = frozenset(name for name, count in zip(self.entries, own, strict=True) if shared and not count)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the rows of each part with its own batch norm; parts with the same one are joined."""
        shown = current_shown()
        parts = shown.parts
        norms = [self.choose(part.subset) for part in parts]
        if all(norm is norms[0] for norm in norms):
            return normalise(norms[0], x)
        images = sum(map(len, parts))
        rows, rest = divmod(len(x), images)  # a network may have folded positions into the first axis
        if rest:
            raise ValueError(
                f"a batch norm gets {len(x)} rows for a batch of {images} images, so that the subset of each row is "
                "unknown; use norm='shared'"
            )
        lengths = [rows * len(part) for part in parts]
        pieces = list(torch.split(shown.sort(x), lengths))
        for norm in dict.fromkeys(norms):
            places = [i for i, other in enumerate(norms) if other is norm]
            joined = normalise(norm, torch.cat([pieces[i] for i in places]))
            for i, piece in zip(places, torch.split(joined, [lengths[i] for i in places]), strict=True):
                pieces[i] = piece
        return shown.restore(torch.cat(pieces))


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply one part's batch norm.

    With one value a feature, which has no variance, it normalises by the running statistics. Without rows, which one
    of several processes may have, it does nothing unless the processes exchange their statistics.
    """
    exchanging = is_synchronising(norm)
    if len(x) == 0 and not exchanging:
        return x
    alone = norm.training and x.numel() == x.shape[1] and not exchanging
    if alone:
        norm.eval()
    try:
        normal: Tensor = norm(x)
    finally:
        if alone:
            norm.train()
    return normal


def leave_out_tied(norm: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, metadata: object) -> None:  # noqa: ARG001
    """Keep a tied parameter once in a state dict."""
    for name in norm.tied_names(prefix):
        del state[name]


def fill_in_tied(norm: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, *rest: object) -> None:  # noqa: ARG001
    """Undo ``leave_out_tied`` before loading."""
    state.update({name: state[source] for name, source in norm.tied_names(prefix).items() if source in state})


def tie_again(norm: SubsetBatchNorm, _: object) -> None:
    """Tie the parameters again after ``load_state_dict(..., assign=True)``, and look at the statistics again."""
    norm.tie()
    norm.find_unmet()


@dataclass(frozen=True)
class NormKind:
    """Which batch norms a network has; ``key`` and ``tied`` are those of ``SubsetBatchNorm``, None for a shared one.

    With ``first_only``, only the first batch norm, right after the stem, differs between subsets.
    """

    key: Callable[[Subset], str] | None = None
    first_only: bool = False
    tied: bool = False

    @property
    def own_statistics(self) -> bool:
        """Whether every batch norm has statistics for each subset."""
        return self.key is by_subset and not self.first_only

    def entries(self, channels: ChannelSet) -> list[str]:
        """Keys of the entries for a channel set; the full set uses the shared batch norm."""
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
"""Stems of the report's networks."""


def list_norms() -> list[str]:
    """Names that ``create_model(..., norm=name)`` takes besides ``auto``."""
    return list(NORMS)


def choose_norm(channels: ChannelSet, stem: str, network: nn.Module) -> str:
    """The meaning of ``auto``: ``statistics`` for two to ``MOST_CHANNELS`` channels, else ``shared``.

    If channels hardly predict each other, means and variances of their subsets differ too much for one batch norm. If
    they do, statistics for each subset still add a point or two of accuracy (docs/method.md). The report's stems and
    networks without batch norms that keep statistics get ``shared``.
    """
    without = stem in REPORTED or not any(keeps_statistics(module) for module in network.modules())
    return "shared" if without or not 1 < len(channels) <= MOST_CHANNELS else "statistics"


def keeps_statistics(module: nn.Module) -> bool:
    """Whether a module is a batch norm with running statistics."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def install_norms(network: nn.Module, kind: str, channels: ChannelSet) -> None:
    """Replace a network's batch norms, in place, by a kind of ``NORMS``; ``shared`` leaves them as they are."""
    if kind not in NORMS:
        raise ValueError(unknown_name("norm", kind, ["auto", *NORMS]))
    chosen, names = NORMS[kind], NORMS[kind].entries(channels)
    if (key := chosen.key) is not None:
        replace_norms(
            network, lambda norm: SubsetBatchNorm(norm, key, names, tied=chosen.tied), first_only=chosen.first_only
        )


def replace_norms(network: nn.Module, wrap: Callable[[nn.Module], nn.Module], *, first_only: bool = False) -> None:
    """Put ``wrap(norm)`` in the place of each batch norm that keeps statistics and is in no ``SubsetBatchNorm``."""
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
