"""One learned kernel for all subsets: its slices as they are, scaled up, or with the missing ones shared out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry, Stem


class StaticStem(Stem):
    """The plain convolution: a missing channel contributes nothing; on the full set exactly ``nn.Conv2d``.

    Leaving out the missing channels' slices gives what zeros in their place give, zero being a channel's mean after
    normalisation, and costs less.
    """

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


class SlicedStem(StaticStem):
    """The present channels' slices times (C/k)^power; on the full set exactly ``nn.Conv2d``.

    CHAMMI (Chen et al., NeurIPS 2023, https://arxiv.org/abs/2310.19224) calls the unscaled slices SliceParam. Scaling
    by C/k keeps the sum of the response, as inverted dropout does, and by sqrt(C/k) its variance if the channels are
    independent.

    Args:
        in_chans, out_chans, geometry, bias: see ``Stem``.
        power: 1 scales by C/k, 0.5 by sqrt(C/k); 0 is ``static``.
    """

    def __init__(
        self, in_chans: int, out_chans: int, geometry: ConvGeometry, bias: bool = False, *, power: float = 1.0
    ) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        if not 0 <= power <= 1:
            raise ValueError(f"power must be between 0 and 1, got {power}")
        self.power = power

    def kernel(self, subset: Subset) -> Tensor:
        """Scaled slices."""
        scale: float = (self.in_chans / len(subset)) ** self.power
        return super().kernel(subset) * scale

    def kernel_where(self, present: Tensor) -> Tensor:
        """Scaled slices."""
        return super().kernel_where(present) * (self.in_chans / present.sum()) ** self.power


class GreyStem(StaticStem):
    """A missing channel is taken to be the mean of the present ones; on the full set exactly ``nn.Conv2d``.

    Its slice is shared out evenly among theirs. For one channel this is what timm does with a pretrained RGB stem
    (``adapt_input_conv``: the kernel summed over its input channels).
    """

    def kernel(self, subset: Subset) -> Tensor:
        """Present slices plus the mean share of the missing ones' sum."""
        if len(subset) == self.in_chans:
            return self.weight
        present = self.weight[:, list(subset)]
        missing = self.weight.sum(1, keepdim=True) - present.sum(1, keepdim=True)
        return present + missing / len(subset)

    def kernel_where(self, present: Tensor) -> Tensor:
        """Present slices plus the mean share of the missing ones' sum."""
        missing = super().kernel_where(1 - present).sum(1, keepdim=True)
        return super().kernel_where(present) + missing * (present / present.sum())[:, None, None]
