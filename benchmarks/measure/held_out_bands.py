"""What a network trained on five of eight bands does with the three that it never saw.

    python -m benchmarks.measure.held_out_bands --out benchmarks/results/held_out_bands.json
    python -m benchmarks.tables.report

For each seed and each of three choices of held-out bands (``HELD_OUT``), trains a small network on the other five bands
of ``bands:8`` with every stem that can take more channels, adds the held-out bands with ``with_channels`` (no label of
theirs is used, only their mean, deviation and correlations over the training images), and measures test accuracy in
percent on groups of bands. ``all_bands`` is the same network trained on all eight, as an upper reference; chance is 10.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.data import load_dataset
from anychannel.evaluation import evaluate
from anychannel.models import Classifier, create_model, with_channels
from anychannel.runs.environment import describe_environment
from anychannel.training import TrainingSettings, fit
from anychannel.utils.files import write_json
from anychannel.utils.seeds import seeded

HELD_OUT: dict[str, tuple[str, ...]] = {
    "between": ("band_2", "band_4", "band_7"),
    "gap": ("band_4", "band_5", "band_6"),
    "ends": ("band_1", "band_7", "band_8"),
}
"""Held-out bands: each between two trained ones, a gap in the middle of the spectrum, and beyond its ends."""
WAYS: dict[str, tuple[str, str]] = {
    "zero_fill": ("static", "zero"),
    "nearest_band": ("static", "nearest"),
    "descriptor": ("descriptor", "generated"),
    "dofa": ("dofa", "generated"),
    "completion": ("completion", "zero"),
    "completion_nearest": ("completion", "nearest"),
}
"""For each way: the stem that was trained, and how the held-out bands were added."""


def groups(trained: tuple[str, ...], held_out: tuple[str, ...]) -> dict[str, list[tuple[str, ...]]]:
    """Subsets whose accuracies are averaged, by what they have in common."""
    return {
        "one_trained": [(name,) for name in trained],
        "one_held_out": [(name,) for name in held_out],
        "held_out": [held_out],
        "one_trained_and_held_out": [(name, *held_out) for name in trained],
        "trained": [trained],
        "all": [trained + held_out],
    }


def main() -> None:
    """Train, add, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--model", default="timm/resnet10t")
    options = parser.parse_args()
    data = load_dataset("bands:8")
    settings = {"epochs": options.epochs, "batch_size": 128, "lr": 0.1, "sampler": "split", "crop_padding": 1}
    settings |= {"flip": False, "precision": "fp32", "device": "cpu"}

    def train(stem: str, names: tuple[str, ...], seed: int) -> Classifier:
        chosen = data.select(names)
        with seeded(seed, 0):
            model = create_model(options.model, channels=chosen.channels, num_classes=10, stem=stem, norm="shared")
        fit(model, chosen.train, chosen.val, TrainingSettings(**settings, seed=seed))
        return model

    def measure(model: Classifier, chosen: dict[str, list[tuple[str, ...]]]) -> dict[str, float]:
        keys = {
            group: [model.channels.key(model.channels.subset(names)) for names in rows]
            for group, rows in chosen.items()
        }
        subsets = sorted({key for rows in keys.values() for key in rows})
        figures = evaluate(model, data.test, subsets=subsets, device="cpu", precision="fp32").subsets
        return {group: 100 * float(np.mean([figures[key]["accuracy"] for key in rows])) for group, rows in keys.items()}

    accuracy: dict[str, dict[str, dict[str, list[float]]]] = {
        choice: {way: {} for way in [*WAYS, "all_bands"]} for choice in HELD_OUT
    }
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.measure.held_out_bands --out {options.out} --seeds {options.seeds} "
        f"--epochs {options.epochs} --model {options.model}",
        "data": {"name": data.name, "fingerprint": data.fingerprint, "n_test": len(data.test)},
        "held_out": HELD_OUT,
        "model": options.model,
        "settings": settings,
        "environment": describe_environment("cpu", "fp32"),
        "seeds": [],
        "accuracy": accuracy,
    }
    for seed in range(options.seeds):
        everything = train("static", data.channels.names, seed)
        for choice, held_out in HELD_OUT.items():
            trained = tuple(name for name in data.channels.names if name not in held_out)
            networks = {stem: train(stem, trained, seed) for stem in dict.fromkeys(stem for stem, _ in WAYS.values())}
            models = {way: with_channels(networks[stem], data.channels, new=new) for way, (stem, new) in WAYS.items()}
            for way, model in (models | {"all_bands": everything}).items():
                row = measure(model, groups(trained, held_out))
                for group, value in row.items():
                    accuracy[choice][way].setdefault(group, []).append(round(value, 2))
                figures = "".join(f"{value:7.1f}" for value in row.values())
                print(f"seed {seed}  {choice:<8} {way:<20}{figures}", flush=True)
        result["seeds"].append(seed)
        write_json(options.out, result)


if __name__ == "__main__":
    main()
