"""Static kernels: one for all subsets, used as it is, scaled, or with the missing slices shared out; or one each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.stems.base import Stem, StemShape
from anychannel.nn.subset_batchnorm import by_subset

MOST_CHANNELS = 8
"""For a kernel for each subset."""


class StaticStem(Stem):
    """The plain convolution without the missing channels' slices; on the full set exactly ``nn.Conv2d``.

    The result is that of filling missing channels with zeros, their mean after normalisation, at a lower cost.
    """

    def __init__(self, shape: StemShape) -> None:
        super().__init__(shape)
        self.weight = nn.Parameter(self.random_kernel())

    def kernel(self, subset: Subset) -> Tensor:
        return self.weight if len(subset) == self.in_chans else self.weight[:, list(subset)]

    @property
    def estimates(self) -> bool:
        return defining(type(self), "kernel") is defining(type(self), "estimate")

    def estimate(self, subset: Subset) -> Tensor:
        return self.units()[:, list(subset)]

    def estimate_where(self, present: Tensor) -> Tensor:
        return self.units() * present

    def units(self) -> Tensor:
        """The identity (C, C), on the kernel's device and in its precision."""
        return torch.eye(self.in_chans, dtype=self.weight.dtype, device=self.weight.device)

    def kernel_where(self, present: Tensor) -> Tensor:
        return self.weight * present[:, None, None]

    def initialise(self, weight: Tensor) -> None:
        """Copy the convolution."""
        self.weight.copy_(weight)


class SlicedStem(StaticStem):
    """The present channels' slices times (C/k)^power; on the full set exactly ``nn.Conv2d``.

    CHAMMI (Chen et al., NeurIPS 2023, https://arxiv.org/abs/2310.19224) calls the unscaled slices SliceParam. Scaling
    by C/k keeps the sum of the response, as inverted dropout does, and by sqrt(C/k) its variance if the channels are
    independent. ``power`` 0 is ``static``.
    """

    def __init__(self, shape: StemShape, *, power: float = 1.0) -> None:
        super().__init__(shape)
        if not 0 <= power <= 1:
            raise ValueError(f"power must be between 0 and 1, got {power}")
        self.power = power

    def kernel(self, subset: Subset) -> Tensor:
        scale: float = (self.in_chans / len(subset)) ** self.power
        return super().kernel(subset) * scale

    def estimate(self, subset: Subset) -> Tensor:
        scale: float = (self.in_chans / len(subset)) ** self.power
        return super().estimate(subset) * scale

    def estimate_where(self, present: Tensor) -> Tensor:
        return super().estimate_where(present) * (self.in_chans / present.sum()) ** self.power

    def kernel_where(self, present: Tensor) -> Tensor:
        return super().kernel_where(present) * (self.in_chans / present.sum()) ** self.power


class GreyStem(StaticStem):
    """Replaces a missing channel by the mean of the present ones; on the full set exactly ``nn.Conv2d``.

    The missing slices are added to the present ones in equal shares. For one channel timm does the same with a
    pretrained RGB stem (``adapt_input_conv`` sums the kernel over its input channels).
    """

    def kernel(self, subset: Subset) -> Tensor:
        if len(subset) == self.in_chans:
            return self.weight
        present = self.weight[:, list(subset)]
        missing = self.weight.sum(1, keepdim=True) - present.sum(1, keepdim=True)
        return present + missing / len(subset)

    def estimate(self, subset: Subset) -> Tensor:
        units = self.units()
        missing = 1 - units[list(subset)].sum(0)
        return units[:, list(subset)] + missing[:, None] / len(subset)

    def estimate_where(self, present: Tensor) -> Tensor:
        return self.units() * present + torch.outer(1 - present, present / present.sum())

    def kernel_where(self, present: Tensor) -> Tensor:
        missing = super().kernel_where(1 - present).sum(1, keepdim=True)
        return super().kernel_where(present) + missing * (present / present.sum())[:, None, None]


def defining(kind: type, name: str) -> type:
    """The class that a method comes from."""
    return next(each for each in kind.__mro__ if name in vars(each))


class TableStem(Stem):
    """An independent kernel for each non-empty subset, the most that a static stem can do: 2^C - 1 kernels."""

    def __init__(self, shape: StemShape) -> None:
        super().__init__(shape)
        self.subsets = every_subset(self.in_chans, "the table stem", "completion, which does not grow with the subsets")
        size = self.geometry.kernel_size
        self.kernels = nn.ParameterDict(
            {by_subset(subset): torch.empty(self.out_chans, len(subset), *size) for subset in self.subsets}
        )
        for kernel in self.kernels.values():
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def kernel(self, subset: Subset) -> Tensor:
        kernel: Tensor = self.kernels[by_subset(subset)]
        return kernel

    def initialise(self, weight: Tensor) -> None:
        """Each kernel starts at the convolution's slices, scaled by C/k."""
        for subset in self.subsets:
            self.kernel(subset).copy_(weight[:, list(subset)] * (self.in_chans / len(subset)))


def every_subset(in_chans: int, holder: str, instead: str) -> list[Subset]:
    """All subsets of at most ``MOST_CHANNELS`` channels; with more, ``holder`` and ``instead`` fill the message."""
    if in_chans > MOST_CHANNELS:
        raise ValueError(
            f"{holder} holds a kernel for each of 2^C subsets and takes at most {MOST_CHANNELS} channels, "
            f"got {in_chans}; use {instead}"
        )
    return ChannelSet(tuple(str(i) for i in range(in_chans))).subsets()
