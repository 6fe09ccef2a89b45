"""A warning, once for each model, if images have another range of values than the model's channel statistics expect.

A network that normalises images by the mean and standard deviation of 8-bit files gives almost the same answer to any
image between 0 and 1: each pixel is about two standard deviations below the mean. Nothing else would show this.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from anychannel.nn.channel_sampling import Part

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
    """Compares batches with a model's statistics until it has warned; copies of a model share it.

    On the CPU it looks at every batch. Elsewhere it looks at the first, second, fourth, eighth ..., since reading the
    result waits for the device.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.warned = False

    def __deepcopy__(self, _: object) -> Self:
        return self

    @torch.no_grad()
    def look(self, images: Tensor, parts: Sequence[Part], names: Sequence[str], mean: Tensor, std: Tensor) -> None:
        """Warn if one of the parts of images (B, k, H, W) looks wrong; parts take turns.

        The images have all channels, or just those of the only part. ``mean`` and ``std``, (C,), are from training.
        """
        self.seen += 1
        shown = [part for part in parts if len(part)]
        if not shown or (images.device.type != "cpu" and self.seen & (self.seen - 1)):
            return
        part = shown[self.seen % len(shown)]
        rows, columns = (max(size // SIDE, 1) for size in images.shape[2:])
        pixels = images[part.start : part.stop : max(len(part) // FEW, 1), :, ::rows, ::columns]
        places = list(part.subset)
        if pixels.shape[1] != len(places):
            pixels = pixels[:, places]
        if len(places) != len(names):
            mean, std = mean[places], std[places]
        pixels = pixels.to(mean.dtype)
        problem = find_problem(pixels, mean, std, [names[i] for i in places]) if is_suspect(pixels, mean, std) else ""
        if problem:
            self.warned = True
            known = zip(places, mean.tolist(), std.tolist(), strict=True)
            warnings.warn(
                f"{problem}, but the model expects those of its training "
                f"({', '.join(f'{names[place]}: {m:.4g} +- {s:.4g}' for place, m, s in known)}); give images in the "
                "units of the files that it was trained on (it normalises them itself), or create a model with the "
                "statistics of these",
                stacklevel=6,  # the caller of the model
            )


def is_suspect(pixels: Tensor, mean: Tensor, std: Tensor) -> bool:
    """Whether ``find_problem`` may find something; quick."""
    distance = (pixels - mean[:, None, None]).abs().mean((0, 2, 3)) / std
    far, high, usual = torch.stack([distance.amax(), pixels.amax(), (mean + 3 * std).amax()]).tolist()
    return not (far <= FAR and (high >= FAR or usual <= LARGE))  # NaN is suspect


def find_problem(pixels: Tensor, mean: Tensor, std: Tensor, names: Sequence[str]) -> str:
    """What is wrong with the values (n, k, h, w) of these channels; empty if nothing is.

    A channel that is 0 throughout (black, missing, no data) is not judged, nor are values that are not finite. An
    average counts as far only if it is far both with and without the pixels of value 0, which may be no data.
    """
    values = pixels.transpose(0, 1).flatten(1)
    finite, other = values.isfinite(), values != 0
    kept = torch.where(finite, values, 0)
    distance = torch.where(finite, (kept - mean[:, None]).abs(), 0)
    counts = torch.stack([finite, finite & other]).sum(2)
    averages = torch.stack([distance, distance * other]).sum(2) / counts.clamp(min=1)
    far = averages.amin(0) > FAR * std
    whole = (kept == kept.round()).all(1)
    below, above = mean - std, mean + 3 * std
    found = torch.stack([counts[1] > 0, far, whole, kept.amin(1), kept.amax(1), below, above]).T.tolist()
    judged = [(name, *figures[1:]) for name, figures in zip(names, found, strict=True) if figures[0]]
    fractions = not any(integers for _, _, integers, *_ in judged)
    if judged and fractions and any(large > LARGE for *_, large in judged):
        low, high = min(each[3] for each in judged), max(each[4] for each in judged)
        usual = max(each[5] for each in judged)
        if low >= 0 and high <= 1 and (usual > 1 or len(pixels) >= FEW):
            return "the images have values between 0 and 1"
        if -FAR < low < 0 and high < FAR and usual > FAR:
            return f"the images have values from {low:.3g} to {high:.3g}, as if they were normalised already"
    for (
        name,
        is_far,
        *_,
    ) in judged:
        if is_far:
            average = float(pixels[:, list(names).index(name)].nanmean())
            return f"channel {name!r} of the images has values of {average:.4g} on average"
    return ""
