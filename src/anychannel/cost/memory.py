"""Peak memory of a training step, measured in a fresh process so that nothing else is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from anychannel.models.saving import describe_model, rebuild_model
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import place
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.sizes import ImageSize, describe_size, height_width

PROGRAM = "from anychannel.cost.memory import answer; answer()"
"""What the fresh process runs: it reads a task as JSON and prints the peak as JSON."""


class MemoryMeasurementError(RuntimeError):
    """The memory of a training step cannot be measured; the message says why."""


def measure_memory(
    model: Classifier,
    *,
    batch_size: int,
    image_size: ImageSize,
    channels: str | Sequence[str] | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> float:
    """Peak memory of one training step in MB (1 MB = 1e6 bytes).

    A fresh Python process builds the same network (other numbers, same sizes) and trains it with SGD and momentum:
    first one step on 2 images, so that gradients and momentum exist as they do during training, then one step on the
    whole batch: forward, cross-entropy, backward, update. The result is the peak over everything allocated since
    before the network was built: weights, gradients, momentum, images, activations and work space.

    On the CPU it is the peak resident set size minus the resident set size just before the network is built (after a
    step of a tiny network, so that the libraries' start is not counted); it repeats to a few per cent. On CUDA it is
    ``torch.cuda.max_memory_allocated``: the tensors, without the CUDA context and the allocator's cache.

    Raises MemoryMeasurementError on other devices, or if the process fails, for example because memory runs out.
    """
    target = next(model.parameters()).device if device is None else choose_device(device)
    if target.type not in ("cpu", "cuda"):
        raise MemoryMeasurementError(f"peak memory can be measured on cpu and cuda, not on {target}")
    task = {
        "model": describe_model(model),
        "batch_size": batch_size,
        "image_size": height_width(image_size),
        "channels": [model.channels.names[position] for position in model.channels.subset(channels)],
        "device": str(target),
        "precision": choose_precision(precision or "fp32", target),
        "threads": torch.get_num_threads(),
    }
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    # -P: modules in the working directory must not be imported
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        if done.returncode < 0:
            last = f"signal {-done.returncode} stopped the process, perhaps because memory ran out"
        raise MemoryMeasurementError(
            f"the memory of a training step at batch size {batch_size} and {describe_size(image_size)} pixels cannot "
            f"be measured: {last}"
        )
    return float(json.loads(done.stdout.splitlines()[-1])["peak_bytes"]) / 1e6


def try_memory(model: Classifier, **options: Any) -> tuple[float | None, str]:
    """``measure_memory``, or None and a sentence that says why it cannot be measured."""
    try:
        return measure_memory(model, **options), ""
    except MemoryMeasurementError as error:
        return None, f"No memory figure: {error}."


def answer() -> None:
    """Read a task from standard input and print ``{"peak_bytes": ...}``; run in the fresh process."""
    task: dict[str, Any] = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    print(json.dumps({"peak_bytes": measure_peak(task)}))  # noqa: T201


def measure_peak(task: dict[str, Any]) -> int:
    """Peak bytes of the task's training step, above those allocated before its network is built."""
    device = torch.device(task["device"])
    bf16 = task["precision"] == "bf16"
    tiny = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    train(tiny.to(device), [(2, 1, 8, 8)], device, bf16)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        forget_peak()
        before = resident("VmRSS")
    model = rebuild_model(task["model"])
    place(model, device)
    shapes = [(size, len(task["channels"]), *task["image_size"]) for size in (2, task["batch_size"])]
    train(model, shapes, device, bf16, channels=task["channels"])
    return (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")) - before


def train(
    model: nn.Module, shapes: Sequence[tuple[int, ...]], device: torch.device, bf16: bool, **options: Any
) -> None:
    """One step a batch of each shape (B, C, H, W): forward, loss, backward, SGD with momentum."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    for shape in shapes:
        # not zeros: the operating system gives those no memory until they are written to
        images = torch.ones(shape, device=device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images, **options), torch.zeros(len(images), dtype=torch.long, device=device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def forget_peak() -> None:
    """Reset the kernel's peak of the resident set to its present size, if the kernel permits it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # then the peak since the start of the process counts, which importing libraries may have set


def resident(field: str) -> int:
    """Bytes of the resident set: now (``VmRSS``) or at its peak (``VmHWM``).

    Without /proc (macOS) both are the peak since the start of the process, which training a network soon exceeds.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="ascii").splitlines() if status.is_file() else ():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    import resource  # here: there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
