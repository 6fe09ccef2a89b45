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

    def sort(self, x: Tensor) -> Tensor:
        """Bring rows (r * B, ...) into the parts' order; a network may have folded r positions into the rows."""
        return x if self.order is None or self.inverse is None else permute_rows(x, self.order, self.inverse)

    def restore(self, x: Tensor) -> Tensor:
        """Bring rows (r * B, ...) back into the batch's order."""
        return x if self.order is None or self.inverse is None else permute_rows(x, self.inverse, self.order)

    def subsets(self) -> list[Subset]:
        """Each row's subset, in the batch's order."""
        found = [part.subset for part in self.parts for _ in range(len(part))]
        return found if self.inverse is None else [found[place] for place in self.inverse.tolist()]


class PermutedRows(torch.autograd.Function):
    """Rows in another order. The gradient is permuted back, which is faster than that of an index."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        """``x[order]``, in the format of ``x``."""
        ctx.save_for_backward(order, inverse)
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            permuted = torch.empty_like(x)  # whole rows are copied, whatever their format
            flat = (rows.permute(0, 2, 3, 1).flatten(1) for rows in (x, permuted))
            torch.index_select(next(flat), 0, order, out=next(flat))
            return permuted
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient's rows in their former order."""
        order, inverse = ctx.saved_tensors
        former: Tensor = PermutedRows.apply(gradients[0], inverse, order)
        return former, None, None


def permute_rows(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """``x[order]`` of rows (r * B, ...); ``inverse`` is the permutation back."""
    permuted: Tensor = PermutedRows.apply(x, unfold(order, len(x)), unfold(inverse, len(x)))
    return permuted


def unfold(rows: Tensor, count: int) -> Tensor:
    """The rows (count,) of a tensor that holds ``count / B`` rows for each of ``rows`` (B,)."""
    times = count // len(rows)
    return rows if times == 1 else (rows[:, None] * times + torch.arange(times, device=rows.device)).flatten()


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
