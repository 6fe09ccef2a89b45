"""Grey replicate: every missing channel is taken to be the mean of the present ones.

For one channel this is what timm does with a pretrained RGB stem (``adapt_input_conv``: the kernel summed over its
input channels).
"""

from __future__ import annotations

from torch import Tensor

from anychannel.channels import Subset
from anychannel.nn.stems.static import StaticStem


class GreyStem(StaticStem):
    """A missing channel's slice is shared out evenly among the present ones; on the full set ``nn.Conv2d``."""

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
