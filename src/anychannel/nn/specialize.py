"""A plain PyTorch module for one subset, without anychannel's modules.

The stem becomes an ordinary convolution with the subset's kernel. A stem whose kernel depends on the image becomes one
convolution with all of its basis kernels, followed by a mixing of their features. Each subset batch norm becomes the
subset's batch norm, normalisation becomes a subtraction and a division, and batch norms after a convolution are folded
into it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from anychannel.channels import Subset
from anychannel.nn.adaptive_conv import AdaptiveConv2d, ConvAttributes
from anychannel.nn.module_utils import plain_copy, replace_module, set_width
from anychannel.nn.outputs import find_logits
from anychannel.nn.stems import ConvGeometry, Stem
from anychannel.nn.subset_batchnorm import SubsetBatchNorm


class SpecializeError(ValueError):
    """The model cannot be turned into a plain module for this subset; the message says why."""


class _Leaf(fx.Tracer):
    """Traces into all modules but PyTorch's own and convolutions that pad by the image's size."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Whether a module becomes one node of the graph."""
        return isinstance(m, nn.Conv2d) or (m.__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential))


def traced(module: nn.Module) -> fx.GraphModule:
    """A module as a graph of PyTorch's operations."""
    return fx.GraphModule(module, _Leaf().trace(module))


@torch.no_grad()
def specialize_backbone(backbone: nn.Module, order: Sequence[int], mean: Tensor, std: Tensor) -> nn.Module:
    """A plain module that computes what a classifier with this backbone does for one subset.

    ``order`` has the subset's positions in the order of the module's images. ``mean`` and ``std``, (1, C, 1, 1), are
    the classifier's normalisation.
    """
    subset: Subset = tuple(sorted(order))
    plain = plain_copy(backbone).eval()
    for path, module in list(plain.named_modules()):
        if isinstance(module, AdaptiveConv2d):
            set_width(plain, path, module.in_channels, len(subset))
            replace_module(plain, module, plain_stem(module.stem, subset, order))
        elif isinstance(module, SubsetBatchNorm):
            replace_module(plain, module, module.choose(subset))
    dtype = next(backbone.parameters()).dtype
    places = list(order)
    normalisation = FixedNormalisation(mean[:, places], std[:, places], None if mean.dtype == dtype else dtype)
    whole = nn.Sequential(fx.symbolic_trace(normalisation), plain).eval()
    try:
        folded: nn.Module = fuse(untie(give_logits(traced(whole))))
    except Exception as error:  # tracing runs the network's own code and may raise anything
        warnings.warn(
            f"{type(backbone).__name__} cannot be traced ({error}); its batch norms are left as they are", stacklevel=3
        )
        return whole
    return folded.eval()


def give_logits(graph: fx.GraphModule) -> fx.GraphModule:
    """Let a graph of a network that gives a dictionary or a tuple return the logits alone, in place."""
    for node in graph.graph.nodes:
        if node.op == "output":
            node.args = (find_logits(node.args[0]),)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def untie(graph: fx.GraphModule) -> fx.GraphModule:
    """Copy a layer that is called more than once for each further call.

    Folding a batch norm into a convolution changes the convolution's weights, and each call of the same layer may have
    another batch norm after it.
    """
    called: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            target = str(node.target)
            called[target] = called.get(target, 0) + 1
            if called[target] > 1:
                node.target = f"{target}_call_{called[target]}"
                graph.add_submodule(node.target, copy.deepcopy(graph.get_submodule(target)))
    graph.recompile()
    return graph


def plain_stem(stem: Stem, subset: Subset, order: Sequence[int]) -> nn.Module:
    """The stem for one subset as an ordinary convolution of channels in the given order."""
    if not stem.per_image:
        kernel = stem.kernel(subset)[:, [subset.index(position) for position in order]]
        return convolution(stem.geometry, kernel, stem.bias_for(subset))
    basis = stem.basis_kernels(subset)
    if basis is None:
        raise SpecializeError(
            f"the {type(stem).__name__} makes a kernel for every image and has no basis kernels that it combines, "
            "so no static convolution equals it; use a stem such as completion"
        )
    return traced_convolution(MixedConvolution(stem, basis, subset, order).eval(), stem.geometry, stem.out_chans)


class MixedConvolution(ConvAttributes, nn.Module):
    """A stem with a kernel for every image, as one static convolution.

    A convolution is linear in its kernel: x * (sum_k w_k W_k) = sum_k w_k (x * W_k). So one convolution, K times as
    wide, applies the K basis kernels (K, out, k, kh, kw), and each image's coefficients mix the features. ``order`` has
    the channels of ``subset`` in the images' order.
    """

    def __init__(self, stem: Stem, basis: Tensor, subset: Subset, order: Sequence[int]) -> None:
        super().__init__()
        self.stem = stem
        self.subset = subset
        self.places = [order.index(position) for position in subset]
        self.conv = convolution(stem.geometry, basis.flatten(0, 1), None)
        self.offset = None if stem.bias is None else nn.Parameter(stem.bias.view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) -> (B, out, H', W')."""
        images = images[:, self.places]
        weights = self.stem.mixing_weights(images, self.subset)
        features: Tensor = self.conv(images).unflatten(1, (-1, self.stem.out_chans))
        mixed = (weights[:, :, None, None, None] * features).sum(1)
        return mixed if self.offset is None else mixed + self.offset


def convolution(geometry: ConvGeometry, kernel: Tensor, bias: Tensor | None) -> nn.Module:
    """An ordinary convolution with this kernel and bias."""
    out_chans, in_chans = kernel.shape[:2]
    conv = nn.Conv2d(
        in_chans, out_chans, geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation, bias=False
    )
    conv.weight = nn.Parameter(kernel.detach().clone())
    conv.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return traced_convolution(SamePadding(geometry, conv), geometry, out_chans) if geometry.same else conv


def traced_convolution(module: nn.Module, geometry: ConvGeometry, out_chans: int) -> nn.Module:
    """A stem as a graph, with the attributes of a convolution that networks read (see ``ConvAttributes``)."""
    graph, conv = traced(module), cast(Any, module.get_submodule("conv"))
    graph.register_buffer("weight", conv.weight.detach(), persistent=False)  # its type and device
    own = {name: getattr(geometry, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    for name, value in {"in_channels": conv.in_channels, "out_channels": out_chans, "groups": 1, **own}.items():
        setattr(graph, name, value)
    return graph


class SamePadding(nn.Module):
    """A convolution after padding that depends on the image's size."""

    def __init__(self, geometry: ConvGeometry, conv: nn.Conv2d) -> None:
        super().__init__()
        self.geometry = geometry
        self.conv = conv

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) -> (B, out, H', W')."""
        features: Tensor = self.conv(self.geometry.pad(images)[0])
        return features


class FixedNormalisation(nn.Module):
    """(x - mean) / std, with mean and std (1, k, 1, 1), converted to ``dtype`` if there is one."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) -> (B, k, H, W)."""
        normalised = (images - self.mean) / self.std
        return normalised if self.dtype is None else normalised.to(self.dtype)
