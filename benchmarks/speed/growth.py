"""Rows about growth: more channels, and ten times as many images.

As a command it is one of the processes that rows 9b and 9c compare: ``python -m benchmarks.speed.growth FOLDER CACHE``.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

import anychannel as ac
from anychannel.channels import ChannelSet
from benchmarks.speed.steps import Step
from benchmarks.speed.timing import Row, compare, take_turns

CLASSES, SIDE = 10, 8
FEW = 25_000
STATUS = Path("/proc/self/status")
"""Where Linux says how much memory a process has of its own, beside the files that it maps."""


def many_channels(rounds: int) -> Iterator[Row]:
    """Row 9a: the time of a step grows with the number of channels no faster than linearly."""
    counts = (3, 16, 64)
    steps = {}
    for count in counts:
        channels = ChannelSet(tuple(f"c{i}" for i in range(count)), mean=(120.0,) * count, std=(60.0,) * count)
        steps[str(count)] = Step(
            "resnet18", 84, 16, "split", channels=channels, stem="completion", norm="shared", channel_sampling=None
        )
    seconds = take_turns(steps, rounds)
    middle = {count: statistics.median(seconds[str(count)]) for count in counts}
    expected = middle[3] + (middle[64] - middle[3]) * (16 - 3) / (64 - 3)
    what = "a training step with 16 channels against the line through 3 and 64, 84 x 84, batch 16"
    yield compare("9a", what, seconds, [middle[16] / expected], 1, 1.1)


def many_images(rounds: int) -> Iterator[Row]:
    """Rows 9b and 9c: an epoch's time and memory with ten times as many images, decoded into the cache before."""
    with tempfile.TemporaryDirectory() as place:
        folders = {count: Path(place) / str(count) for count in (FEW, 10 * FEW)}
        for count, folder in folders.items():
            write_small_images(folder, count)
        cache = str(Path(place) / "cache")
        found: dict[int, list[dict[str, Any]]] = {count: [] for count in folders}
        for turn in range(rounds + 1):
            for count, folder in folders.items():
                command = [sys.executable, "-m", "benchmarks.speed.growth", str(folder), cache]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                if turn:  # the first decodes the images
                    found[count].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {f"{count:,} images": [one["seconds"] for one in found[count]] for count in folders}
    pairs = list(zip(*found.values(), strict=True))
    what = f"a network of one convolution, {SIDE} x {SIDE} pixels, {10 * FEW:,} cached images against {FEW:,}"
    linear = [many["seconds"] / few["seconds"] / 10 for few, many in pairs]
    yield compare("9b", f"an epoch of fit, seconds an image: {what}", seconds, linear, 1, 1.1)
    if STATUS.is_file():
        flat = [many["memory"] / few["memory"] for few, many in pairs]
        yield compare("9c", f"the most memory of a process in this epoch: {what}", {}, flat, 1, 1.1)


def write_small_images(folder: Path, count: int) -> None:
    """A folder of classes with ``count`` training images, no two alike."""
    for place, (split, images) in enumerate({"train": count, "val": 500, "test": 500}.items()):
        random = np.random.default_rng(place)
        for number in range(CLASSES):
            inside = folder / split / f"class_{number}"
            inside.mkdir(parents=True)
            for image in range(images // CLASSES):
                pixels = Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
                pixels.save(inside / f"{image}.png", compress_level=0)


def measure(folder: str, cache_dir: str) -> dict[str, float]:
    """Seconds of an epoch of ``fit``, and the most anonymous memory meanwhile, in bytes."""
    data = ac.load_dataset(folder, channels="R,G,B", cache_dir=cache_dir)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    )
    model = ac.adapt(network, channels=data.channels, source_channels=data.channels)
    settings = ac.TrainingSettings(epochs=1, batch_size=256, lr=0.01, device="cpu", precision="fp32")
    most, done = [0], threading.Event()

    def watch() -> None:
        while STATUS.is_file() and not done.wait(0.02):
            found = re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text())
            most[0] = max(most[0], 1024 * int(found[1]) if found else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    ac.fit(model, data.train, data.val, settings)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return {"seconds": seconds, "memory": most[0]}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
