"""Floating-point operations of a forward pass, counted without computing it.

Two conventions, both in units of 1e9 operations (GFLOPs) for a whole batch in evaluation mode:

``gflops_calflops``
    The count of the ``calflops`` package, as in the report: 2 for each multiply-accumulate of a convolution or linear
    layer, 1 for each element of a convolution's bias, of an activation, of a pooling layer's input and of a softmax,
    2 for each element of an affine batch normalisation. It does not see ``torch.bmm``, the ``@`` operator or
    ``scaled_dot_product_attention``.

``gflops_with_attention``
    The same plus 2 for each multiply-accumulate of those products. One attention of N queries over M keys adds
    2 * batch * heads * (N*M*d_k + N*M*d_v), with keys of d_k and values of d_v elements. Kernel attention's mixing of
    its kernels is such a product too.

The compact networks' attention is counted as written, softmax(Q K^T) V: a softmax over N*N scores an image, and the
keys at their own width, although the fused kernel that runs pads them to the values'.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from math import prod
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from anychannel.models.attention import SelfAttention
from anychannel.nn.classifier import Classifier
from anychannel.utils.sizes import ImageSize, height_width

_counting = threading.Lock()


class CountError(ValueError):
    """A network's operations cannot be counted; the message says why."""


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass: those that calflops sees, and those of matrix products that it does not see."""

    calflops: int
    products: int

    def to_dict(self) -> dict[str, float]:
        """Both conventions, in GFLOPs."""
        return {
            "gflops_calflops": self.calflops / 1e9,
            "gflops_with_attention": (self.calflops + self.products) / 1e9,
        }


def count_flops(
    model: Classifier, *, batch_size: int, image_size: ImageSize, channels: str | Sequence[str] | None = None
) -> dict[str, float]:
    """Count the GFLOPs of a batch on these channels (None: all) in both conventions of the module's text.

    Raises CountError if the operations depend on the images' values, or if images of this size are too small.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1 image, got {batch_size}")
    shape = (batch_size, len(model.channels.subset(channels)), *height_width(image_size))
    return count_forward(model, shape, channels=channels).to_dict()


def count_forward(model: nn.Module, shape: Sequence[int], **options: Any) -> Flops:
    """Count the operations of ``model(images, **options)`` in evaluation mode for float32 images of this shape.

    The pass runs on a copy with sizes but no numbers (PyTorch's fake tensors), so that it takes little time and memory
    whatever the sizes. calflops replaces functions of torch while it counts: one count runs at a time, and other
    threads should not run networks meanwhile.
    """
    from calflops.calculate_pipline import (  # here, since it takes seconds to import
        CalFlopsPipline,
        module_flop_count,
        module_mac_count,
    )

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    tensors = [*model.parameters(), *model.buffers()]
    hollow = copy.deepcopy(model, {id(tensor): mode.from_tensor(tensor) for tensor in tensors}).eval()
    for module in hollow.modules():
        if isinstance(module, SelfAttention):
            module.literal = True
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    pipeline = CalFlopsPipline(hollow, include_backPropagation=False, compute_bp_factor=2.0)
    with _counting:
        try:
            with mode, torch.no_grad(), unseen_products() as products:
                pipeline.start_flops_calculate()
                hollow(torch.empty(*shape, device=device), **options)
            return Flops(calflops=int(pipeline.get_total_flops()), products=sum(products))
        except (RuntimeError, AssertionError) as error:  # what torch and timm raise about values and sizes
            raise CountError(
                f"the operations of {type(model).__name__} on images of shape {tuple(shape)} cannot be counted: {error}"
            ) from error
        finally:
            pipeline.end_flops_calculate()
            module_flop_count.clear()
            module_mac_count.clear()


@contextmanager
def unseen_products() -> Iterator[list[int]]:
    """Record the operations of each matrix product that calflops does not see, in a list that grows."""
    recorded: list[int] = []

    def recording(function: Callable[..., Tensor], count: Callable[..., int]) -> Callable[..., Tensor]:
        @wraps(function)
        def wrapped(*args: Any, **options: Any) -> Tensor:
            recorded.append(count(*args, **options))
            return function(*args, **options)

        return wrapped

    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)
        for owner, name, count in (
            (F, "scaled_dot_product_attention", count_attention),
            (torch, "bmm", count_product),
            (torch.Tensor, "bmm", count_product),
            (torch.Tensor, "__matmul__", count_product),
        ):
            stack.enter_context(patch.object(owner, name, recording(getattr(owner, name), count)))
        yield recorded


def count_product(a: Tensor, b: Tensor, **_: Any) -> int:
    """2 for each multiply-accumulate of ``a @ b``: (..., n, m) times (..., m, p), leading axes broadcast."""
    if a.ndim == 1 or b.ndim == 1:
        return 2 * max(a.numel(), b.numel())
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return 2 * prod([*batch, *a.shape[-2:], b.shape[-1]])


def count_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """2 for each multiply-accumulate of the two products of q (..., N, d_k), k (..., M, d_k) and v (..., M, d_v).

    Leading axes (batch, heads) are the queries'; keys and values shared by several heads count for each.
    """
    return 2 * prod([*query.shape[:-1], key.shape[-2], query.shape[-1] + value.shape[-1]])
