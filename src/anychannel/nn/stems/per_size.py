"""Report, Task I, v2 (and, with the ``dropout`` sampler, v4): a kernel generator for each subset size."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import Stem, StemShape
from anychannel.nn.stems.per_image import describe, generated_basis, per_image_conv2d, with_one


class PerSizeStem(Stem):
    """For n channels, Linear(n -> out * n * kh * kw) maps an image's descriptor to its kernel.

    All subsets of the same size share one generator.
    """

    per_image: ClassVar[bool] = True

    def __init__(self, shape: StemShape) -> None:
        super().__init__(shape)
        self.generators = nn.ModuleList(nn.Linear(n, n * self.slice_size) for n in range(1, self.in_chans + 1))
        self.initialise_from(self.random_kernel(), None)

    def features(self, images: Tensor, subset: Subset) -> Tensor:
        size = len(subset)
        kernels = self.generators[size - 1](describe(images))
        kernels = kernels.view(-1, self.out_chans, size, *self.geometry.kernel_size)
        return per_image_conv2d(images, kernels, self.bias, self.geometry)

    def basis_kernels(self, subset: Subset) -> Tensor:
        generator = self.generators[len(subset) - 1]
        assert isinstance(generator, nn.Linear)
        return generated_basis(generator, self.out_chans, self.geometry.kernel_size)

    def mixing_weights(self, images: Tensor, subset: Subset) -> Tensor:  # noqa: ARG002
        return with_one(describe(images))

    def initialise(self, weight: Tensor) -> None:
        """Start the generator for n channels at n evenly spaced slices, times C/n to keep the response's size."""
        scale = float(weight.std()) if weight.numel() > 1 else 1.0
        for n, module in enumerate(self.generators, start=1):
            assert isinstance(module, nn.Linear)
            picked = torch.linspace(0, self.in_chans - 1, n).round().long()
            module.bias.copy_((weight[:, picked] * (self.in_chans / n)).flatten())
            nn.init.normal_(module.weight, std=scale / n**0.5)
