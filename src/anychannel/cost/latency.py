"""Time of a forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import inference_mode
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.sizes import ImageSize, height_width

REPEATS = (3, 100)
"""Fewest and most measured passes."""


def measure_latency(
    model: Classifier,
    *,
    batch_size: int,
    image_size: ImageSize,
    channels: str | Sequence[str] | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> dict[str, float]:
    """Milliseconds per image: the wall time of one forward pass from images to logits, over the batch size.

    The images are already on the device, float32 in the files' units, channels_last; the model is in evaluation mode
    without gradients, and normalisation is part of the pass. Each pass on an accelerator is waited for. Passes warm up
    for 0.1 s (at least one pass) and are then measured for 0.5 s (3 to 100 passes). The result holds ``median``,
    ``p10`` and ``p90`` (10th and 90th percentile) over the passes, and ``repeats``, the number of passes.
    """
    shape = (batch_size, len(model.channels.subset(channels)), *height_width(image_size))
    images = 255 * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with inference_mode(model, None if device is None else choose_device(device)) as target:
        batch = images.to(target).contiguous(memory_format=torch.channels_last)

        def forward() -> None:
            model(batch, channels=channels)
            if target.type != "cpu":
                torch.accelerator.synchronize(target)

        bf16 = choose_precision(precision or "fp32", target) == "bf16"
        with torch.autocast(target.type, torch.bfloat16, enabled=bf16):
            repeat(forward, 0.1, 1, REPEATS[1])
            times = repeat(forward, 0.5, *REPEATS)
    p10, median, p90 = np.percentile(times, [10, 50, 90]) * 1e3 / batch_size
    return {"median": float(median), "p10": float(p10), "p90": float(p90), "repeats": len(times)}


def repeat(call: Callable[[], None], seconds: float, fewest: int, most: int) -> list[float]:
    """Call until the time is spent; the seconds that each call took."""
    times: list[float] = []
    while len(times) < fewest or (sum(times) < seconds and len(times) < most):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times
