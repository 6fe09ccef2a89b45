"""Each stem as its source writes it: one image at a time, one plain convolution an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import Subset
from anychannel.nn.stems import ConvGeometry, KernelAttentionStem, MaskedStem, PerSizeStem, StaticStem
from anychannel.nn.stems.completion import CompletionStem
from anychannel.nn.stems.descriptor import DescriptorStem
from anychannel.nn.stems.dofa import DofaStem
from anychannel.nn.stems.generated import HypernetworkStem, TemplateStem
from anychannel.nn.stems.static import GreyStem, SlicedStem, TableStem


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


def may_copy(stem: CompletionStem, covariance: Tensor, one: int, other: int) -> bool:
    """Whether two channels have about the same mean and deviation in the files' units, and a high correlation."""
    zero, step = stem.levels
    deviations = [float(covariance[i, i]) ** 0.5 / float(step[i]) for i in (one, other)]
    means = [(float(stem.offset[i]) - float(zero[i])) / float(step[i]) for i in (one, other)]
    correlation = float(covariance[one, other]) / float(covariance[one, one] * covariance[other, other]) ** 0.5
    alike = max(deviations) <= 1.5 * min(deviations) and abs(means[0] - means[1]) <= 0.5 * min(deviations)
    return alike and correlation**2 >= 0.5 and correlation > 0


def completion(stem: CompletionStem, images: Tensor, subset: Subset) -> Tensor:
    """Estimate each missing channel at every pixel by linear regression, then convolve the completed image.

    Where the stem has them, each missing channel adds its ``presence`` to every place of the features, and what its
    ``residual`` kernels make of the present channels; so does a subset's own residual. Where channels have means,
    deviations from them are regressed. With ``grey_single`` one channel is copied to those that resemble it.
    """
    covariance = stem.covariance if stem.root is None else torch.mm(stem.root, stem.root.T)
    results = []
    for image in images:
        full = torch.stack([torch.zeros_like(image[0])] * stem.in_chans)
        constants = {}
        for plane, position in zip(image, subset, strict=True):
            full[position] = plane
        for position in set(range(stem.in_chans)) - set(subset):
            block = torch.stack([torch.stack([covariance[i, j] for j in subset]) for i in subset])
            strength = stem.ridge * sum(block[i, i] for i in range(len(subset))) / len(subset)
            block = block + strength * torch.eye(len(subset), dtype=block.dtype)
            coefficients = torch.inverse(block) @ torch.stack([covariance[position, j] for j in subset])
            full[position] = sum(c * plane for c, plane in zip(coefficients, image, strict=True))
            expected = sum(c * stem.offset[i] for c, i in zip(coefficients, subset, strict=True))
            constants[position] = stem.offset[position] - expected
            if len(subset) == 1 and stem.grey_single and may_copy(stem, covariance, subset[0], position):
                zero, one = stem.levels
                full[position] = one[position] / one[subset[0]] * image[0]
                constants[position] = zero[position] - one[position] / one[subset[0]] * zero[subset[0]]
        features = convolve_one(full, stem.weight, stem.bias, stem.geometry)
        for position in set(range(stem.in_chans)) - set(subset):
            constant = constants[position] * stem.weight[:, position].sum((1, 2))  # in the padding too
            features = features + constant[:, None, None]
            if stem.presence is not None:
                features = features + stem.presence[position][:, None, None]
            if stem.residual is not None:
                features = features + convolve_one(image, stem.residual[position][:, list(subset)], None, stem.geometry)
        if stem.residuals is not None and len(subset) < stem.in_chans:
            own = stem.residuals["_".join(str(position) for position in subset)]
            features = features + convolve_one(image, own, None, stem.geometry)
        results.append(features)
    return torch.stack(results)


def sliced(stem: SlicedStem, images: Tensor, subset: Subset) -> Tensor:
    """Scale the present channels up, leave the others out."""
    scale = (stem.in_chans / len(subset)) ** stem.power
    return torch.stack(
        [convolve_one(scale * image, stem.weight[:, list(subset)], stem.bias, stem.geometry) for image in images]
    )


def grey(stem: GreyStem, images: Tensor, subset: Subset) -> Tensor:
    """Fill the missing channels with the mean picture of the present ones."""
    results = []
    for image in images:
        full = torch.stack([image.sum(0) / len(subset)] * stem.in_chans)
        for plane, position in zip(image, subset, strict=True):
            full[position] = plane
        results.append(convolve_one(full, stem.weight, stem.bias, stem.geometry))
    return torch.stack(results)


