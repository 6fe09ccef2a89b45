"""Where a stem sits in a backbone, and how it learns which channels it is given.

The stem takes the place of the backbone's first convolution, wherever that is, so that the backbone's own ``forward``
stays as it is. What a convolution's signature has no room for, the channels of each part of the batch, travels beside
the call in a context variable: it is set for one forward pass, and is safe across threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from anychannel.samplers import Part
from anychannel.stems import Stem

_parts: ContextVar[tuple[Part, ...]] = ContextVar("parts")


@contextmanager
def showing(parts: Sequence[Part]) -> Iterator[None]:
    """Say which channels the images of the forward pass inside this block show."""
    token = _parts.set(tuple(parts))
    try:
        yield
    finally:
        _parts.reset(token)


def shown_parts() -> tuple[Part, ...]:
    """The parts of the forward pass under way.

    Raises:
        RuntimeError: no forward pass of a classifier is under way.
    """
    try:
        return _parts.get()
    except LookupError:
        raise RuntimeError(
            "the backbone does not know which channels it is given; call the classifier, not its backbone"
        ) from None


class StemSlot(nn.Module):
    """Stands where the first convolution stood; runs the stem on each part and joins the parts again."""

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) of one subset, or (B, C, H, W) of which each part shows some -> (sum of parts, out, H', W')."""
        parts = shown_parts()
        if len(parts) == 1 and len(parts[0]) == len(images) and len(parts[0].subset) == images.shape[1]:
            whole: Tensor = self.stem(images, parts[0].subset)
            return whole
        features = []
        for part in parts:
            rows = images[part.start : part.stop]
            shown = rows if len(part.subset) == rows.shape[1] else rows[:, list(part.subset)]
            features.append(self.stem(shown, part.subset))
        return torch.cat(features)
