"""What a network costs: parameters, operations, memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from anychannel.channels import ChannelError
from anychannel.cost.flops import count_flops
from anychannel.cost.latency import measure_latency
from anychannel.cost.memory import try_memory
from anychannel.evaluation import choose_subsets
from anychannel.models import Classifier
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.sizes import ImageSize, plain_size


def count_parameters(model: nn.Module) -> int:
    """Number of learned values, without the running statistics of normalisations."""
    return sum(parameter.numel() for parameter in model.parameters())


def profile(
    model: Classifier,
    *,
    batch_size: int = 64,
    image_size: ImageSize = 84,
    subsets: str | Sequence[str] | None = None,
    device: str | None = None,
    precision: str | None = None,
    memory: bool = True,
    latency: bool = True,
) -> dict[str, Any]:
    """Measure what a network costs, for each channel subset where it depends on it.

    Args:
        model: not changed.
        batch_size: images of the batch whose operations are counted, and of the training step.
        image_size: height and width in pixels: one number, or ``(height, width)``.
        subsets: as ``"R,G"``; None takes all up to 16, else the full set and at least one of each size (of some sizes
            beyond 16 channels; see ``choose_subsets``).
        device: where time and memory are measured: ``auto`` or a torch device; None uses the model's device.
        precision: ``fp32``, ``bf16`` or ``auto``; None is fp32. Operations do not depend on it.
        memory, latency: whether to measure them.

    Returns:
        Plain values for JSON, which ``anychannel.results.cost.Cost`` reads. ``params`` (``count_parameters``); for
        each subset the two GFLOPs of ``count_flops`` at ``batch_size`` and ``latency_ms`` per image at batch 1 and 64
        (``measure_latency``), or ``{"refused": reason}`` if the model does not accept the subset; ``peak_memory_mb``
        of a training step on the largest accepted subset (``measure_memory``), None if it was not measured, with the
        reason in ``note``; the settings.

    Raises:
        ChannelError: a named subset has an unknown channel, or the model refuses it.
        CountError: the network's operations cannot be counted.
        ValueError: ``batch_size`` or ``image_size`` is below 1.
    """
    target = next(model.parameters()).device if device is None else choose_device(device)
    form = choose_precision(precision or "fp32", target)
    chosen, sampled, note = choose_subsets(model.channels, subsets, limit=16, per_size=1)
    shared: dict[str, Any] = {"image_size": image_size, "device": str(target), "precision": form}
    rows: dict[str, dict[str, Any]] = {}
    largest: list[str] = []
    for subset in chosen:
        names = [model.channels.names[position] for position in subset]
        try:
            row: dict[str, Any] = dict(count_flops(model, batch_size=batch_size, image_size=image_size, channels=names))
            if latency:
                row["latency_ms"] = {
                    str(size): measure_latency(model, batch_size=size, channels=names, **shared) for size in (1, 64)
                }
            largest = max(largest, names, key=len)
        except ChannelError as error:
            if subsets is not None:
                raise
            row = {"refused": str(error)}
        rows[model.channels.key(subset)] = row
    peak, why = None, ""
    if memory and largest:
        peak, why = try_memory(model, batch_size=batch_size, channels=largest, **shared)
    return {
        "params": count_parameters(model),
        "batch_size": batch_size,
        "image_size": plain_size(image_size),
        "subsets": rows,
        "peak_memory_mb": peak,
        "device": describe_device(target),
        "precision": form,
        "sampled": sampled,
        "note": " ".join(filter(None, [note, why])),
    }


def describe_device(device: torch.device) -> str:
    """The device in words: ``NVIDIA H100 80GB HBM3``, ``cpu (2 threads)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)