def table(stem: TableStem, images: Tensor, subset: Subset) -> Tensor:
    """Look the kernel up."""
    kernel = stem.kernels["_".join(str(position) for position in subset)]
    return torch.stack([convolve_one(image, kernel, stem.bias, stem.geometry) for image in images])


def hypernetwork(stem: HypernetworkStem, images: Tensor, subset: Subset) -> Tensor:
    """Generate one slice after the other."""
    slices = []
    for position in subset:
        hidden = stem.hidden.weight @ stem.embedding[position] + stem.hidden.bias
        slices.append((stem.output.weight @ hidden + stem.output.bias).view(stem.out_chans, *stem.geometry.kernel_size))
    kernel = torch.stack(slices, dim=1)
    return torch.stack([convolve_one(image, kernel, stem.bias, stem.geometry) for image in images])


def template(stem: TemplateStem, images: Tensor, subset: Subset) -> Tensor:
    """Mix one slice after the other."""
    slices = [
        sum(c * one for c, one in zip(stem.coefficients[position], stem.templates, strict=True)) for position in subset
    ]
    kernel = torch.stack(slices, dim=1)
    return torch.stack([convolve_one(image, kernel, stem.bias, stem.geometry) for image in images])


def literal_features(stem, position: int) -> Tensor:
    """A channel's descriptor."""
    return stem.features_of_channels[position]


def descriptor_slices(stem: DescriptorStem, images: Tensor, subset: Subset) -> Tensor:
    """Generate one slice after the other, each from its channel's descriptor alone."""
    slices = []
    for position in subset:
        hidden = stem.hidden.weight @ literal_features(stem, position) + stem.hidden.bias
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
        slices.append((stem.output.weight @ hidden + stem.output.bias).view(stem.out_chans, *stem.geometry.kernel_size))
    kernel = torch.stack(slices, dim=1)
    return torch.stack([convolve_one(image, kernel, stem.bias, stem.geometry) for image in images])


def affine(layer, x: Tensor) -> Tensor:
    """W x + b."""
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)


def layer_norm(norm, x: Tensor) -> Tensor:
    """Standardise one vector."""
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + norm.eps) * norm.weight + norm.bias


def dofa(stem: DofaStem, images: Tensor, subset: Subset) -> Tensor:
    """Token by token and head by head."""
    waves = []
    for position in subset:
        wave = affine(stem.project, literal_features(stem, position))
        waves.append(wave + affine(stem.second, affine(stem.first, wave).clamp(min=0)).clamp(min=0))
    x = [*stem.tokens, *waves]
    size = len(x[0]) // stem.heads
    queries, keys, values = ([affine(layer, one) for one in x] for layer in (stem.query, stem.key, stem.value))
    slices = []
    for i, wave in enumerate(waves, start=len(stem.tokens)):
        heads = []
        for head in range(stem.heads):
            part = slice(head * size, (head + 1) * size)
            scores = torch.stack([queries[i][part] @ key[part] for key in keys]) / size**0.5
            shares = torch.exp(scores - scores.max())
            shares = shares / shares.sum()
            heads.append(sum(share * value[part] for share, value in zip(shares, values, strict=True)))
        token = layer_norm(stem.norm1, x[i] + affine(stem.merge, torch.cat(heads)))
        wide = affine(stem.widen, token)
        wide = 0.5 * wide * (1 + torch.erf(wide / 2**0.5))
        token = layer_norm(stem.norm2, token + affine(stem.narrow, wide))
        slices.append((0.01 * affine(stem.output, token + wave)).view(stem.out_chans, *stem.geometry.kernel_size))
    kernel = torch.stack(slices, dim=1)
    return torch.stack([convolve_one(image, kernel, stem.bias, stem.geometry) for image in images])


TWINS = {
    "descriptor": descriptor_slices,
    "dofa": dofa,
    "completion": completion,
    "sliced": sliced,
    "grey": grey,
    "table": table,
    "hypernetwork": hypernetwork,
    "template": template,
    "static": static,
    "masked": masked,
    "per_size": per_size,
    "kernel_attention": kernel_attention,
}
