"""Report, Task I, v2 (and, with the ``dropout`` sampler, v4): a kernel generator for each subset size."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry, Stem
from anychannel.nn.stems.per_image import describe, generated_basis, per_image_conv2d, with_one


class PerSizeStem(Stem):
    """For n channels, Linear(n -> out * n * kh * kw) maps their descriptor to one kernel an image.

    The generator knows how many channels it gets, not which: two pairs share their generator.
    """

    per_image: ClassVar[bool] = True

    def __init__(self, in_chans: int, out_chans: int, geometry: ConvGeometry, bias: bool = False) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        area = geometry.kernel_size[0] * geometry.kernel_size[1]
        self.generators = nn.ModuleList(nn.Linear(n, out_chans * n * area) for n in range(1, in_chans + 1))
        self.initialise_from(self.random_kernel(), None)

    def features(self, images: Tensor, subset: Subset) -> Tensor:
        """Generate each image's kernel with the generator of this size and convolve."""
        size = len(subset)
        kernels = self.generators[size - 1](describe(images))
        kernels = kernels.view(-1, self.out_chans, size, *self.geometry.kernel_size)
        return per_image_conv2d(images, kernels, self.bias, self.geometry)

    def basis_kernels(self, subset: Subset) -> Tensor:
        """The kernels in the generator of this size."""
        generator = self.generators[len(subset) - 1]
        assert isinstance(generator, nn.Linear)
        return generated_basis(generator, self.out_chans, self.geometry.kernel_size)

    def mixing_weights(self, images: Tensor, subset: Subset) -> Tensor:  # noqa: ARG002
        """The descriptor."""
        return with_one(describe(images))

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """The full set's generator starts at the kernel; a smaller one at n channels drawn evenly from it.

        A smaller kernel is scaled by C/n, so that its response keeps the size of the full one's.
        """
        scale = float(weight.std()) if weight.numel() > 1 else 1.0
        for n, module in enumerate(self.generators, start=1):
            assert isinstance(module, nn.Linear)
            picked = torch.linspace(0, self.in_chans - 1, n).round().long()
            module.bias.copy_((weight[:, picked] * (self.in_chans / n)).flatten())
            nn.init.normal_(module.weight, std=scale / n**0.5)
        self.copy_bias(bias)
