"""The number format of a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def autocast(device: torch.device, *, bf16: bool) -> Iterator[None]:
    """Compute in bfloat16 what may be computed so, if ``bf16``; see ``DepthwiseInFloat32`` for the exception."""
    if not bf16:
        yield
    elif device.type != "cpu":
        with torch.autocast(device.type, torch.bfloat16):
            yield
    else:
        with torch.autocast("cpu", torch.bfloat16), DepthwiseInFloat32():
            yield


class DepthwiseInFloat32(TorchFunctionMode):
    """Computes depthwise convolutions in float32 under autocast on a CPU, where gradients are recorded.

    oneDNN takes two to ten times as long for their gradients in bfloat16, so that a training step of an EfficientNet
    takes longer than in float32. Without gradients bfloat16 is faster. The output has autocast's format.

    Where a hook handles what the backward pass needs, as in activation checkpointing, which computes it again without
    this class, everything is as autocast does it.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``, and a depthwise convolution in float32."""
        if func is torch.conv2d and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu") and not has_hooks():
            return convolve(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def has_hooks() -> bool:
    """Whether hooks are set that pack what the backward pass needs. The compiler takes no notice of them."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Any, **options: Any) -> Tensor:  # noqa: A002
    """``conv2d`` with its arguments, in float32 if it is depthwise."""
    if input.shape[1] == 1 or weight.shape[1] > 1 or input.dtype == torch.float64:
        return F.conv2d(input, weight, bias, *geometry, **options)
    bias = None if bias is None else bias.float()
    with torch.autocast("cpu", enabled=False):
        found = F.conv2d(input.float(), weight.float(), bias, *geometry, **options)
    return found.to(torch.get_autocast_dtype("cpu"))
