"""Each stem as its source writes it: one image at a time, one plain convolution an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import Subset
from anychannel.stems import ConvGeometry, KernelAttentionStem, MaskedStem, PerSizeStem, StaticStem


def convolve_one(image: Tensor, kernel: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """One image (k, H, W) with one kernel (out, k, kh, kw)."""
    return F.conv2d(image[None], kernel, bias, geometry.stride, geometry.padding, geometry.dilation)[0]


def descriptor(image: Tensor) -> Tensor:
    """Mean of each channel, summed position by position."""
    return torch.stack([plane.sum() / plane.numel() for plane in image])


def static(stem: StaticStem, images: Tensor, subset: Subset) -> Tensor:
    """Feed zeros for the missing channels to the whole kernel."""
    results = []
    for image in images:
        full = image.new_zeros(stem.in_chans, *image.shape[1:])
        for plane, position in zip(image, subset, strict=True):
            full[position] = plane
        results.append(convolve_one(full, stem.weight, stem.bias, stem.geometry))
    return torch.stack(results)


def masked(stem: MaskedStem, images: Tensor, subset: Subset) -> Tensor:
    """Mask the descriptor, generate the whole kernel, and use it on the image with its other channels masked."""
    results = []
    for image in images:
        full = image.new_zeros(stem.in_chans, *image.shape[1:])
        for plane, position in zip(image, subset, strict=True):
            full[position] = plane
        generated = stem.generator.weight @ descriptor(full) + stem.generator.bias
        kernel = generated.view(stem.out_chans, stem.in_chans, *stem.geometry.kernel_size)
        results.append(convolve_one(full, kernel, stem.bias, stem.geometry))
    return torch.stack(results)


def per_size(stem: PerSizeStem, images: Tensor, subset: Subset) -> Tensor:
    """Generate a kernel with the generator for this many channels."""
    layer = stem.generators[len(subset) - 1]
    results = []
    for image in images:
        generated = layer.weight @ descriptor(image) + layer.bias
        kernel = generated.view(stem.out_chans, len(subset), *stem.geometry.kernel_size)
        results.append(convolve_one(image, kernel, stem.bias, stem.geometry))
    return torch.stack(results)


def kernel_attention(stem: KernelAttentionStem, images: Tensor, subset: Subset) -> Tensor:
    """Sum the K kernels with their attention, one after the other."""
    results = []
    for image in images:
        described = image.new_zeros(stem.in_chans)
        described[list(subset)] = descriptor(image)
        hidden = (stem.squeeze.weight @ described + stem.squeeze.bias).clamp(min=0)
        scores = (stem.attend.weight @ hidden + stem.attend.bias) / stem.temperature
        exponentials = torch.exp(scores - scores.max())
        kernel = torch.zeros_like(stem.kernels[0])
        for share, candidate in zip(exponentials / exponentials.sum(), stem.kernels, strict=True):
            kernel = kernel + share * candidate
        results.append(convolve_one(image, kernel[:, list(subset)], stem.bias, stem.geometry))
    return torch.stack(results)


TWINS = {"static": static, "masked": masked, "per_size": per_size, "kernel_attention": kernel_attention}
