"""Helpers for networks: replace a module, move to a device, run for inference, keep buffers in float32."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)


class Float32Buffers(nn.Module):
    """A module whose own buffers stay in float32 when ``half``, ``bfloat16`` or ``to`` convert its parameters.

    Half precision rounds statistics visibly: float16 has no number above 65504, which 16-bit images reach.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and convert as ``nn.Module`` does."""
        exact = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self._buffers.items():
            before = exact[name]
            if buffer is not None and before is not None and buffer.dtype in HALF:
                self._buffers[name] = before.to(buffer.device)
        return self


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` at every name under which ``network`` holds ``old``, in place.

    A layer may be both an attribute and part of a sequence (``self.features = nn.Sequential(self.conv1, ...)``).
    """
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if module is old:
            parent, _, attribute = path.rpartition(".")
            setattr(network.get_submodule(parent), attribute, new)


def plain_copy(network: nn.Module) -> nn.Module:
    """A deep copy, of the network's own class if ``make_adaptive`` gave it another."""
    made = copy.deepcopy(network)
    original = getattr(type(made), "original", None)
    if original is not None:
        made.__class__ = original
    return made


def set_width(network: nn.Module, path: str, before: int, count: int) -> None:
    """Tell a network, in place, that its first convolution, at ``path``, takes ``count`` channels.

    transformers' networks check their images against ``num_channels``, in the modules around the convolution and in
    their configuration.
    """
    names = path.split(".")
    around = [network.get_submodule(".".join(names[:depth])) for depth in range(len(names))]
    configs = [module.config for module in around if hasattr(getattr(module, "config", None), "__dict__")]
    for holder in [*around, *configs]:
        for name in ("num_channels", "in_channels", "in_chans"):
            if type(vars(holder).get(name)) is int and getattr(holder, name) == before:
                setattr(holder, name, count)


def place(model: nn.Module, device: torch.device) -> None:
    """Move a network to ``device``, in place, and its convolutions' kernels to channels_last.

    ``Module.to(memory_format=...)`` fails on the five-dimensional parameters of a stem that mixes kernels.
    """
    model.to(device)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.ndim == 4:
                # copied, since contiguous() leaves the strides of a 1 x 1 kernel, and gradients come with the others
                tensor.data = torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)


@contextmanager
def keep_modes(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in its former mode, training or evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def inference_mode(model: nn.Module, device: torch.device | None = None) -> Iterator[torch.device]:
    """Put the model into evaluation mode and channels_last on a device, without gradients; yield the device.

    Afterwards every module is in its former mode and the model on its former device, which is the default.
    """
    former = next(model.parameters()).device
    chosen = former if device is None else device
    with keep_modes(model):
        try:
            place(model, chosen)
            model.eval()
            with torch.inference_mode():
                yield chosen
        finally:
            model.to(former)


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
