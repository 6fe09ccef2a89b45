"""Batch norms that differ between subsets of the channels.

The parts of a batch are joined right after the stem, so one batch norm for all subsets gets their mixture. That is
right if evaluation has the same mixture. A ``SubsetBatchNorm`` has a batch norm, or only statistics, for each subset or
subset size. ``calibrate`` adds the statistics of one subset to a trained network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.module_utils import replace_module
from anychannel.nn.subset_context import current_shown
from anychannel.nn.sync_batchnorm import is_synchronising
from anychannel.utils.names import unknown_name

MOST_CHANNELS = 6
"""Largest number of channels, or of groups of channels, whose subsets get batch norms of their own."""

STATISTICS = ("running_mean", "running_var")
COUNT = "num_batches_tracked"
MOST_SCALED = 10.0
"""Largest factor, up or down, by which entries' variances follow that of the shared batch norm in one step."""


def by_subset(subset: Subset) -> str:
    """Key of a subset's batch norm."""
    return "_".join(str(position) for position in subset)


def by_size(subset: Subset) -> str:
    """Key of the batch norm for a number of channels."""
    return f"size_{len(subset)}"


class SubsetBatchNorm(nn.Module):
    """A batch norm, ``shared``, and further ones, ``entries``, for some subsets.

    ``key`` names the entry of a subset, which uses ``shared`` if it has none. An entry starts as a copy of ``shared``.
    ``tied`` entries differ from it in their statistics only, and share its scale and shift. With ``nearest``, the
    number of all channels, a subset without an entry uses that of the smallest subset around it that has one
    (``find_nearest``); ``shared`` is that of all channels.

    In training, the running statistics of all entries follow those of ``shared`` as if each feature had been scaled and
    shifted. A subset is drawn less often than the full set, and without this its statistics would lag behind the
    weights. An entry that no batch has reached has the statistics of ``shared``. First batches count alike.
    """

    def __init__(
        self,
        shared: nn.Module,
        key: Callable[[Subset], str],
        entries: Iterable[str] = (),
        *,
        tied: bool = False,
        nearest: int | None = None,
    ) -> None:
        super().__init__()
        self.shared = shared
        self.key = key
        self.tied = tied
        self.nearest = nearest
        self.found: dict[Subset, str | None] = {}
        self.counts: dict[nn.Module, int] = {}
        self.entries = nn.ModuleDict()
        for name in entries:
            self.add(name)
        self.register_state_dict_post_hook(leave_out_tied)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(fill_in_tied)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(tie_again)  # type: ignore[no-untyped-call]

    def add(self, name: str) -> None:
        """Add an entry unless there is one."""
        if name not in self.entries:
            made: dict[int, Tensor] = {id(buffer): buffer.clone() for buffer in self.shared.buffers()}  # faster
            made |= {id(parameter): parameter for parameter in self.shared.parameters()} if self.tied else {}
            self.entries[name] = copy.deepcopy(self.shared, made)
            self.entries[name].get_buffer(COUNT).zero_()
            self.found.clear()
            self.counts.clear()

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
        if name not in self.entries and self.nearest is not None:
            if subset not in self.found:
                self.found[subset] = find_nearest(subset, self.entries, self.nearest)
            name = self.found[subset] or name
        return self.entries[name] if name in self.entries else self.shared  # noqa: SIM401 - ModuleDict has no get

    def normalise(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Apply the batch norm of a part, and bring the running statistics of the entries up to date in training."""
        if not self.training or not self.entries:
            return normalise(norm, x)
        if norm is not self.shared:
            with self.first_batches(norm, x):
                return normalise(norm, x)
        mean, variance = (self.shared.get_buffer(name) for name in STATISTICS)
        old_mean, old_variance = mean.clone(), variance.clone()
        with self.first_batches(norm, x):
            normal = normalise(norm, x)
        with torch.no_grad():
            scale = (variance / old_variance).nan_to_num(1.0).clamp(1 / MOST_SCALED, MOST_SCALED)
            # .data, since autograd may have kept these buffers for an earlier pass, which did not use their values
            means, variances = ([entry.get_buffer(name).data for entry in self.entries.values()] for name in STATISTICS)
            torch._foreach_sub_(means, [old_mean] * len(means))
            torch._foreach_mul_(means, [scale.sqrt()] * len(means))
            torch._foreach_add_(means, [mean] * len(means))
            torch._foreach_mul_(variances, [scale] * len(variances))
        return normal

    @contextmanager
    def first_batches(self, norm: nn.Module, x: Tensor) -> Iterator[None]:
        """Let a batch norm's first batches, and the statistics before them, count alike: 1 / (n + 1) at the n-th.

        With the usual momentum, statistics of no images would weigh 0.9 after one batch and 0.35 after ten, and the
        entries would follow ``shared`` away from them.
        """
        momentum = getattr(norm, "momentum", None)
        if momentum is None or not norm.training or torch.compiler.is_compiling() or not has_variance(norm, x):
            yield
            return
        if not self.counts:  # read from the device once, and not in each step
            norms = [self.shared, *self.entries.values()]
            values = torch.stack([each.get_buffer(COUNT) for each in norms]).tolist()
            self.counts = dict(zip(norms, values, strict=True))
        self.counts[norm] += 1
        norm.momentum = max(momentum, 1 / (self.counts[norm] + 1))
        try:
            yield
        finally:
            norm.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the rows of each part with its own batch norm; parts with the same one are joined."""
        shown = current_shown()
        parts = shown.parts
        norms = [self.choose(part.subset) for part in parts]
        if all(norm is norms[0] for norm in norms):
            return self.normalise(norms[0], x)
        images = sum(map(len, parts))
        if len(x) % images:  # a network may have folded positions into the first axis
            raise ValueError(
                f"a batch norm gets {len(x)} rows for a batch of {images} images, so that the subset of each row is "
                "unknown; use norm='shared'"
            )
        pieces = shown.cut(x)
        lengths = [len(piece) for piece in pieces]
        for norm in sorted(dict.fromkeys(norms), key=lambda norm: norm is not self.shared):
            places = [i for i, other in enumerate(norms) if other is norm]
            joined = pieces[places[0]] if len(places) == 1 else torch.cat([pieces[i] for i in places])
            joined = self.normalise(norm, joined)
            for i, piece in zip(places, torch.split(joined, [lengths[i] for i in places]), strict=True):
                pieces[i] = piece
        return shown.join(pieces)


def find_nearest(subset: Subset, names: Iterable[str], count: int) -> str | None:
    """The entry of the smallest subset that holds all channels of ``subset``: if groups have entries, of its groups.

    ``names`` are keys of ``by_subset``. None stands for the full set of ``count`` channels.
    """
    known: dict[str | None, set[int]] = {None: set(range(count))}
    known |= {name: {int(position) for position in name.split("_")} for name in names}
    return min((name for name in known if known[name].issuperset(subset)), key=lambda name: len(known[name]))


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply one part's batch norm.

    With one value a feature, which has no variance, it normalises by the running statistics. Without rows, which one
    of several processes may have, it does nothing unless the processes exchange their statistics.
    """
    if len(x) == 0 and not is_synchronising(norm):
        return x
    alone = norm.training and not has_variance(norm, x)
    if alone:
        norm.eval()
    try:
        normal: Tensor = norm(x)
    finally:
        if alone:
            norm.train()
    return normal


def has_variance(norm: nn.Module, x: Tensor) -> bool:
    """Whether a batch norm computes statistics of its input: from two values a feature on, over all processes."""
    return is_synchronising(norm) or x.numel() > x.shape[1]


def leave_out_tied(norm: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, metadata: object) -> None:  # noqa: ARG001
    """Keep a tied parameter once in a state dict."""
    for name in norm.tied_names(prefix):
        del state[name]


def fill_in_tied(norm: SubsetBatchNorm, state: dict[str, Tensor], prefix: str, *rest: object) -> None:  # noqa: ARG001
    """Undo ``leave_out_tied`` before loading."""
    state.update({name: state[source] for name, source in norm.tied_names(prefix).items() if source in state})


def tie_again(norm: SubsetBatchNorm, _: object) -> None:
    """Tie the parameters again after ``load_state_dict(..., assign=True)``; batches are counted from the state on."""
    norm.tie()
    norm.counts.clear()


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

    def nearest(self, channels: ChannelSet) -> int | None:
        """``nearest`` of ``SubsetBatchNorm``: with groups, a part of a group uses the entry of the group."""
        return len(channels) if channels.grouped and self.key is by_subset else None

    def entries(self, channels: ChannelSet) -> list[str]:
        """Keys of the entries for a channel set; the full set uses the shared batch norm."""
        if self.key is None:
            return []
        many = len(channels.units) > MOST_CHANNELS
        if self.key is by_size and (many or not channels.grouped):
            return [by_size(tuple(range(size))) for size in range(1, len(channels))]
        if many:
            what = "groups" if channels.grouped else "channels"
            raise ValueError(
                f"a batch norm for each subset takes at most {MOST_CHANNELS} {what}, got {len(channels.units)}; "
                "use norm='shared' or norm='size'"
            )
        return list(dict.fromkeys(self.key(subset) for subset in channels.group_subsets() if subset != channels.full))


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
    """The meaning of ``auto``: ``statistics`` for two to ``MOST_CHANNELS`` channels or groups, else ``shared``.

    If channels hardly predict each other, means and variances of their subsets differ too much for one batch norm. If
    they do, statistics for each subset still add a point or two of accuracy (docs/method.md). The report's stems and
    networks without batch norms that keep statistics get ``shared``.
    """
    without = stem in REPORTED or not any(keeps_statistics(module) for module in network.modules())
    return "shared" if without or not 1 < len(channels.units) <= MOST_CHANNELS else "statistics"


def keeps_statistics(module: nn.Module) -> bool:
    """Whether a module is a batch norm with running statistics."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def install_norms(network: nn.Module, kind: str, channels: ChannelSet) -> None:
    """Replace a network's batch norms, in place, by a kind of ``NORMS``; ``shared`` leaves them as they are."""
    if kind not in NORMS:
        raise ValueError(unknown_name("norm", kind, ["auto", *NORMS]))
    chosen, names = NORMS[kind], NORMS[kind].entries(channels)
    if (key := chosen.key) is not None:
        nearest = chosen.nearest(channels)

        def wrap(norm: nn.Module) -> nn.Module:
            return SubsetBatchNorm(norm, key, names, tied=chosen.tied, nearest=nearest)

        replace_norms(network, wrap, first_only=chosen.first_only)


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
