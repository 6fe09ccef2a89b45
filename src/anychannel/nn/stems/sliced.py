"""Slices of one kernel, scaled up for the channels that are missing.

CHAMMI (Chen et al., NeurIPS 2023, https://arxiv.org/abs/2310.19224) calls the unscaled slices SliceParam; scaling by
C/k keeps the sum of the response, as inverted dropout does, and by sqrt(C/k) its variance if the channels are
independent.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry
from anychannel.nn.stems.static import StaticStem


class SlicedStem(StaticStem):
    """The present channels' slices times (C/k)^power; on the full set exactly ``nn.Conv2d``.

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

    def options(self) -> dict[str, Any]:
        """The scale's power."""
        return {"power": self.power}
