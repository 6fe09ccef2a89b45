"""What a network trained on five of eight bands does with the three that it never saw.

    python benchmarks/held_out_bands.py --out benchmarks/results/held_out_bands.json

Trains a small network on bands 1, 3, 5, 6 and 8 of ``bands:8`` with every stem that can take more channels, adds bands
2, 4 and 7 with ``with_channels`` (labels of the new bands are never used, only their mean, deviation and correlations
over the training images), and measures test accuracy in percent on groups of bands, for each seed. ``all_bands`` is
the same network trained on all eight, as an upper reference; chance is 10.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.data import load_dataset
from anychannel.evaluation import evaluate
from anychannel.files import write_json
from anychannel.models import Classifier, create_model, with_channels
from anychannel.runs.environment import describe_environment
from anychannel.training import TrainingSettings, fit
from anychannel.training.randomness import seeded

TRAINED = ("band_1", "band_3", "band_5", "band_6", "band_8")
HELD_OUT = ("band_2", "band_4", "band_7")
GROUPS: dict[str, list[tuple[str, ...]]] = {
    "one trained band": [(name,) for name in TRAINED],
    "one held-out band": [(name,) for name in HELD_OUT],
    "the three held-out bands": [HELD_OUT],
    "one trained and the three held-out": [(name, *HELD_OUT) for name in TRAINED],
    "the five trained bands": [TRAINED],
    "all eight bands": [TRAINED + HELD_OUT],
}
WAYS: dict[str, tuple[str, str]] = {
    "zero_fill": ("static", "zero"),
    "nearest_band": ("static", "nearest"),
    "descriptor": ("descriptor", "generated"),
    "dofa": ("dofa", "generated"),
    "completion": ("completion", "zero"),
    "completion_nearest": ("completion", "nearest"),
}
"""For each way: the stem that was trained, and how the held-out bands were added."""


def main() -> None:
    """Train, add, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=32)
    options = parser.parse_args()
    data = load_dataset("bands:8")
    settings = {"epochs": options.epochs, "batch_size": 128, "lr": 0.1, "sampler": "split", "crop_padding": 1}
    settings |= {"flip": False, "precision": "fp32", "device": "cpu"}

    def train(stem: str, names: tuple[str, ...], seed: int) -> Classifier:
        chosen = data.select(names)
        with seeded(seed, 0):
            model = create_model(
                "compact_k7",
                channels=chosen.channels,
                num_classes=10,
                stem=stem,
                model_options={"width": options.width},
            )
        fit(model, chosen.train, chosen.val, TrainingSettings(**settings, seed=seed))
        return model

    def measure(model: Classifier) -> dict[str, float]:
        subsets = sorted(
            {model.channels.key(model.channels.subset(names)) for rows in GROUPS.values() for names in rows}
        )
        figures = evaluate(model, data.test, subsets=subsets, device="cpu", precision="fp32").subsets
        return {
            group: float(
                np.mean([figures[model.channels.key(model.channels.subset(names))]["accuracy"] for names in rows])
            )
            for group, rows in GROUPS.items()
        }

    result: dict[str, Any] = {
        "command": f"python benchmarks/held_out_bands.py --out {options.out} --seeds {options.seeds} "
        f"--epochs {options.epochs} --width {options.width}",
        "data": {"name": data.name, "fingerprint": data.fingerprint, "n_test": len(data.test)},
        "trained": TRAINED,
        "held_out": HELD_OUT,
        "settings": settings,
        "environment": describe_environment("cpu", "fp32"),
        "seeds": list(range(options.seeds)),
        "accuracy": {way: {group: [] for group in GROUPS} for way in [*WAYS, "all_bands"]},
    }
    for seed in range(options.seeds):
        networks = {stem: train(stem, TRAINED, seed) for stem in dict.fromkeys(stem for stem, _ in WAYS.values())}
        models = {way: with_channels(networks[stem], data.channels, new=new) for way, (stem, new) in WAYS.items()}
        models["all_bands"] = train("static", data.channels.names, seed)
        for way, model in models.items():
            row = measure(model)
            for group, value in row.items():
                result["accuracy"][way][group].append(round(100 * value, 2))
            print(f"seed {seed}  {way:<20}" + "".join(f"{100 * value:7.1f}" for value in row.values()), flush=True)
        write_json(options.out, result | {"finished_seeds": seed + 1})


if __name__ == "__main__":
    main()
