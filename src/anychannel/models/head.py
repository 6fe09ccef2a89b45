"""A network's last layer: count its classes, or replace it for another number of classes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

TRIAL_SIZES = (224, 64, 32)
"""Heights and widths of the images that a network is tried on, in pixels."""


def count_classes(network: nn.Module, in_chans: int) -> int | None:
    """The number of a network's classes: its ``num_classes``, else the width of its output for a black image.

    If its output for no trial size has the shape (B, K), this is the width of its only linear layer, or None if it has
    none or several.
    """
    noted = getattr(network, "num_classes", None)
    if isinstance(noted, int) and noted:
        return noted
    like = next(network.parameters())
    tried = copy.deepcopy(network).eval()
    for size in TRIAL_SIZES:
        try:
            with torch.no_grad():
                answer = tried(torch.zeros(2, in_chans, size, size, dtype=like.dtype, device=like.device))
        except Exception:
            continue
        if isinstance(answer, Tensor) and answer.ndim == 2:
            return int(answer.shape[1])
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return linear[0].out_features if len(linear) == 1 else None


def replace_head(network: nn.Module, num_classes: int, now: int) -> None:
    """Replace the last layer, in place, by a fresh one for ``num_classes``; the message gives the number it has now.

    The network needs timm's ``reset_classifier``, or a linear layer called ``fc``.
    """
    reset, last = getattr(network, "reset_classifier", None), getattr(network, "fc", None)
    if callable(reset):
        reset(num_classes)
    elif isinstance(last, nn.Linear):
        like = last.weight
        bias = last.bias is not None
        network.fc = nn.Linear(last.in_features, num_classes, bias=bias, device=like.device, dtype=like.dtype)
    else:
        raise ValueError(
            f"{type(network).__name__} has {now} classes and neither reset_classifier nor fc to make it {num_classes}; "
            "replace its last layer before you pass it"
        )
