"""Export a run as a folder for the Hugging Face Hub, with a model card of its training and test results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anychannel.export.formats import ExportError
from anychannel.models import load_model
from anychannel.results.run import RunError, read_record, warn_unfinished
from anychannel.runs.folder import read_config
from anychannel.utils.sizes import ImageSize

TRAINING = ("epochs", "batch_size", "sampler", "optimizer", "lr", "weight_decay", "schedule", "label_smoothing", "seed")


def card_facts(run: str | Path) -> dict[str, Any]:
    """Facts about a run for its model card: ``model.push_to_hub("user/name", model_card_kwargs=card_facts(run))``.

    They contain no paths; the data set is named by its folder's name.

    Args:
        run: a run's folder. Its test results are included if there are any.

    Returns:
        See ``HubClassifier.generate_model_card``.

    Raises:
        RunError: the folder is not a run, or one of its files is damaged.
    """
    run = Path(run)
    config = read_config(run)
    record, test_file = read_record(run), run / "evaluation" / "test.json"
    try:
        evaluation = json.loads(test_file.read_text(encoding="utf-8")) if test_file.is_file() else None
    except ValueError as error:
        raise RunError(f"{test_file} is damaged; write it anew: anychannel evaluate {run} --save") from error
    settings = {key: getattr(config.training, key) for key in TRAINING}
    settings["sampler options"] = ", ".join(f"{key}={value}" for key, value in config.training.sampler_options.items())
    settings |= {"norm": record["norm"], "epochs run": record.get("epochs_run"), "best epoch": record.get("best_epoch")}
    return {
        "name": record["name"],
        "dataset": Path(record["dataset"]).name,
        "image_size": record["image_size"],
        "num_train": record["num_train"],
        "training": {key: value for key, value in settings.items() if value not in (None, "")},
        "evaluation": evaluation,
    }


def run_image_size(run: str | Path) -> ImageSize:
    """Height and width in pixels of a run's training images."""
    if not (Path(run) / "run.json").is_file():
        raise ExportError(f"{run} has no run.json that says how large its images are; give the size (--size 84)")
    size: ImageSize = read_record(run)["image_size"]
    return size


def export_run_to_hub_folder(run: str | Path, folder: str | Path) -> Path:
    """Write a run's best weights as a folder for ``from_pretrained`` and for the hub; returns the folder.

    It may not have a model card yet, because that may have been edited.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is a file; give --out a folder")
    card = folder / "README.md"
    if card.exists():
        raise ExportError(f"{card} is there already and may have been edited; remove it, or choose another folder")
    facts = card_facts(run)
    warn_unfinished(run)
    load_model(run).save_pretrained(folder, model_card_kwargs=facts)
    return folder
