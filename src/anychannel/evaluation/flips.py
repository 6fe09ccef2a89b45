"""Test-time augmentation: a classifier's logits as the mean over an image and its mirror images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from anychannel.training.outputs import logits_of

FLIPS = {"hflip": 3, "vflip": 2}
"""Dimension of images (B, C, H, W) that each flip reverses: left to right, and top to bottom."""


@contextmanager
def averaged_over_flips(model: nn.Module, flips: str | Sequence[str] | None) -> Iterator[None]:
    """``average_over_flips`` inside the block."""
    handle = average_over_flips(model, flips)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def average_over_flips(model: nn.Module, flips: str | Sequence[str] | None) -> RemovableHandle | None:
    """Make a call of the classifier return the mean of its logits over mirror images, until ``remove`` of the result.

    ``flips`` are names of ``FLIPS``, as ``"hflip,vflip"``: the image itself, each flip and, of two, both together. None
    or an empty text changes nothing. Raises ValueError if a name is unknown.
    """
    names = [name.strip() for name in (flips.split(",") if isinstance(flips, str) else flips or ()) if name.strip()]
    unknown = [name for name in names if name not in FLIPS]
    if unknown:
        raise ValueError(f"unknown flip {unknown[0]!r} for test-time augmentation; use {', '.join(FLIPS)} or both")
    dims = sorted({FLIPS[name] for name in names})
    views = [chosen for count in range(1, len(dims) + 1) for chosen in combinations(dims, count)]
    if not views:
        return None

    def average(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
        images, *rest = args
        others = [logits_of(network.forward(images.flip(view), *rest, **kwargs)).float() for view in views]
        return torch.stack([logits_of(output).float(), *others]).mean(0)

    return model.register_forward_hook(average, with_kwargs=True)
