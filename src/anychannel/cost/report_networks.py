"""The original report's table of computational costs, for its eight networks."""

from __future__ import annotations

from typing import Any

from anychannel.cost.flops import count_flops
from anychannel.cost.memory import try_memory
from anychannel.cost.profile import count_parameters
from anychannel.models import REFERENCE_NETWORKS, create_reference
from anychannel.utils.progress import progress_bar

NOTES = {
    "task_1/v1": "Without the max-pool after the first convolution: the 84 x 84 map goes on.",
    "task_1/v3": "The report prints 11,192,700 parameters, fewer than ResNet18 has without any first convolution: it "
    "left the kernels out. Here all are counted.",
    "task_1/v4": "The same network as task_1/v2: channel dropout changes training only.",
}


def profile_report_networks(*, memory: bool = True, progress: bool = False) -> dict[str, dict[str, Any]]:
    """Measure the report's eight networks at its sizes: 84 x 84 RGB images, 50 classes, its batch sizes.

    Args:
        memory: also measure the peak memory of a training step on the CPU in float32, which takes a minute or two.
        progress: show a bar with the time left on standard error.

    Returns:
        For each of the report's names: ``params`` (``count_parameters``), ``gflops_calflops`` and
        ``gflops_with_attention`` (``count_flops``) of a batch, ``peak_memory_mb`` (``measure_memory``; None if it was
        not measured), ``batch_size``, and for some a ``note``.
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
