"""A model on disk: ``model.json`` says how to rebuild it, a safetensors file holds its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from anychannel.channels import ChannelSet
from anychannel.files import write_atomically, write_json
from anychannel.models.calibration import add_entries
from anychannel.models.classifier import Classifier
from anychannel.models.registry import create_model

FORMAT = 1


class ModelFileError(ValueError):
    """A model's files are missing, damaged or of another kind; the message names the file."""


def describe_model(model: Classifier) -> dict[str, Any]:
    """What ``model.json`` holds."""
    spec = replace(model.spec, stem_options={**model.spec.stem_options, **model.stem.options()})
    return {"format": FORMAT, **asdict(spec), "channels": model.channels.to_dict()}


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary))


def save_model(model: Classifier, folder: str | Path, *, weights: str = "weights/best.safetensors") -> None:
    """Write ``model.json`` and the weights.

    Args:
        model: the classifier.
        folder: made if missing.
        weights: file name of the weights inside the folder.
    """
    folder = Path(folder)
    write_json(folder / "model.json", describe_model(model))
    save_weights(model.state_dict(), folder / weights)


def rebuild_model(description: dict[str, Any]) -> Classifier:
    """The network that ``describe_model`` described, with fresh weights: pretrained ones are not fetched again."""
    options = {key: value for key, value in description["model_options"].items() if key != "pretrained"}
    model = create_model(
        description["model"],
        channels=ChannelSet.from_dict(description["channels"]),
        num_classes=description["num_classes"],
        stem=description["stem"],
        stem_options=description["stem_options"],
        model_options=options,
        norm=description.get("norm", "shared"),
        classes=description["classes"],
    )
    if description.get("calibrated"):
        add_entries(model, description["calibrated"])
    return model


def load_model(folder: str | Path, *, weights: str = "weights/best.safetensors") -> Classifier:
    """Rebuild a saved classifier, in evaluation mode, on the CPU.

    Args:
        folder: a run's folder, or any folder that ``save_model`` wrote.
        weights: file name of the weights inside the folder.

    Raises:
        ModelFileError: a file is missing or damaged, or the weights are of another network.
    """
    folder = Path(folder)
    description, tensors = folder / "model.json", folder / weights
    for file in (description, tensors):
        if not file.is_file():
            raise ModelFileError(f"{file} is missing; {folder} is not a folder written by save_model or by training")
    try:
        values = json.loads(description.read_text(encoding="utf-8"))
        model = rebuild_model(values)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{description} is damaged or not a model description: {error!r}") from error
    try:
        model.load_state_dict(load_file(tensors))
    except Exception as error:  # safetensors and torch raise several kinds
        raise ModelFileError(f"{tensors} does not hold the weights of {description}: {error}") from error
    return model.eval()
