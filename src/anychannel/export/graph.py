"""Capture a module as a ``torch.export`` program with a free batch size and, where possible, a free image size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.export import Dim, ExportedProgram

from anychannel.export.any_subset import TabledStem
from anychannel.nn.stems import Stem
from anychannel.utils.sizes import describe_size

LEAST_FREE = 33
"""Below 33 pixels the deepest maps of a network with a total stride of 32 are one pixel, which graphs treat apart."""


class CaptureError(ValueError):
    """PyTorch cannot turn the network into a graph; the message quotes why."""


@dataclass(frozen=True)
class Sizes:
    """Which image heights and widths a graph takes.

    Args:
        fixed: the one height and width, None where any are taken.
        least: smallest free height and width.
        multiple: free heights and widths are multiples of this.
    """

    fixed: tuple[int, int] | None
    least: int = 1
    multiple: int = 1

    def __str__(self) -> str:
        if self.fixed is not None:
            return describe_size(self.fixed)
        unit = "" if self.multiple == 1 else f"multiples of {self.multiple} "
        return f"any height and width, {unit}from {self.least} up"

    def example(self, wanted: tuple[int, int]) -> tuple[int, int]:
        """A height and width that the graph takes, ``wanted`` if it does."""
        if self.fixed is not None:
            return self.fixed
        height, width = (max(-(-side // self.multiple) * self.multiple, self.least) for side in wanted)
        return height, width


def candidates(image_size: tuple[int, int], *, free: bool) -> list[Sizes]:
    """What to try, freest first; every one of them takes ``image_size``."""
    wide = [Sizes(None, min(LEAST_FREE, *image_size))]
    if all(side % 32 == 0 and side > 32 for side in image_size):
        wide.append(Sizes(None, 64, 32))
    return [*(wide if free else []), Sizes(image_size)]


def capture(
    module: nn.Module, in_chans: int, image_size: tuple[int, int], *, presence: bool, free: bool = True
) -> tuple[ExportedProgram, Sizes]:
    """The module as a graph.

    Args:
        module: takes float images (B, in_chans, H, W), and with ``presence`` a bool vector (in_chans,).
        in_chans: channels of the images.
        image_size: height and width that the graph must take.
        presence: whether there is the second input.
        free: try to leave height and width free; networks that pad by the image's size keep theirs.

    Raises:
        CaptureError: even at a fixed size it cannot be captured.
    """
    pads_by_size = any(
        isinstance(part, Conv2dSame) or (isinstance(part, Stem | TabledStem) and part.geometry.same)
        for part in module.modules()
    )
    reason = ""
    for sizes in candidates(image_size, free=free and not pads_by_size):
        try:
            return torch.export.export(
                module.cpu(),
                examples(in_chans, sizes.example(image_size), presence),
                dynamic_shapes=shapes(sizes, presence),
            ), sizes
        except Exception as error:  # capturing runs the network's own code and may raise anything
            reason = str(error).partition("\n")[0]
    raise CaptureError(f"torch.export cannot capture this network at {describe_size(image_size)} pixels: {reason}")


def examples(in_chans: int, size: tuple[int, int], presence: bool) -> tuple[torch.Tensor, ...]:
    """Inputs to trace with; two images, since a batch of one would be taken for a constant."""
    images = torch.linspace(0, 1, 2 * in_chans * size[0] * size[1]).view(2, in_chans, *size)
    return (images, torch.ones(in_chans, dtype=torch.bool)) if presence else (images,)


def shapes(sizes: Sizes, presence: bool) -> tuple[Any, ...]:
    """Which dimensions are free."""
    free: dict[int, Any] = {0: Dim("batch")}
    if sizes.fixed is None:
        least = sizes.least // sizes.multiple
        for axis, name in ((2, "height"), (3, "width")):
            dimension = Dim(name, min=least)
            free[axis] = dimension if sizes.multiple == 1 else sizes.multiple * dimension
    return (free, None) if presence else (free,)
