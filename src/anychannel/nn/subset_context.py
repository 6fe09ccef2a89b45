"""The channel subsets of the current forward pass: set by the classifier, read by the stem and the batch norms.

A convolution's signature has no argument for them, so they are in a context variable, which is safe across threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from anychannel.nn.channel_sampling import Part

_parts: ContextVar[tuple[Part, ...]] = ContextVar("parts")


@contextmanager
def subset_context(parts: Sequence[Part]) -> Iterator[None]:
    """Set the parts of the forward pass inside this block."""
    token = _parts.set(tuple(parts))
    try:
        yield
    finally:
        _parts.reset(token)


def current_parts() -> tuple[Part, ...]:
    """The parts of the current forward pass; RuntimeError outside a classifier's call."""
    try:
        return _parts.get()
    except LookupError:
        raise RuntimeError(
            "the backbone does not know which channels it is given; call the classifier, not its backbone, and train "
            "without activation checkpointing (set_grad_checkpointing) or with norm='shared', since what is computed "
            "again for the gradients is computed outside the classifier's call"
        ) from None
