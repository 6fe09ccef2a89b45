"""What a network costs: parameters, operations, memory and time; and the original report's table of costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from anychannel.channels import ChannelError, Subset
from anychannel.cost.flops import count_flops
from anychannel.cost.latency import measure_latency
from anychannel.cost.memory import try_memory
from anychannel.evaluation import choose_subsets
from anychannel.models import REFERENCE_NETWORKS, create_reference
from anychannel.nn.classifier import Classifier
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.plurals import plural
from anychannel.utils.progress import progress_bar
from anychannel.utils.sizes import ImageSize, plain_size

NOTES = {
    "task_1/v1": "Without the max-pool after the first convolution: the 84 x 84 map goes on.",
    "task_1/v3": "The report prints 11,192,700 parameters, fewer than ResNet18 has without any first convolution: it "
    "left the kernels out. Here all are counted.",
    "task_1/v4": "The same network as task_1/v2: channel dropout changes training only.",
}
"""Remarks on the original report's networks."""


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
    progress: bool = False,
) -> dict[str, Any]:
    """Measure what a network costs, as plain values for JSON, which ``anychannel.results.cost.Cost`` reads.

    ``params`` is ``count_parameters``. Each subset has the two GFLOPs of ``count_flops`` at ``batch_size`` and
    ``latency_ms`` per image at batch 1 and 64 (``measure_latency``), or ``{"refused": reason}`` if the model does not
    accept the subset; a named subset that is refused raises ChannelError. ``peak_memory_mb`` is that of a training
    step on the largest accepted subset (``measure_memory``); None if it was not measured, with the reason in ``note``.
    Without named subsets, all are measured up to 16, else those of ``choose_subsets`` with one of each size.
    ``progress`` shows a bar on standard error.
    """
    target = next(model.parameters()).device if device is None else choose_device(device)
    form = choose_precision(precision or "fp32", target)
    chosen, sampled, note = choose_subsets(model.channels, subsets, limit=16, per_size=1)
    shared: dict[str, Any] = {"image_size": image_size, "device": str(target), "precision": form}
    rows: dict[str, dict[str, Any]] = {}
    accepted: list[Subset] = []
    peak, why = None, ""
    with progress_bar("measure cost", len(chosen) + memory, show=progress) as advance:
        advance(0, note=f"FLOPs{' and latency' * latency} of {plural(len(chosen), 'subset')}{', memory' * memory}")
        for subset in chosen:
            key = model.channels.key(subset)
            try:
                row: dict[str, Any] = dict(
                    count_flops(model, batch_size=batch_size, image_size=image_size, channels=key)
                )
                if latency:
                    row["latency_ms"] = {
                        str(size): measure_latency(model, batch_size=size, channels=key, **shared) for size in (1, 64)
                    }
                accepted.append(subset)
            except ChannelError as error:
                if subsets is not None:
                    raise
                row = {"refused": str(error)}
            rows[key] = row | ({"name": model.channels.name(subset)} if model.channels.grouped else {})
            advance()
        if memory and accepted:
            names = [model.channels.names[position] for position in max(accepted, key=len)]
            peak, why = try_memory(model, batch_size=batch_size, channels=names, **shared)
            advance()
    cpu = f"cpu ({torch.get_num_threads()} threads)" if target.type == "cpu" else str(target)
    return {
        "params": count_parameters(model),
        "batch_size": batch_size,
        "image_size": plain_size(image_size),
        "subsets": rows,
        "peak_memory_mb": peak,
        "device": torch.cuda.get_device_name(target) if target.type == "cuda" else cpu,
        "precision": form,
        "sampled": sampled,
        "note": " ".join(filter(None, [note, why])),
    }


def profile_report_networks(*, memory: bool = True, progress: bool = False) -> dict[str, dict[str, Any]]:
    """Measure the report's eight networks at its sizes: 84 x 84 RGB images, 50 classes, its batch sizes.

    The values by name are ``params``, the GFLOPs of ``count_flops``, ``peak_memory_mb`` of a training step on the CPU
    in float32 (None unless ``memory``, which takes a minute or two), ``batch_size``, and for some a ``note``.
    """
    rows: dict[str, dict[str, Any]] = {}
    measured: dict[str, tuple[float | None, str]] = {}
    with progress_bar("profile", len(REFERENCE_NETWORKS), show=progress) as advance:
        for name, network in REFERENCE_NETWORKS.items():
            model = create_reference(name, num_classes=50)
            size = network.batch_size
            # v2 and v4 differ in their sampler only, and are measured once
            same = repr((network.model, network.stem, network.model_options, size))
            if memory and same not in measured:
                measured[same] = try_memory(model, batch_size=size, image_size=84, device="cpu")
            peak, why = measured.get(same, (None, ""))
            note = " ".join(filter(None, [NOTES.get(name), why]))
            rows[name] = {
                "params": count_parameters(model),
                **count_flops(model, batch_size=size, image_size=84),
                "peak_memory_mb": peak,
                "batch_size": size,
                **({"note": note} if note else {}),
            }
            advance(note=name)
    return rows
