"""Put a network on a device in the memory format that convolutions run fastest in."""

from __future__ import annotations

import torch
from torch import nn


def place(model: nn.Module, device: torch.device) -> None:
    """Move a network to ``device``, in place, with its convolutions' kernels channels_last.

    ``Module.to(memory_format=...)`` would convert five-dimensional parameters as well, and fail: a stem that mixes
    several kernels has such a one.
    """
    model.to(device)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.ndim == 4:
                # copied, since contiguous() leaves the strides of a 1 x 1 kernel, and gradients come with the others
                tensor.data = torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)
