"""Capture a module as a ``torch.export`` program with a free batch size and, if possible, a free image size."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.export import Dim, ExportedProgram

from anychannel.export.any_subset import TabledStem
from anychannel.export.formats import ExportError
from anychannel.nn.stems import Stem
from anychannel.utils.sizes import describe_size

LEAST_FREE = 33
"""Below 33 pixels, the last feature map of a network with stride 32 is one pixel, which a graph treats as constant."""


@dataclass(frozen=True)
class Sizes:
    """Heights and widths that a graph accepts: only ``fixed``, or all multiples of ``multiple`` from ``least`` up."""

    fixed: tuple[int, int] | None
    least: int = 1
    multiple: int = 1

    def __str__(self) -> str:
        if self.fixed is not None:
            return describe_size(self.fixed)
        unit = "" if self.multiple == 1 else f"multiples of {self.multiple} "
        return f"any height and width, {unit}from {self.least} up"

    def example(self, wanted: tuple[int, int]) -> tuple[int, int]:
        """An accepted height and width: ``wanted`` if possible."""
        if self.fixed is not None:
            return self.fixed
        height, width = (max(-(-side // self.multiple) * self.multiple, self.least) for side in wanted)
        return height, width


def candidates(image_size: tuple[int, int], *, free: bool) -> list[Sizes]:
    """The sizes to try, from free to fixed. All of them include ``image_size``."""
    wide = [Sizes(None, min(LEAST_FREE, *image_size))]
    if all(side % 32 == 0 and side > 32 for side in image_size):
        wide.append(Sizes(None, 64, 32))
    return [*(wide if free else []), Sizes(image_size)]


def capture(
    module: nn.Module, in_chans: int, image_size: tuple[int, int], *, presence: bool, free: bool = True
) -> tuple[ExportedProgram, Sizes]:
    """Capture a module as a graph that accepts images of ``image_size`` (height and width).

    The module takes (B, in_chans, H, W) float images and, with ``presence``, an (in_chans,) bool vector. ``free`` tries
    to leave height and width free; networks whose padding depends on the image size stay fixed.
    """
    pads_by_size = any(
        isinstance(part, Conv2dSame) or (isinstance(part, Stem | TabledStem) and part.geometry.same)
        for part in module.modules()
    )

    def trace(sizes: Sizes) -> tuple[ExportedProgram, Sizes]:
        height, width = sizes.example(image_size)
        images = torch.linspace(0, 1, 2 * in_chans * height * width)  # two, because a batch of one becomes a constant
        axes: dict[int, Any] = {0: Dim("batch")}
        if sizes.fixed is None:
            for axis, name in ((2, "height"), (3, "width")):
                dimension = Dim(name, min=sizes.least // sizes.multiple)
                axes[axis] = dimension if sizes.multiple == 1 else sizes.multiple * dimension
        inputs = (images.view(2, in_chans, height, width), torch.ones(in_chans, dtype=torch.bool))
        count = 2 if presence else 1
        return torch.export.export(module.cpu(), inputs[:count], dynamic_shapes=(axes, None)[:count]), sizes

    *freer, fixed = candidates(image_size, free=free and not pads_by_size)
    for sizes in freer:
        with suppress(Exception):  # the network's own code runs; any error will show again at the fixed size
            return trace(sizes)
    try:
        return trace(fixed)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"torch.export cannot capture this network at {describe_size(image_size)} pixels: {reason}"
        ) from error
