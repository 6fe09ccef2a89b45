"""The plain convolution: a missing channel contributes nothing.

Leaving out the missing channels' slices of the kernel gives what feeding zeros gives, zero being a channel's mean
after normalisation; it only costs less.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry, Stem


class StaticStem(Stem):
    """One learned kernel (out, C, kh, kw) for all subsets; on the full set exactly ``nn.Conv2d``."""

    def __init__(self, in_chans: int, out_chans: int, geometry: ConvGeometry, bias: bool = False) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        self.weight = nn.Parameter(self.random_kernel())

    def kernel(self, subset: Subset) -> Tensor:
        """The slices of the channels that are there."""
        return self.weight if len(subset) == self.in_chans else self.weight[:, list(subset)]

    def kernel_where(self, present: Tensor) -> Tensor:
        """The slices of the channels that are there."""
        return self.weight * present[:, None, None]

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Copy the convolution."""
        self.weight.copy_(weight)
        self.copy_bias(bias)
