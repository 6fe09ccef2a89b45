"""Measures the peak memory of a training step: reads a task as JSON, prints the answer as JSON, and ends.

Run by ``measure_memory`` as ``python -m anychannel.cost.memory_worker``; see there for what is measured.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from anychannel.models.saving import rebuild_model
from anychannel.nn.module_utils import place

STATUS = Path("/proc/self/status")


def main() -> None:
    """Read a task from standard input, measure, print ``{"peak_bytes": ...}``."""
    task: dict[str, Any] = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    print(json.dumps({"peak_bytes": measure(task)}))  # noqa: T201


def measure(task: dict[str, Any]) -> int:
    """Peak bytes of the task's training step, over those before its network was made."""
    device = torch.device(task["device"])
    half = task["precision"] == "bf16"
    tiny = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    train(tiny.to(device), device, half, [(2, 1, 8, 8)], {})
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        forget_peak()
        before = resident("VmRSS")
    train_network(task, device, half)
    after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")
    return after - before


def train_network(task: dict[str, Any], device: torch.device, half: bool) -> None:
    """Build the task's network and train it for two steps, on 2 images and on the whole batch."""
    model = rebuild_model(task["model"])
    place(model, device)
    sides = (len(task["channels"]), *task["image_size"])
    train(model, device, half, [(size, *sides) for size in (2, task["batch_size"])], {"channels": task["channels"]})


def train(
    model: nn.Module,
    device: torch.device,
    half: bool,
    shapes: Sequence[tuple[int, int, int, int]],
    options: dict[str, Any],
) -> None:
    """One step a batch of each shape (B, C, H, W): forward, loss, backward, SGD with momentum."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    for shape in shapes:
        # not zeros: the operating system would not give those any memory until they are written to
        images = torch.ones(shape, device=device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(images, **options), torch.zeros(len(images), dtype=torch.long, device=device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def forget_peak() -> None:
    """Set the kernel's peak of the resident set back to its present size, where the kernel lets us (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        # then the peak since the process began counts, which the start of the libraries alone may have set
        return


def resident(field: str) -> int:
    """Bytes of the resident set: now (``VmRSS``) or at its peak (``VmHWM``).

    Where there is no /proc (macOS), both are the peak since the process began, which importing libraries sets and
    training a network soon exceeds.
    """
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
