"""A free kernel for every subset: the most that a static stem can do, at a cost that doubles with every channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.stems.base import ConvGeometry, Stem

MOST_CHANNELS = 8


class TableStem(Stem):
    """2^C - 1 independent kernels, one for each non-empty subset.

    Raises:
        ValueError: more than ``MOST_CHANNELS`` channels.
    """

    def __init__(self, in_chans: int, out_chans: int, geometry: ConvGeometry, bias: bool = False) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        self.subsets = every_subset(in_chans, "the table stem", "completion, which does not grow with the subsets")
        self.kernels = nn.ParameterDict(
            {label(subset): torch.empty(out_chans, len(subset), *geometry.kernel_size) for subset in self.subsets}
        )
        for kernel in self.kernels.values():
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def kernel(self, subset: Subset) -> Tensor:
        """The subset's own kernel."""
        kernel: Tensor = self.kernels[label(subset)]
        return kernel

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Each kernel starts at the convolution's slices, scaled by C/k."""
        for subset in self.subsets:
            self.kernel(subset).copy_(weight[:, list(subset)] * (self.in_chans / len(subset)))
        self.copy_bias(bias)


def every_subset(in_chans: int, holder: str, instead: str) -> list[Subset]:
    """The subsets for each of which something holds a kernel.

    Raises:
        ValueError: there are more than ``MOST_CHANNELS`` channels; the message says what to use instead.
    """
    if in_chans > MOST_CHANNELS:
        raise ValueError(
            f"{holder} holds a kernel for each of 2^C subsets and takes at most {MOST_CHANNELS} channels, "
            f"got {in_chans}; use {instead}"
        )
    return ChannelSet(tuple(str(i) for i in range(in_chans))).subsets()


def label(subset: Subset) -> str:
    """A subset as a parameter's name."""
    return "_".join(str(position) for position in subset)
