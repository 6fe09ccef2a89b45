"""Peak memory of a training step, measured in a process of its own so that nothing else is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import anychannel
from anychannel.models import Classifier
from anychannel.models.saving import describe_model
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.sizes import ImageSize, describe_size, height_width

WORKER = "anychannel.cost.memory_worker"


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
    first one step on 2 images, so that gradients and momentum exist as they do in the midst of training, then one on
    the whole batch: forward, cross-entropy, backward, update. What counts is the peak over everything from before the
    network is made: weights, gradients, momentum, images, activations and work space.

    On the CPU it is the peak resident set size minus the resident set size just before the network is made (after a
    step of a tiny network, so that the libraries' own start is not counted); it repeats to a few per cent. On CUDA it
    is ``torch.cuda.max_memory_allocated``: the tensors, without the CUDA context and without what the allocator caches.

    Args:
        model: says what to build; left as it is.
        batch_size: images of the step.
        image_size: their height and width in pixels: one number, or ``(height, width)``.
        channels: names of the channels to train on; None means all.
        device: ``auto``, ``cpu`` or ``cuda``; None is where the model is.
        precision: ``fp32``, ``bf16`` (autocast) or ``auto``; None is fp32.

    Raises:
        ChannelError: a channel is unknown.
        MemoryMeasurementError: the platform cannot tell, or the process failed (too little memory, say).
    """
    target = next(model.parameters()).device if device is None else choose_device(device)
    if target.type not in ("cpu", "cuda"):
        raise MemoryMeasurementError(f"peak memory can be measured on cpu and cuda, not on {target}")
    names = [model.channels.names[position] for position in model.channels.subset(channels)]
    task = {
        "model": describe_model(model),
        "batch_size": batch_size,
        "image_size": height_width(image_size),
        "channels": names,
        "device": str(target),
        "precision": choose_precision(precision or "fp32", target),
        "threads": torch.get_num_threads(),
    }
    return float(ask_worker(task)["peak_bytes"]) / 1e6


def ask_worker(task: dict[str, Any]) -> dict[str, Any]:
    """Give the worker a task as JSON and read its answer.

    Raises:
        MemoryMeasurementError: it did not answer; the message has the last line that it wrote.
    """
    source = str(Path(anychannel.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    # -P: what lies in the working directory must not be imported
    done = subprocess.run(
        [sys.executable, "-P", "-m", WORKER],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or "no message").splitlines()[-1]
        stopped = f"the process was stopped by signal {-done.returncode}, perhaps for want of memory"
        raise MemoryMeasurementError(
            f"the memory of a training step at batch size {task['batch_size']} and {describe_size(task['image_size'])} "
            f"pixels cannot be measured: {stopped if done.returncode < 0 else said}"
        )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
