"""Convolution of each image with its own kernel, and the descriptor from which the kernels are computed."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry


def describe(images: Tensor) -> Tensor:
    """Descriptor d(x): the spatial mean of each channel, (B, k, H, W) -> (B, k)."""
    return F.adaptive_avg_pool2d(images, 1).flatten(1)


def scatter(values: Tensor, subset: Subset, in_chans: int) -> Tensor:
    """Place (B, k) values at the subset's positions of (B, C); the missing channels are zero."""
    if len(subset) == in_chans:
        return values
    places = [subset.index(channel) if channel in subset else len(subset) for channel in range(in_chans)]
    return F.pad(values, (0, 1))[:, places]


def of_channels(kernels: Tensor, subset: Subset) -> Tensor:
    """The kernels (K, out, C, kh, kw) of a subset's channels, without a copy for all channels."""
    return kernels if len(subset) == kernels.shape[2] else kernels[:, :, list(subset)]


def generated_basis(generator: nn.Linear, out_chans: int, kernel_size: tuple[int, int]) -> Tensor:
    """The kernels that a linear generator mixes with ``with_one(descriptor)``: (1 + inputs, out, channels, kh, kw)."""
    return torch.cat([generator.bias[None], generator.weight.T]).view(
        1 + generator.in_features, out_chans, -1, *kernel_size
    )


def with_one(values: Tensor) -> Tensor:
    """Put a one before each row, for the generator's bias: (B, n) -> (B, 1 + n)."""
    return F.pad(values, (1, 0), value=1.0)


def per_image_conv2d(images: Tensor, weights: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """Convolve image i with kernel i: (B, k, H, W) and (B, out, k, kh, kw) -> (B, out, H', W').

    The batch becomes the groups of one convolution: (1, B*k, H, W) with (B*out, k, kh, kw). On a CPU it runs in
    float32 even under autocast, since grouped bfloat16 convolutions are several times slower there.
    """
    kind, (batch, out) = images.device.type, weights.shape[:2]
    if kind == "cpu":
        dtype = torch.promote_types(torch.promote_types(images.dtype, weights.dtype), torch.float32)
        images, weights = images.to(dtype), weights.to(dtype)
    images, padding = geometry.pad(images)
    joined, kernels = images.reshape(1, -1, *images.shape[2:]), weights.flatten(0, 1)
    repeated = None if bias is None else bias.to(kernels.dtype).repeat(batch)
    exact = kind == "cpu" and torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False) if exact else nullcontext():
        result = F.conv2d(joined, kernels, repeated, geometry.stride, padding, geometry.dilation, groups=batch)
    return result.view(batch, out, *result.shape[2:])
