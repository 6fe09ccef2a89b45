"""Time of a forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from anychannel.models import Classifier
from anychannel.nn.inference_mode import inference_mode
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
    seconds: float = 0.5,
) -> dict[str, float]:
    """Milliseconds per image: the wall time of one forward pass from images to logits, over the batch size.

    The images are already on the device, float32 in the files' units, channels_last; the model is in evaluation mode
    without gradients, and normalisation is part of the pass. On CUDA each pass is waited for. Passes warm up for a
    fifth of ``seconds`` (one at least) and are then measured for ``seconds``, 3 at least and 100 at most.

    Args:
        model: comes back in its former mode and on its former device.
        batch_size: images a pass.
        image_size: their height and width in pixels: one number, or ``(height, width)``.
        channels: names of the channels that the images hold; None means all.
        device: ``auto`` or a torch device; None is where the model is.
        precision: ``fp32``, ``bf16`` (autocast) or ``auto``; None is fp32.
        seconds: about how long to measure.

    Returns:
        ``median``, ``p10`` and ``p90`` (10th and 90th percentile) over the passes, in milliseconds per image, and
        ``repeats``, their number.

    Raises:
        ChannelError: a channel is unknown, or the model does not take this subset.
    """
    names = [model.channels.names[position] for position in model.channels.subset(channels)]
    with inference_mode(model, None if device is None else choose_device(device)) as target:
        form = choose_precision(precision or "fp32", target)
        images = torch.rand(
            batch_size, len(names), *height_width(image_size), generator=torch.Generator().manual_seed(0)
        )
        shown = (255 * images).to(target).contiguous(memory_format=torch.channels_last)

        def forward() -> None:
            model(shown, channels=names)
            synchronise(target)

        with torch.autocast(target.type, torch.bfloat16, enabled=form == "bf16"):
            repeat(forward, seconds / 5, 1, REPEATS[1])
            times = repeat(forward, seconds, *REPEATS)
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


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def describe_device(device: torch.device) -> str:
    """The device in words: ``NVIDIA H100 80GB HBM3``, ``cpu (2 threads)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)
