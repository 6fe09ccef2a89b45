"""What a plain trained network does with missing channels when it is adapted without retraining.

    python -m benchmarks.measure.zero_shot runs/report_quick/resnet18-s0 \
        --out benchmarks/results/zero_shot/quick-s0.json

On every subset that the run was evaluated on, of the test images: zero-fill (the plain network), the mean of the
present channels (``grey``), completion, what ``replace_stem`` does by default, and zero-fill and completion with batch
norm statistics recomputed for the subset (``calibrate``) on unlabelled training images of that subset or of all
channels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anychannel.evaluation import evaluate, load_evaluation
from anychannel.models import Classifier, calibrate, load_model, replace_stem
from anychannel.nn.module_utils import place
from anychannel.runs.data import load_data
from anychannel.runs.environment import describe_environment
from anychannel.runs.folder import read_config
from anychannel.utils.files import write_json
from anychannel.utils.hardware import choose_device

WAYS = {
    "zero_fill": ("static", None),
    "zero_fill_calibrated": ("static", "the subset"),
    "grey": ("grey", None),
    "completion": ("completion", None),
    "completion_calibrated": ("completion", "the subset"),
    "completion_calibrated_whole": ("completion", "all channels"),
    "default": ("default", None),
    "default_calibrated_whole": ("default", "all channels"),
}
"""Each way's stem, or ``replace_stem``'s default, and which channels the images for calibration hold."""


def adapt(plain: Classifier, stem: str) -> Classifier:
    """A plain network with another stem."""
    if stem == "default":
        return replace_stem(plain)
    return replace_stem(plain, stem, **({"grey_single": False} if stem == "completion" else {}))


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run with the static stem")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1500, help="unlabelled images for calibration")
    parser.add_argument("--seed", type=int, default=0, help="which images")
    parser.add_argument("--device", default="auto", help="auto or a torch device")
    parser.add_argument("--commit", help="commit of this tree, where it is a copy without its history")
    options = parser.parse_args()
    device = choose_device(options.device)
    config = read_config(options.run)
    data = load_data(config)
    chosen = np.sort(np.random.default_rng(options.seed).permutation(len(data.train))[: options.images])
    images = torch.tensor(data.train.images[chosen])
    keys = list(load_evaluation(options.run).subsets)
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.measure.zero_shot runs/{options.run.parent.name}/{options.run.name} --out "
        f"benchmarks/results/zero_shot/{options.out.name} "
        f"--images {options.images} --seed {options.seed}",
        "run": {"name": options.run.name, "model": config.model, "data": data.name, "fingerprint": data.fingerprint},
        "environment": describe_environment(options.device) | ({"commit": options.commit} if options.commit else {}),
        "n": len(data.test),
    }
    for name, (stem, calibrated_on) in WAYS.items():
        model = adapt(load_model(options.run), stem)
        place(model, device)
        for subset in map(model.channels.subset, keys):
            if calibrated_on and subset != model.channels.full:
                shown = images if calibrated_on == "all channels" else images[:, list(subset)]
                calibrate(model, shown, [model.channels.names[i] for i in subset])
        figures = evaluate(model, data.test, subsets=keys, precision="auto").subsets
        result[name] = {key: round(100 * row["accuracy"], 2) for key, row in figures.items()}
        print(f"{name:<28}" + "".join(f"{key.replace(',', '')}: {value:.1f}  " for key, value in result[name].items()))
    write_json(options.out, result)


if __name__ == "__main__":
    main()
