"""One graph for every subset: images of all channels, and a vector that says which of them are there.

Nothing in it depends on the subset at the time of export: the stem's kernel and the norms' statistics are computed
from the vector, inside the graph, and equal what the model takes for that subset.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anychannel.channels import ChannelSet
from anychannel.evaluation import choose_subsets
from anychannel.models import Classifier
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.module_utils import replace_module
from anychannel.nn.specialize import MixedConvolution
from anychannel.nn.stems import STEMS, Stem
from anychannel.nn.subset_batchnorm import SubsetBatchNorm, by_size

MOST_TABLED = 8
"""Channels up to which a stem without a closed form gets a table of all its 2^C - 1 kernels."""

_present: ContextVar[Tensor] = ContextVar("present")


class AnySubsetError(ValueError):
    """The model has no form in which one graph takes every subset; the message says which stems do."""


class AnySubset(nn.Module):
    """A classifier as a function of images and of the channels that they hold.

    Args:
        model: the classifier; it is copied.

    Raises:
        AnySubsetError: the stem has no such form.
    """

    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())
        self.backbone = copy.deepcopy(model.backbone)
        for module in list(self.backbone.modules()):
            if isinstance(module, AdaptiveConv2d):
                replace_module(self.backbone, module, stem_of_presence(module.stem))
            elif isinstance(module, SubsetBatchNorm):
                replace_module(self.backbone, module, PresenceNorm(module, len(model.channels)))
        self.eval()

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """Logits.

        Args:
            images: float (B, C, H, W) in the files' own units, all channels in the model's order; what the planes of
                missing channels hold does not matter.
            present: bool (C,), True for the channels that the images hold; at least one.

        Returns:
            (B, num_classes).
        """
        normalised = (images - self.mean) / self.std
        shown = torch.where(present.view(1, -1, 1, 1), normalised, 0.0)
        with marking(present.to(self.mean.dtype)):
            logits: Tensor = self.backbone(shown)
        return logits


@contextmanager
def marking(present: Tensor) -> Iterator[None]:
    """Tell stem and norms which channels are there during one forward pass."""
    token = _present.set(present)
    try:
        yield
    finally:
        _present.reset(token)


def stem_of_presence(stem: Stem) -> nn.Module:
    """The stem as a module that takes images of all channels, the missing ones zero.

    Raises:
        AnySubsetError: there is none.
    """
    everything = tuple(range(stem.in_chans))
    if stem.zero_is_missing and (bank := stem.basis_kernels(everything)) is not None:
        return MixedConvolution(stem, bank.detach(), everything, everything)
    if not stem.per_image:
        if knows_presence(stem):
            return PresenceStem(stem)
        if stem.in_chans <= MOST_TABLED:
            return TabledStem(stem)
    able = [name for name, kind in STEMS.items() if not kind.per_image or kind.zero_is_missing]
    raise AnySubsetError(
        f"the {type(stem).__name__} has no kernel that one graph could compute for every subset of {stem.in_chans} "
        f"channels; export each subset by itself, or train one of the stems {', '.join(able)}"
    )


def knows_presence(stem: Stem) -> bool:
    """Whether ``kernel_where`` gives the stem's kernels; one that is inherited beside a new ``kernel`` does not."""
    numbered = ChannelSet(tuple(str(position) for position in range(stem.in_chans)))
    for subset in choose_subsets(numbered)[0]:
        present = torch.tensor([float(position in subset) for position in range(stem.in_chans)])
        kernel = stem.kernel(subset)
        found, bias, own = stem.kernel_where(present), stem.bias_where(present), stem.bias_for(subset)
        if found is None or not close(found[:, list(subset)], kernel) or (bias is None) != (own is None):
            return False
        if bias is not None and own is not None and not close(bias, own):
            return False
    return True


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors differ by rounding alone: up to 0.1 % where channels repeat each other, so 2 % is allowed."""
    return bool((a - b).abs().max() <= 0.02 * b.abs().max())


class PresenceStem(nn.Module):
    """A stem whose kernel is computed from the presence vector."""

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H', W')."""
        present = _present.get()
        kernel = self.stem.kernel_where(present)
        assert kernel is not None
        return self.stem.geometry.convolve(images, kernel, self.stem.bias_where(present))


class TabledStem(nn.Module):
    """A stem whose kernels and biases for all subsets are kept, and looked up by the presence vector."""

    kernels: Tensor
    biases: Tensor | None
    powers: Tensor

    @torch.no_grad()
    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.geometry = stem.geometry
        subsets = list(ChannelSet(tuple(str(position) for position in range(stem.in_chans))).subsets())
        kernels = torch.zeros(2**stem.in_chans, stem.out_chans, stem.in_chans, *stem.geometry.kernel_size)
        biases = torch.zeros(2**stem.in_chans, stem.out_chans)
        has_bias = False
        for subset in subsets:
            kernel = stem.kernel(subset)
            kernels[code_of(subset)][:, list(subset)] = kernel
            if (bias := stem.bias_for(subset)) is not None:
                biases[code_of(subset)], has_bias = bias, True
        self.register_buffer("kernels", kernels)
        self.register_buffer("biases", biases if has_bias else None)
        self.register_buffer("powers", powers_of_two(stem.in_chans))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H', W')."""
        row = (_present.get().long() * self.powers).sum().view(1)
        bias = None if self.biases is None else self.biases.index_select(0, row)[0]
        return self.geometry.convolve(images, self.kernels.index_select(0, row)[0], bias)


class PresenceNorm(nn.Module):
    """A bank of batch norms of which the presence vector picks one.

    Args:
        bank: the bank.
        in_chans: number of channels C.
    """

    keys: Tensor

    def __init__(self, bank: SubsetBatchNorm, in_chans: int) -> None:
        super().__init__()
        self.shared = bank.shared
        self.counts = bank.key is by_size
        keys = [size_key(name) if self.counts else subset_key(name, in_chans) for name in bank.entries]
        self.register_buffer("keys", torch.tensor(keys).view(len(keys), -1))
        norms = [bank.shared, *bank.entries.values()]
        states = [dict(norm.named_parameters()) | dict(norm.named_buffers()) for norm in norms]
        self.names = [name for name, value in states[0].items() if value.ndim == 1]
        for name in self.names:
            self.register_buffer(f"all_{name}", torch.stack([state[name].detach() for state in states]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> the same shape."""
        present = _present.get()
        own = (self.keys == (present.sum() if self.counts else present)).all(1)
        row = (own * torch.arange(1, len(own) + 1, device=own.device)).sum().view(1)  # 0 is the shared one
        chosen = {name: getattr(self, f"all_{name}").index_select(0, row)[0] for name in self.names}
        normalised: Tensor = functional_call(self.shared, chosen, (x,))
        return normalised


def powers_of_two(count: int) -> Tensor:
    """1, 2, 4, ... for ``code_of``."""
    return 2 ** torch.arange(count, dtype=torch.long)


def code_of(subset: Sequence[int]) -> int:
    """A number for each subset: the sum of 2^position."""
    return sum(2**position for position in subset)


def subset_key(name: str, in_chans: int) -> list[float]:
    """The presence vector of the subset that a bank's entry such as ``0_2`` names."""
    positions = {int(position) for position in name.split("_")}
    return [float(position in positions) for position in range(in_chans)]


def size_key(name: str) -> list[float]:
    """The number of channels that a bank's entry such as ``size_2`` names."""
    return [float(name.removeprefix("size_"))]
