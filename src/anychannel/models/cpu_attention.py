"""Self-attention of small maps in bfloat16 on a CPU, for training: matrix products that keep the attention weights.

PyTorch's fused kernel computes the weights again for the gradients. Over a few hundred positions it takes less time to
keep them, (B, N, N) in bfloat16: 50 MB for 128 images of 441 positions. A training step of ``compact_k7`` on images of
42 x 42 pixels takes 0.7 times as long (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_POSITIONS = 512
"""Positions of the largest map whose weights are kept, since they take memory quadratic in positions."""
IMAGES = 2
"""Images that are computed at a time: as many as fit into a core's cache."""


def applies_to(value: Tensor) -> bool:
    """Whether ``CPUAttention`` is the way to compute attention to these values (B, N, C) here."""
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")):
        return False
    few = value.device.type == "cpu" and value.shape[1] <= MOST_POSITIONS
    return few and torch.get_autocast_dtype("cpu") == torch.bfloat16


class CPUAttention(torch.autograd.Function):
    """softmax(Q K^T) V of (B, N, D), (B, N, D) and (B, N, C) in bfloat16; softmax in float32, products in bfloat16.

    A constant over the positions that a query attends to changes no weight, so it is subtracted before rounding: the
    keys' mean, and in the gradients of Q K^T the mean under the weights. Two more columns of the product subtract
    this mean before the sum is rounded, as the fused kernel does.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Computes the attended values (B, N, C) and keeps the weights."""
        query, key, value = query.float(), key.float(), value.contiguous()
        key = key - key.mean(1, keepdim=True)
        images, positions, _ = value.shape
        weights = value.new_empty(images, positions, positions)
        attended = torch.empty_like(value)
        with torch.autocast("cpu", enabled=False):
            for some in blocks(images):
                weights[some] = torch.bmm(query[some], key[some].transpose(1, 2)).softmax(-1)
                torch.bmm(weights[some], value[some], out=attended[some])
        ctx.save_for_backward(query.bfloat16(), key.bfloat16(), value, weights, attended)
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the gradients of queries, keys and values."""
        query, key, value, weights, attended = ctx.saved_tensors
        gradient = gradients[0].bfloat16().contiguous()
        mean = (gradient.float() * attended.float()).sum(-1, keepdim=True)
        rounded = mean.bfloat16()
        both = torch.cat([gradient, -rounded, (rounded.float() - mean).bfloat16()], -1)
        values = F.pad(value, (0, 2), value=1.0)
        for_query, for_key, for_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for some in blocks(len(value)):
            torch.bmm(weights[some].transpose(1, 2), gradient[some], out=for_value[some])
            products = torch.bmm(both[some], values[some].transpose(1, 2)).mul_(weights[some])
            torch.bmm(products, key[some], out=for_query[some])
            torch.bmm(products.transpose(1, 2), query[some], out=for_key[some])
        return for_query, for_key - for_key.float().mean(1, keepdim=True).bfloat16(), for_value


def blocks(images: int) -> Iterator[slice]:
    """The images, a few at a time."""
    return (slice(start, start + IMAGES) for start in range(0, images, IMAGES))
