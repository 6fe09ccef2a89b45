"""One graph for every subset: it takes images with all channels, and a vector of the channels that are present.

The graph computes the stem's kernel and the norms' statistics from the vector. They equal those of the model for that
subset.
"""

from __future__ import annotations

from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anychannel.channels import ChannelSet
from anychannel.evaluation import choose_subsets
from anychannel.nn.adaptive_conv import AdaptiveConv2d, ConvAttributes
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import plain_copy, replace_module
from anychannel.nn.outputs import logits_of
from anychannel.nn.specialize import MixedConvolution
from anychannel.nn.stems import STEMS, Stem
from anychannel.nn.subset_batchnorm import SubsetBatchNorm, by_size

MOST_TABLED = 8
"""Channels up to which a stem without a closed form gets a table of all its 2^C - 1 kernels."""

_present: ContextVar[Tensor] = ContextVar("present")
"""The (C,) vector of the forward pass that is under way, for its stem and norms: 1 for the present channels, else 0."""


class AnySubsetError(ValueError):
    """One graph cannot take every subset of this model; the message names the stems that allow it."""


class AnySubset(nn.Module):
    """A copy of a classifier as a function of images and of the channels that they hold."""

    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())
        self.backbone = plain_copy(model.backbone)
        for module in list(self.backbone.modules()):
            if isinstance(module, AdaptiveConv2d):
                replace_module(self.backbone, module, stem_of_presence(module.stem))
            elif isinstance(module, SubsetBatchNorm):
                replace_module(self.backbone, module, PresenceNorm(module, len(model.channels)))
        self.eval()

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """Compute (B, num_classes) logits.

        ``images`` are (B, C, H, W) floats in the files' units with all channels in the model's order. ``present`` is a
        (C,) bool vector, True for the channels that the images have, at least one. The planes of the others may hold
        anything.
        """
        normalised = (images - self.mean) / self.std
        token = _present.set(present.to(self.mean.dtype))
        try:
            return logits_of(self.backbone(torch.where(present.view(1, -1, 1, 1), normalised, 0.0)))
        finally:
            _present.reset(token)


def stem_of_presence(stem: Stem) -> nn.Module:
    """Turn a stem into a module that takes images with all channels. The planes of missing channels are zero."""
    everything = tuple(range(stem.in_chans))
    if stem.zero_is_missing and (basis := stem.basis_kernels(everything)) is not None:
        return MixedConvolution(stem, basis.detach(), everything, everything)
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
    """Whether ``kernel_where`` gives the stem's kernels; an inherited one may not fit a subclass's ``kernel``."""
    numbered = ChannelSet(tuple(map(str, range(stem.in_chans))))
    for subset in choose_subsets(numbered)[0]:
        present = torch.tensor([float(position in subset) for position in range(stem.in_chans)])
        kernel = stem.kernel(subset)
        found, bias, own = stem.kernel_where(present), stem.bias_where(present), stem.bias_for(subset)
        if found is None or not close(found[:, list(subset)], kernel) or not close(bias, own):
            return False
    return True


def close(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors differ by rounding only, at most 2 %; it reaches 0.1 % if channels repeat each other."""
    if a is None or b is None:
        return a is b
    return bool((a - b).abs().max() <= 0.02 * b.abs().max())


class PresenceStem(ConvAttributes, nn.Module):
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


class TabledStem(ConvAttributes, nn.Module):
    """A stem with a table of the kernels and biases of all subsets, numbered by the sum of 2^position."""

    kernels: Tensor
    biases: Tensor | None
    powers: Tensor

    @torch.no_grad()
    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.__dict__["stem"] = stem  # for its attributes; the graph needs none of its weights
        self.geometry = stem.geometry
        kernels = torch.zeros(2**stem.in_chans, stem.out_chans, stem.in_chans, *stem.geometry.kernel_size)
        biases = torch.zeros(2**stem.in_chans, stem.out_chans)
        has_bias = False
        for subset in ChannelSet(tuple(map(str, range(stem.in_chans)))).subsets():
            row = sum(2**position for position in subset)
            kernels[row][:, list(subset)] = stem.kernel(subset)
            if (bias := stem.bias_for(subset)) is not None:
                biases[row], has_bias = bias, True
        self.register_buffer("kernels", kernels)
        self.register_buffer("biases", biases if has_bias else None)
        self.register_buffer("powers", 2 ** torch.arange(stem.in_chans))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H', W')."""
        row = (_present.get().long() * self.powers).sum().view(1)
        bias = None if self.biases is None else self.biases.index_select(0, row)[0]
        return self.geometry.convolve(images, self.kernels.index_select(0, row)[0], bias)


class PresenceNorm(nn.Module):
    """A subset batch norm in which the presence vector picks the statistics."""

    keys: Tensor

    def __init__(self, norm: SubsetBatchNorm, in_chans: int) -> None:
        super().__init__()
        self.shared = norm.shared
        self.counts = norm.key is by_size
        keys = torch.zeros(len(norm.entries), 1 if self.counts else in_chans)
        for row, name in zip(keys, norm.entries, strict=True):
            if self.counts:  # "size_2": the number of channels
                row[0] = int(name.removeprefix("size_"))
            else:  # "0_2": the presence vector of the subset
                row[[int(position) for position in name.split("_")]] = 1
        self.nearest = norm.nearest is not None
        if self.nearest:  # the full set, whose norm is the shared one, comes first
            keys = torch.cat([torch.ones(1, in_chans), keys])
        self.register_buffer("keys", keys)
        norms = [norm.shared, *norm.entries.values()]
        states = [dict(each.named_parameters()) | dict(each.named_buffers()) for each in norms]
        self.names = [name for name, value in states[0].items() if value.ndim == 1]
        for name in self.names:
            self.register_buffer(f"all_{name}", torch.stack([state[name].detach() for state in states]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> the same shape."""
        present = _present.get()
        if self.nearest:  # as ``find_nearest``
            sizes = self.keys.sum(1).long() + (self.keys < present).any(1) * self.keys.shape[1]
            places = torch.arange(len(sizes), device=sizes.device)
            row = (sizes * len(sizes) + places).min().remainder(len(sizes)).view(1)
        else:
            own = (self.keys == (present.sum() if self.counts else present)).all(1)
            row = (own * torch.arange(1, len(own) + 1, device=own.device)).sum().view(1)  # 0 is the shared one
        chosen = {name: getattr(self, f"all_{name}").index_select(0, row)[0] for name in self.names}
        normalised: Tensor = functional_call(self.shared, chosen, (x,))
        return normalised
