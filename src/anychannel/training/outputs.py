"""The logits in what a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

LOGITS = ("logits", "out")
"""Entries or attributes with the logits: in Hugging Face's and torchvision's outputs."""


def logits_of(output: Any) -> Tensor:
    """The logits (B, num_classes) of a classifier's output.

    Args:
        output: a tensor; an object with ``logits``, as Hugging Face's; a dictionary with ``logits`` or ``out``; or a
            tuple or list, whose first entry is taken.

    Raises:
        TypeError: no tensor is found.
        ValueError: the tensor has no shape (B, num_classes).
    """
    found: Any = output
    if not isinstance(output, Tensor):
        held = output if isinstance(output, Mapping) else {key: getattr(output, key, None) for key in LOGITS}
        found = next((held[key] for key in LOGITS if held.get(key) is not None), None)
        if found is None and isinstance(output, tuple | list) and output:
            found = output[0]
    if not isinstance(found, Tensor):
        entries = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise TypeError(
            f"the network returns a {type(output).__name__}{entries}; expected logits (batch, classes) as a tensor, as "
            "`logits` of an object or dictionary, or first in a tuple"
        )
    if found.ndim != 2:
        raise ValueError(
            f"the network returns a tensor of shape {tuple(found.shape)}, and a classifier (batch, classes); fit and "
            "evaluate are for classifiers: train other networks in your own loop"
        )
    return found


def to_probabilities(logits: Tensor, *, several: bool) -> Tensor:
    """Probabilities (B, K): of one class an image, or of each of ``several`` labels by itself."""
    return logits.sigmoid() if several else logits.softmax(dim=1)
