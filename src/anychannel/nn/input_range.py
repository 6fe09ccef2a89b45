"""A warning, once for each model, if images have another range of values than its channel statistics expect.

A network that normalises by the statistics of 8-bit files gives almost the same answer to all images between 0 and 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from anychannel.channels import Subset
from anychannel.nn.subset_context import Shown

FAR = 10.0
"""A channel is far outside if its values are on average so many standard deviations from its mean in training."""
LARGE = 20.0
"""Statistics expect large values where mean + 3 standard deviations is above this."""
ABOUT_ONE = 1.1
"""Largest value of images between 0 and 1; resizing overshoots."""
FEW, SIDE = 8, 32
"""Number of images of a batch, and about their height and width in pixels, that are looked at."""


def has_values(images: Tensor) -> bool:
    """Whether a tensor's values can be read now; not so while a network is traced, compiled, exported or captured."""
    return (
        not torch.compiler.is_compiling()
        and type(images) is Tensor
        and images.device.type != "meta"
        and torch._C._get_tracing_state() is None
        and _get_current_dispatch_mode() is None
        and not torch._C._functorch.is_functorch_wrapped_tensor(images)
        and not (images.is_cuda and torch.cuda.is_current_stream_capturing())
    )


class InputRange:
    """Compares batches with a model's statistics until it has warned; copies of the model share it.

    On the CPU it looks at every batch. Elsewhere, where reading the result waits for the device, it looks at the first,
    second, fourth, eighth ...
    """

    def __init__(self) -> None:
        self.seen = 0
        self.warned = False

    def __deepcopy__(self, _: object) -> Self:
        return self

    @torch.no_grad()
    def look(
        self, images: Tensor, shows: Shown, planes: Subset, names: Sequence[str], mean: Tensor, std: Tensor
    ) -> None:
        """Warn if a part of images (B, k, H, W) looks wrong; parts take turns.

        ``planes`` has the images' channels, ``mean`` and ``std``, (C,), the statistics of all.
        """
        self.seen += 1
        shown = [part for part in shows.parts if len(part)]
        if not shown or (images.device.type != "cpu" and self.seen & (self.seen - 1)):
            return
        part = shown[self.seen % len(shown)]
        rows, columns = (max(size // SIDE, 1) for size in images.shape[2:])
        few = slice(part.start, part.stop, max(len(part) // FEW, 1))
        pixels = (images[few] if shows.order is None else images[shows.order[few]])[..., ::rows, ::columns]
        pixels, places = pixels.to(mean.dtype), list(part.subset)
        if len(places) != len(names):
            mean, std = mean[places], std[places]
        if part.subset != planes:
            pixels = pixels[:, [planes.index(place) for place in places]]
        problem = find_problem(pixels, mean, std, [names[place] for place in places])
        if problem:
            self.warned = True
            known = zip(places, mean.tolist(), std.tolist(), strict=True)
            warnings.warn(
                f"{problem}, but the model expects those of its training "
                f"({', '.join(f'{names[place]}: {m:.4g} +- {s:.4g}' for place, m, s in known)}); give images in the "
                "units of the files that it was trained on (it normalises them itself), or create a model with the "
                "statistics of these",
                stacklevel=9,  # the caller of the model
            )


def find_problem(pixels: Tensor, mean: Tensor, std: Tensor, names: Sequence[str]) -> str:
    """What is wrong with the values (n, k, h, w) of these channels; empty if nothing is.

    A channel that is 0 throughout (black, missing, no data) is not judged, nor are values that are not finite. Values
    are far only if they are so with and without the zeros, which may be no data.
    """
    values = pixels.transpose(0, 1).flatten(1)
    distance = (values - mean[:, None]).abs() / std[:, None]
    large = mean + 3 * std
    average, top, usual = torch.stack([distance.mean(1), values.amax(1), large]).amax(1).tolist()
    if average <= FAR and (top >= FAR or usual <= LARGE):  # the quick way; NaN takes the other
        return ""
    finite = values.isfinite()
    kept, distance, other = (torch.where(finite, each, 0) for each in (values, distance, values != 0))
    counts = torch.stack([finite.sum(1), other.sum(1)])
    averages = torch.stack([distance, distance * other]).sum(2) / counts.clamp(min=1)
    judged = counts[1] > 0
    if not judged.any():
        return ""
    low, high, whole = kept.min().item(), kept.max().item(), bool((kept == kept.round()).all(1)[judged].any())
    least = (mean - std)[judged].max().item()
    if not whole and large[judged].max() > LARGE:
        if low >= 0 and high <= ABOUT_ONE and (least > ABOUT_ONE or len(pixels) >= FEW):
            return "the images have values between 0 and 1"
        if -FAR < low < 0 and high < FAR and least > FAR:
            return f"the images have values from {low:.3g} to {high:.3g}, as if they were normalised already"
    for name, far, row in zip(names, (averages.amin(0) > FAR).tolist(), pixels.transpose(0, 1), strict=True):
        if far:
            return f"channel {name!r} of the images has values of {float(row.nanmean()):.4g} on average"
    return ""
