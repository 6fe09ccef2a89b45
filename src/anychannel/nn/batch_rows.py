"""Cut the rows of a batch into parts, and join them again, at one copy each. Gradients take one copy too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def cut_rows(x: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """``[x[some] for some in rows]`` in the format of ``x``; each row of ``x`` is in one of ``rows``."""
    return list(CutRows.apply(x, *rows)) if len(rows) > 1 else [x[rows[0]]]


def join_rows(pieces: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    """The tensor that ``cut_rows`` cut into these pieces."""
    joined: Tensor = JoinRows.apply(*rows, *pieces)
    return joined


class CutRows(torch.autograd.Function):
    """See ``cut_rows``. An index's own gradient adds row to row, which takes several times as long.

    PyTorch's compiler takes a ``forward`` with as many arguments as parameters for one without ``ctx``; hence a single
    parameter for all tensors.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Copy each part's rows."""
        x, *rows = tensors
        ctx.save_for_backward(*rows)
        pieces = [like(x, len(some)) for some in rows]
        for piece, some in zip(pieces, rows, strict=True):
            torch.index_select(flat(x), 0, some, out=flat(piece))
        return tuple(pieces)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Join the parts' gradients."""
        rows = ctx.saved_tensors
        return join_rows(gradients, rows), *(None for _ in rows)


class JoinRows(torch.autograd.Function):
    """See ``join_rows``: of the tensors, the first half are ``rows``."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        """Copy each part to its rows."""
        rows, pieces = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
        ctx.save_for_backward(*rows)
        joined = like(pieces[0], sum(map(len, rows)))
        for piece, some in zip(pieces, rows, strict=True):
            flat(joined).index_copy_(0, some, flat(match(piece, joined)))
        return joined

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Cut the gradient."""
        rows = ctx.saved_tensors
        return *(None for _ in rows), *cut_rows(gradients[0], rows)


def is_channels_last(x: Tensor) -> bool:
    """Whether a tensor (B, C, H, W) of several channels is channels-last; ``vmap`` can trace this."""
    return x.ndim == 4 and x.shape[1] > 1 and x.stride(1) == 1


def like(x: Tensor, count: int) -> Tensor:
    """An empty tensor of ``count`` rows in the format of ``x``."""
    form = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty((count, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=form)


def match(x: Tensor, other: Tensor) -> Tensor:
    """``x`` in the format of ``other``."""
    return x.contiguous(memory_format=torch.channels_last if is_channels_last(other) else torch.contiguous_format)


def flat(x: Tensor) -> Tensor:
    """Rows as vectors, without a copy where the rows lie in memory one after the other."""
    return (x.permute(0, 2, 3, 1) if is_channels_last(x) else x).flatten(1)
