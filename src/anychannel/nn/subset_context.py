"""Which channels the forward pass under way shows: told once by the classifier, read by stem and norms.

A convolution's signature has no room for it, so it travels beside the call in a context variable, which is set for one
forward pass and safe across threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from anychannel.nn.channel_sampling import Part

_parts: ContextVar[tuple[Part, ...]] = ContextVar("parts")


@contextmanager
def subset_context(parts: Sequence[Part]) -> Iterator[None]:
    """Say which channels the images of the forward pass inside this block show."""
    token = _parts.set(tuple(parts))
    try:
        yield
    finally:
        _parts.reset(token)


def current_parts() -> tuple[Part, ...]:
    """The parts of the forward pass under way.

    Raises:
        RuntimeError: no forward pass of a classifier is under way.
    """
    try:
        return _parts.get()
    except LookupError:
        raise RuntimeError(
            "the backbone does not know which channels it is given; call the classifier, not its backbone, and train "
            "without activation checkpointing (set_grad_checkpointing) or with norm='shared', since what is computed "
            "again for the gradients is computed outside the classifier's call"
        ) from None
