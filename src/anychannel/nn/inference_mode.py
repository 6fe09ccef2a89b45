"""Use a model for inference and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from anychannel.nn.module_utils import place


@contextmanager
def inference_mode(model: nn.Module, device: torch.device | None = None) -> Iterator[torch.device]:
    """Put the model into evaluation mode, channels_last, on a device, without gradients; yields the device.

    Afterwards every module is in its former mode and the model on its former device.

    Args:
        model: any network.
        device: None leaves the model where it is.
    """
    modes = [(module, module.training) for module in model.modules()]
    former = next(model.parameters()).device
    chosen = former if device is None else device
    try:
        place(model, chosen)
        model.eval()
        with torch.inference_mode():
            yield chosen
    finally:
        model.to(former)
        for module, mode in modes:
            module.training = mode
