"""A plain PyTorch module for one subset, with nothing of anychannel left in it.

The stem becomes an ordinary convolution with the subset's kernel (for a stem with a kernel for every image: with all
kernels that it mixes, whose features are then mixed instead), norm banks become the batch norm that the subset uses,
normalisation becomes a subtraction and a division, and batch norms that follow a convolution are folded into it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.classifier import Classifier
from anychannel.nn.replacing import replace_module
from anychannel.nn.stems import Stem
from anychannel.nn.subset_batchnorm import SubsetBatchNorm


class SpecializeError(ValueError):
    """The model cannot be turned into a plain module for this subset; the message says why."""


class _Leaf(fx.Tracer):
    """Traces into everything that is not PyTorch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """PyTorch's layers stay whole, and convolutions that pad by the image's size."""
        return isinstance(m, nn.Conv2d) or (m.__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential))


@torch.no_grad()
def specialize(model: Classifier, channels: ChannelSet | str | Sequence[str]) -> nn.Module:
    """A plain module that computes what ``model(images, channels=channels)`` does.

    Args:
        model: a classifier.
        channels: names of the subset's channels; the module takes images that hold just these, in this order.

    Returns:
        A module in evaluation mode, on the model's device: images (B, k, H, W), integers or floats of the weights'
        type, in the files' own units -> logits. Its output equals the model's to rounding. Where the network can be
        traced, it is an ``fx.GraphModule`` of PyTorch's own operations with batch norms folded into convolutions; where
        it cannot, only stem and norms are replaced, and a warning says so.

    Raises:
        ChannelError: a name is unknown or repeats.
        SpecializeError: the stem makes a kernel for every image that is no mixture of a bank of kernels.
    """
    order = model.channels.positions(channels)
    subset: Subset = tuple(sorted(order))
    backbone = copy.deepcopy(model.backbone).eval()
    for module in list(backbone.modules()):
        if isinstance(module, AdaptiveConv2d):
            replace_module(backbone, module, plain_stem(module.stem, subset, order))
        elif isinstance(module, SubsetBatchNorm):
            replace_module(backbone, module, module.choose(subset))
    plain = nn.Sequential(fixed_normalisation(model, order), backbone).eval()
    try:
        folded: nn.Module = fuse(untie(fx.GraphModule(plain, _Leaf().trace(plain))))
    except Exception as error:  # tracing runs the network's own code and may raise anything
        warnings.warn(
            f"{type(backbone).__name__} cannot be traced ({error}); its batch norms are left as they are", stacklevel=2
        )
        return plain
    return folded.eval()


def untie(traced: fx.GraphModule) -> fx.GraphModule:
    """Give every call of a layer that is called more than once a copy of its own.

    Folding changes a convolution's weights for the batch norm behind it, which is another one at each call of a layer
    that a network applies several times.
    """
    called: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            target = str(node.target)
            called[target] = called.get(target, 0) + 1
            if called[target] > 1:
                node.target = f"{target}_call_{called[target]}"
                traced.add_submodule(node.target, copy.deepcopy(traced.get_submodule(target)))
    traced.recompile()
    return traced


class MixedConvolution(nn.Module):
    """A stem with a kernel for every image, as one static convolution.

    A convolution is linear in its kernel: x * (sum_k w_k W_k) = sum_k w_k (x * W_k). So the bank's K kernels are
    convolved as one, K times as wide, and each image's weights mix the features.

    Args:
        stem: the stem, whose ``weights`` are computed image by image.
        bank: its kernels for the subset, (K, out, k, kh, kw).
        subset: the k channels.
        order: the same, in the order in which the images hold them.
    """

    def __init__(self, stem: Stem, bank: Tensor, subset: Subset, order: Sequence[int]) -> None:
        super().__init__()
        self.stem = stem
        self.subset = subset
        self.places = [order.index(position) for position in subset]
        self.conv = convolution(stem, bank.flatten(0, 1), None)
        self.bias = None if stem.bias is None else nn.Parameter(stem.bias.view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) -> (B, out, H', W')."""
        images = images[:, self.places]
        weights = self.stem.weights(images, self.subset)
        features: Tensor = self.conv(images).unflatten(1, (-1, self.stem.out_chans))
        mixed = (weights[:, :, None, None, None] * features).sum(1)
        return mixed if self.bias is None else mixed + self.bias


def plain_stem(stem: Stem, subset: Subset, order: Sequence[int]) -> nn.Module:
    """The stem for one subset as an ordinary convolution over channels in the given order."""
    if not stem.per_image:
        kernel: Tensor = stem.kernel(subset)  # type: ignore[operator]
        return convolution(stem, kernel[:, [subset.index(position) for position in order]], stem.bias_for(subset))
    bank = stem.bank(subset)
    if bank is None:
        raise SpecializeError(
            f"the {type(stem).__name__} makes a kernel for every image and names no bank of kernels that it mixes, "
            "so no static convolution equals it; use a stem such as completion"
        )
    mixed = MixedConvolution(stem, bank, subset, order).eval()
    return fx.GraphModule(mixed, _Leaf().trace(mixed))


def convolution(stem: Stem, kernel: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """An ordinary convolution that moves as the stem does."""
    geometry = stem.geometry
    if geometry.same:
        from timm.layers import Conv2dSame

        kind: type[nn.Conv2d] = Conv2dSame
    else:
        kind = nn.Conv2d
    conv = kind(
        kernel.shape[1],
        kernel.shape[0],
        geometry.kernel_size,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        bias=bias is not None,
        device=kernel.device,
        dtype=kernel.dtype,
    )
    conv.weight.copy_(kernel)
    if conv.bias is not None and bias is not None:
        conv.bias.copy_(bias)
    return conv


class FixedNormalisation(nn.Module):
    """(x - mean) / std, which makes floats of integers.

    Args:
        mean, std: (1, k, 1, 1).
        dtype: what the result is converted to; None leaves it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) -> (B, k, H, W)."""
        normalised = (images - self.mean) / self.std
        return normalised if self.dtype is None else normalised.to(self.dtype)


def fixed_normalisation(model: Classifier, order: Sequence[int]) -> nn.Module:
    """How the model normalises these channels, as operations of PyTorch alone."""
    chosen = list(order)
    mean, std = model.mean[:, chosen], model.std[:, chosen]
    dtype = None if mean.dtype == model.dtype else model.dtype
    return fx.symbolic_trace(FixedNormalisation(mean, std, dtype))
