"""A network's last layer: count its classes, or replace it for another number of classes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.module_utils import replace_module

TRIAL_SIZES = (224, 64, 32)
"""Heights and widths of the images that a network is tried on, in pixels."""


def count_classes(network: nn.Module, in_chans: int) -> int | None:
    """The number of a network's classes: its ``num_classes``, else the width of its output for a black image.

    If its output for no trial size has the shape (B, K), this is the width of its only linear layer, or None if it has
    none or several.
    """
    noted = noted_classes(network)
    if noted:
        return noted
    for answer in try_out(copy.deepcopy(network), in_chans, TRIAL_SIZES):
        if isinstance(answer, Tensor) and answer.ndim > 2:
            return None
        logits = answer if isinstance(answer, Tensor) else getattr(answer, "logits", None)
        if isinstance(logits, Tensor) and logits.ndim == 2:
            return int(logits.shape[1])
    inside = {layer for conv in network.modules() if isinstance(conv, AdaptiveConv2d) for layer in conv.modules()}
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear) and layer not in inside]
    return linear[0].out_features if len(linear) == 1 else None


def try_out(network: nn.Module, in_chans: int, sizes: Sequence[int], *, span: float = 0.0) -> Iterator[Any]:
    """A network's outputs in evaluation mode, which it stays in, for two images of those ``sizes`` that it can take.

    Their values run from ``-span`` to ``span``.
    """
    like = next(network.parameters())
    for size in sizes:
        shades = torch.linspace(-span, span, 2 * in_chans * size**2, dtype=like.dtype, device=like.device)
        try:
            with torch.no_grad():
                answer = network.eval()(shades.view(2, in_chans, size, size))
        except Exception:
            continue
        yield answer


def noted_classes(network: nn.Module) -> int:
    """The number of classes that a network notes as ``num_classes`` or in its configuration; 0 if it does not."""
    config = getattr(network, "config", None)
    for noted in (getattr(network, "num_classes", None), getattr(config, "num_labels", None)):
        if isinstance(noted, int) and noted:
            return noted
    return 0


def replace_head(network: nn.Module, num_classes: int, now: int) -> None:
    """Replace the last layer, in place, by a fresh one for ``num_classes``; ``now`` is the number it has.

    The network needs timm's ``reset_classifier``, a linear layer called ``fc``, or just one linear layer of ``now``
    features; ValueError otherwise.
    """
    reset, last = getattr(network, "reset_classifier", None), getattr(network, "fc", None)
    fitting = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features == now]
    if callable(reset):
        reset(num_classes)
        return
    if not isinstance(last, nn.Linear):
        if len(fitting) != 1:
            raise ValueError(
                f"{type(network).__name__} has {now or 'an unknown number of'} classes, and neither reset_classifier, "
                f"nor fc, nor a single linear layer of as many features, to make it {num_classes}; replace its last "
                "layer before you pass it"
            )
        last = fitting[0]
    like = last.weight
    fresh = nn.Linear(last.in_features, num_classes, last.bias is not None, device=like.device, dtype=like.dtype)
    replace_module(network, last, fresh)
    for holder, name in (
        (network, "num_classes"),
        (network, "num_labels"),
        (getattr(network, "config", None), "num_labels"),
    ):
        if isinstance(getattr(holder, name, None), int):
            setattr(holder, name, num_classes)
