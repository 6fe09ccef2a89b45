"""The record of a network that was trained elsewhere: a run's folder, without a training, from its test images."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.cost.profile import profile
from anychannel.data import ImageDataset, Split, TorchImages
from anychannel.evaluation import Evaluation, evaluate
from anychannel.evaluation.evaluate import match
from anychannel.models import Classifier
from anychannel.models.saving import save_model
from anychannel.models.untrusted import OWN_MODULE, ModelFileError
from anychannel.results.run import FORMAT, OUTSIDE, RunError, read_record
from anychannel.runs.environment import command_line, describe_environment
from anychannel.runs.examples import COUNT, choose_examples, collect_examples
from anychannel.runs.examples import FILE as EXAMPLES
from anychannel.training.matching import Names
from anychannel.utils.files import write_atomically, write_json, write_text
from anychannel.utils.sizes import height_width, plain_size


def record_model(
    model: Classifier,
    data: Any,
    folder: str | Path,
    *,
    name: str | None = None,
    channels: Names = None,
    subsets: str | Sequence[str] | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str | None = None,
    cost: bool = False,
    keep_network: bool = True,
    progress: bool = False,
) -> Path:
    """Evaluate a network on its test images and write a run's folder, which reports, ``compare`` and ``serve`` read.

    Args:
        model: a channel-adaptive network, trained anywhere.
        data: its test images: a PyTorch ``Dataset`` or ``DataLoader``, a split, or a data set with a test split.
        folder: a new or empty folder, or one that this function wrote, whose content is replaced.
        name: of the network in reports; None uses the folder's name.
        channels, subsets, batch_size, device, precision, progress: see ``evaluate``.
        cost: also measure FLOPs, memory and latency.
        keep_network: also save the network.

    Returns:
        The folder.

    Raises:
        RunError: the folder holds something else.
        TypeError, ValueError, ChannelError: see ``evaluate``.

    Warns:
        UserWarning: the network itself cannot be saved, or not be rebuilt without its class; the message says what
            ``serve`` and ``predict`` need.
    """
    home = Path(folder)
    check_folder(home)
    evaluation = evaluate(
        model,
        data,
        channels=channels,
        subsets=subsets,
        batch_size=batch_size,
        device=device,
        precision=precision,
        progress=progress,
    )
    images, planes, _ = match(model, data, "test", channels)
    split = pick_examples(images, planes, model, evaluation)
    size = height_width(tuple(map(int, split.images.shape[-2:])))
    given = data if isinstance(data, ImageDataset) else getattr(data, "dataset", data)
    record = {
        "format": FORMAT,
        "name": name or home.resolve().name,
        **describe_network(model),
        "dataset": name_data(given),
        "fingerprint": fingerprint(evaluation),
        "channels": list(model.channels.names),
        "file_channels": list(model.channels.names),
        "classes": list(evaluation.classes),
        "num_test": len(evaluation.labels),
        "image_size": plain_size(size),
        "image_type": np.dtype(split.images.dtype).name,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "status": "finished",
        OUTSIDE: True,
        **({} if evaluation.thresholds is None else {"several_labels": True}),
    }
    home.mkdir(parents=True, exist_ok=True)
    evaluation.save(home)
    examples, pixels = collect_examples(split, model.channels.names, evaluation.classes, evaluation)
    write_json(home / "examples.json", examples)
    write_atomically(home / EXAMPLES, partial(np.save, arr=pixels, allow_pickle=False))
    write_json(home / "environment.json", describe_environment(device or "auto", precision or "fp32"))
    write_text(home / "command.txt", command_line() + "\n")
    if cost:
        write_json(home / "cost.json", profile(model, batch_size=batch_size, image_size=size, device=device))
    write_json(home / "run.json", record)
    if keep_network:
        save_network(model, home)
    return home


def check_folder(home: Path) -> None:
    """Refuse a folder that holds anything but an earlier record of such a network."""
    if home.exists() and not home.is_dir():
        raise RunError(f"{home} is a file; give a folder")
    if not home.is_dir() or not any(home.iterdir()):
        return
    if not (home / "run.json").is_file() or not read_record(home).get(OUTSIDE):
        raise RunError(f"{home} is not empty, and holds no record of a network trained elsewhere; give a new folder")


def save_network(model: Classifier, home: Path) -> None:
    """Save the network, and warn if ``serve`` and ``predict`` cannot load it from the folder alone."""
    try:
        save_model(model, home)
    except ModelFileError as error:
        warnings.warn(
            f"the network cannot be saved to {home} ({error}); to try it on a page, pass it to serve as model=",
            stacklevel=3,
        )
        return
    made_of = getattr(getattr(model, "spec", None), "model", "")
    if made_of.startswith(OWN_MODULE):
        kind = made_of.removeprefix(OWN_MODULE)
        warnings.warn(
            f"{home} holds the weights of your own class {kind}, which only your code can build; to try it on a page, "
            f"use serve({str(home)!r}, model=model), or `anychannel serve {home} --module FILE:FUNCTION`",
            stacklevel=3,
        )


def describe_network(model: Any) -> dict[str, str]:
    """Names of the network and its parts, as ``run.json`` has them."""
    spec = getattr(model, "spec", None)
    found = {key: str(getattr(spec, key, "")) for key in ("model", "stem", "norm")}
    found["model"] = found["model"].removeprefix(OWN_MODULE) or type(model).__name__
    return {key: value for key, value in found.items() if value}


def name_data(data: Any) -> str:
    """A data set's name: its own, that of its folder, or its class."""
    found = getattr(data, "name", None)
    if isinstance(found, str) and found:
        return found
    root = getattr(data, "root", None)
    return Path(root).name if isinstance(root, str | Path) and Path(root).name else type(data).__name__


