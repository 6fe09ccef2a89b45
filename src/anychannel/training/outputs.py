"""The logits in what a network returns."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from anychannel.nn.outputs import logits_of as find_logits_of


def logits_of(output: Any) -> Tensor:
    """The logits (B, num_classes) of a classifier's output: see ``anychannel.nn.outputs.logits_of``.

    Raises:
        TypeError: no tensor is found.
        ValueError: the tensor has no shape (B, num_classes).
    """
    found = find_logits_of(output)
    if found.ndim != 2:
        raise ValueError(
            f"the network returns a tensor of shape {tuple(found.shape)}, and a classifier (batch, classes); fit and "
            "evaluate are for classifiers: train other networks in your own loop"
        )
    return found


def to_probabilities(logits: Tensor, *, several: bool) -> Tensor:
    """Probabilities (B, K): of one class an image, or of each of ``several`` labels by itself."""
    return logits.sigmoid() if several else logits.softmax(dim=1)
