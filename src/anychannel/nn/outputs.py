"""The logits in what a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

LOGITS = ("logits", "out")
"""Entries or attributes with the logits: in Hugging Face's and torchvision's outputs."""


def find_logits(output: Any) -> Any:
    """The entry of a network's output that holds the logits: see ``logits_of``. An output of another kind is returned.

    It looks at the output's structure only, so that the entries may be nodes of a traced graph.
    """
    held = output if isinstance(output, Mapping) else {key: getattr(output, key, None) for key in LOGITS}
    named = next((held[key] for key in LOGITS if held.get(key) is not None), None)
    if named is not None:
        return named
    return output[0] if isinstance(output, tuple | list) and output else output


def logits_of(output: Any) -> Tensor:
    """The logits in a classifier's output.

    Args:
        output: a tensor; an object with ``logits``, as Hugging Face's; a dictionary with ``logits`` or ``out``; or a
            tuple or list, whose first entry is taken.

    Raises:
        TypeError: no tensor is found.
    """
    found = output if isinstance(output, Tensor) else find_logits(output)
    if not isinstance(found, Tensor):
        entries = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise TypeError(
            f"the network returns a {type(output).__name__}{entries}; expected logits (batch, classes) as a tensor, as "
            "`logits` of an object or dictionary, or first in a tuple; train and evaluate other networks in your own "
            "loop"
        )
    return found