def fingerprint(evaluation: Evaluation) -> str:
    """A digest of the images' paths and labels: reports compare networks that were tested on the same images."""
    digest = hashlib.sha256("\n".join(evaluation.paths).encode())
    digest.update(evaluation.labels.astype("<i8").tobytes())
    return digest.hexdigest()[:32]


class Picked:
    """Images (N, C, H, W) of which only some were read."""

    def __init__(self, found: dict[int, np.ndarray], count: int) -> None:
        first = next(iter(found.values()))
        self.found = {position: image for position, image in found.items() if image.shape == first.shape}
        self.shape = (count, *first.shape)
        self.dtype = first.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, position: Any) -> np.ndarray:
        return self.found.get(int(position), np.zeros(self.shape[1:], self.dtype))


def pick_examples(
    images: Split | TorchImages, planes: dict[int, int], model: Classifier, evaluation: Evaluation
) -> Split:
    """A split of the evaluated images, in the model's channels, of which the examples' pixels are read."""
    wanted = set(choose_examples(evaluation.labels, COUNT))
    found: dict[int, np.ndarray] = {}
    start = 0
    for batch in images.in_order(64) if isinstance(images, TorchImages) and not images.is_map else ():
        for position in sorted(wanted & set(range(start, start + len(batch.labels)))):
            found[position] = batch.images[position - start].numpy()
        start += len(batch.labels)
        if len(found) == len(wanted):
            break
    if not found:
        for position in sorted(wanted):
            one = images.read_rows([position], (0, 0)).images if isinstance(images, TorchImages) else None
            found[position] = np.asarray(images.images[position]) if one is None else one[0].numpy()  # type: ignore[union-attr]
    arranged = {position: arrange(image, planes, len(model.channels)) for position, image in found.items()}
    present = evaluation.present
    if present is None and len(planes) < len(model.channels):
        present = np.zeros((len(evaluation.labels), len(model.channels)), bool)
        present[:, list(planes)] = True
    picked: Any = Picked(arranged, len(evaluation.labels))
    return Split(picked, evaluation.labels, evaluation.paths, present)


def arrange(image: np.ndarray, planes: dict[int, int], count: int) -> np.ndarray:
    """An image's planes at their places among the model's channels; zeros where it has none."""
    result = np.zeros((count, *image.shape[1:]), image.dtype)
    for position, plane in planes.items():
        result[position] = image[plane]
    return result
