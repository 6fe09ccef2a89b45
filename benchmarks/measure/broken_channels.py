"""How often a channel that is broken on purpose is noticed, and what leaving it out saves.

    python -m benchmarks.measure.broken_channels --data DATA --runs runs/broken

For each data set, a small network is trained for every subset. Then, in the test images, one channel at a time is
broken: ``zeros``; ``stuck`` at the largest value of the training images; ``noise``, white noise of the channel's mean
and deviation; ``swapped`` with the next channel, which breaks two. ``found`` is the share of images in which a broken
channel is noticed, ``others`` that in which an intact one is; ``used``, ``left_out`` and ``drop_dead`` are accuracies
from all channels, without the broken ones, and without those that were noticed. All in percent, means over channels.
The data sets and the figures of intact images are the result's first level.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import anychannel as ac
from anychannel.runs.data import load_data
from anychannel.runs.environment import describe_environment
from anychannel.utils.files import write_json

OUT = Path(__file__).parents[1] / "results" / "broken_channels.json"
MOST = 300
"""Test images, evenly spaced."""
SMALL: dict[str, Any] = {"model": "compact_k7", "model_options": {"width": 16}, "size": 24}
SETS: dict[str, dict[str, Any]] = {
    "jurkat-cell-cycle": SMALL | {"training": {"epochs": 6, "seed": 0}},
    "neon-tree-crowns": SMALL | {"groups": {}, "training": {"epochs": 15, "batch_size": 32, "seed": 0}},
    "mini-imagenet-50": SMALL | {"classes": 10, "training": {"epochs": 4, "seed": 0}},
}
"""Folders of the data, and the settings of their networks."""

Break = Callable[[np.ndarray, int, np.random.Generator, np.ndarray, ac.ChannelSet], list[int]]


def zeros(images: np.ndarray, i: int, *_: Any) -> list[int]:
    """A sensor that gives nothing."""
    images[:, i] = 0
    return [i]


def stuck(images: np.ndarray, i: int, _: Any, most: np.ndarray, *__: Any) -> list[int]:
    """A sensor that is saturated."""
    images[:, i] = most[i]
    return [i]


def noise(images: np.ndarray, i: int, random: np.random.Generator, most: np.ndarray, known: ac.ChannelSet) -> list[int]:
    """A sensor whose values have no more to do with the scene."""
    drawn = random.normal(known.mean[i], known.std[i], images[:, i].shape)
    images[:, i] = drawn.round().clip(0, most[i])
    return [i]


def swapped(images: np.ndarray, i: int, *_: Any) -> list[int]:
    """Two cables exchanged."""
    j = (i + 1) % images.shape[1]
    images[:, [i, j]] = images[:, [j, i]]
    return [i, j]


KINDS: dict[str, Break] = {"zeros": zeros, "stuck": stuck, "noise": noise, "swapped": swapped}


def measure(run: Path, data: ac.ImageDataset) -> dict[str, Any]:
    """The figures of one network."""
    rows = np.unique(np.linspace(0, len(data.test) - 1, MOST).astype(int))
    labels, images = data.test.labels[rows], np.stack([data.test.images[row] for row in rows])
    shown = np.stack([data.train.images[row] for row in range(0, len(data.train), max(1, len(data.train) // 1000))])
    most, names = shown.max(axis=(0, 2, 3)), data.channels.names

    def classify(pixels: np.ndarray, **options: Any) -> tuple[float, np.ndarray]:
        found = ac.predict(run, pixels, **options)
        noticed = np.array([[name in dead for name in names] for dead in found.dead])
        return 100 * float((found.labels == labels).mean()), noticed

    intact, alarms = classify(images)
    found = {
        "images": len(labels),
        "channels": len(names),
        "intact": {
            "accuracy": intact,
            "drop_dead": classify(images, drop_dead=True)[0],
            "images_with_alarm": 100 * float(alarms.any(axis=1).mean()),
            "channels_with_alarm": 100 * float(alarms.mean()),
        },
    }
    for kind, broken in KINDS.items():
        each = []
        for i in range(len(names)):
            random = np.random.default_rng([0, i])
            pixels = images.copy()
            places = broken(pixels, i, random, most, data.channels)
            used, noticed = classify(pixels)
            left = [name for place, name in enumerate(names) if place not in places]
            each.append(
                {
                    "found": 100 * float(noticed[:, places].any(axis=1).mean()),
                    "others": 100 * float(np.delete(noticed, places, axis=1).any(axis=1).mean()),
                    "used": used,
                    "left_out": classify(pixels, use=left)[0],
                    "drop_dead": classify(pixels, drop_dead=True)[0],
                }
            )
        found[kind] = {key: round(float(np.mean([one[key] for one in each])), 1) for key in each[0]}
        print(f"{run.name} {kind}: {found[kind]}", flush=True)
    found["intact"] = {key: round(value, 1) for key, value in found["intact"].items()}
    return found


def main() -> None:
    """Train, measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the networks")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": "python -m benchmarks.measure.broken_channels --data DATA --runs runs/broken",
        "environment": describe_environment("cpu"),
    }
    for name, settings in SETS.items():
        config = ac.RunConfig.from_dict({"data": str(options.data / name), **settings})
        data, run = load_data(config), options.runs / name
        ac.train_run(config, run, resume=True, cost=False, progress=True)
        result[name] = {"settings": settings, "fingerprint": data.fingerprint, **measure(run, data)}
        write_json(options.out, result)


if __name__ == "__main__":
    main()
