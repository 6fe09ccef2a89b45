"""Use a model for measuring and give it back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from anychannel.nn.placement import place


@contextmanager
def inference_mode(model: nn.Module, device: torch.device | None = None) -> Iterator[torch.device]:
    """The model in evaluation mode, channels_last, on ``device`` (None leaves it where it is); no gradients.

    Afterwards every module is in its former mode and the model on its former device. Gives the device.
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
