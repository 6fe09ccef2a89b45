"""Which subset of the channels each row of the current forward pass shows: set by the model, read by stem and norms.

A convolution's signature has no argument for it, so it lies in a thread's own variable: several threads may predict
with one model. (``torch.compile`` traces these, and no ``ContextVar``.) Activation checkpointing computes parts of a
pass again in the backward pass, outside the model's call; ``remember_for_backward`` restores the pass for that time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from anychannel.channels import Subset
from anychannel.nn.batch_rows import cut_rows, join_rows
from anychannel.nn.channel_sampling import Part


@dataclass(frozen=True)
class Shown:
    """The subset that each row of a batch shows.

    Args:
        parts: subsets of consecutive rows, after the batch was brought into ``order``. Parts may be empty.
        order: (B,) the batch's row at each place; None if the rows are in the parts' order already.
        inverse: (B,) the place of each row of the batch.
        present: (B, C) booleans, the same as a tensor, for graphs that may not depend on the subsets drawn; else None.
    """

    parts: tuple[Part, ...]
    order: Tensor | None = None
    inverse: Tensor | None = None
    present: Tensor | None = None

    def cut(self, x: Tensor) -> list[Tensor]:
        """Rows (r * B, ...) of each part; a network may have folded r positions into the rows."""
        if self.order is None:
            times = len(x) // sum(map(len, self.parts))
            return list(torch.split(x, [times * len(part) for part in self.parts]))
        return cut_rows(x, self.places(len(x)))

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        """Put the rows of the parts together, in the batch's order."""
        if self.order is None:
            return torch.cat(list(pieces))
        return join_rows(pieces, self.places(sum(map(len, pieces))))

    def places(self, count: int) -> list[Tensor]:
        """Each part's rows of a tensor of ``count`` rows."""
        assert self.order is not None
        times = count // len(self.order)
        rows = self.order
        if times > 1:
            rows = (rows[:, None] * times + torch.arange(times, device=rows.device)).flatten()
        return list(torch.split(rows, [times * len(part) for part in self.parts]))

    def subsets(self) -> list[Subset]:
        """Each row's subset, in the batch's order."""
        found = [part.subset for part in self.parts for _ in range(len(part))]
        return found if self.inverse is None else [found[place] for place in self.inverse.tolist()]


class _Passes(threading.local):
    """One thread's passes: the current one and its model's, the last one of each model, and one computed again."""

    def __init__(self) -> None:
        self.current: Shown | None = None
        self.owner: object = None
        self.recalled: Shown | None = None
        self.last: WeakKeyDictionary[Any, Shown] = WeakKeyDictionary()


_passes = _Passes()
_recalled: list[Shown] = []
"""The pass whose gradients any thread computed last: backward passes of several devices have a thread each."""


@contextmanager
def subset_context(shown: Shown | Sequence[Part], owner: object = None) -> Iterator[None]:
    """Set what each row shows in the forward pass of ``owner`` inside this block."""
    before, former = _passes.current, _passes.owner
    _passes.current = shown if isinstance(shown, Shown) else Shown(tuple(shown))
    _passes.owner = owner
    try:
        yield
    finally:
        _passes.current, _passes.owner = before, former


def is_passing(owner: object) -> bool:
    """Whether this thread is inside a forward pass of ``owner``."""
    return _passes.current is not None and _passes.owner is owner


def current_shown() -> Shown:
    """What the rows of the current forward pass show; RuntimeError outside a model's call."""
    shown = _passes.current
    if shown is None and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
        shown = _passes.recalled or (_recalled[-1] if _recalled else None)
    if shown is None:
        raise RuntimeError(
            "the network does not know which channels it is given; call the model that adapt or create_model returned, "
            "not its backbone or a part of it"
        )
    return shown


def note_last(owner: object, shown: Shown) -> None:
    """Keep what this thread's last pass of ``owner`` showed."""
    _passes.last[owner] = shown


def last_shown(owner: object) -> Shown | None:
    """What this thread's last pass of ``owner`` showed."""
    return _passes.last.get(owner)


def remember_for_backward(output: Any, shown: Shown) -> None:
    """When gradients reach a tensor of ``output``, what is computed again for them belongs to ``shown``."""

    def recall(_: Tensor) -> None:
        _passes.recalled = shown
        _recalled[:] = [shown]

    for tensor in tensors_of(output):
        if tensor.requires_grad:
            tensor.register_hook(recall)  # type: ignore[no-untyped-call]


def tensors_of(output: Any) -> Iterable[Tensor]:
    """The tensors in a network's output: a tensor, or a nest of dictionaries, lists and tuples."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from tensors_of(value)
