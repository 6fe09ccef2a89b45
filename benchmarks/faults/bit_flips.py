"""One bit flipped in a file of weights, in a checkpoint, or in the cache of decoded images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from anychannel.export import export_run_to_hub_folder
from anychannel.models import Classifier, ModelFileError, adapt, load_model, save_model
from anychannel.models.saving import BEST, WEIGHTS
from anychannel.runs.predict import Predictor
from benchmarks.faults import torn_checkpoints
from benchmarks.faults.case import Case
from benchmarks.faults.program import copy_of_run, run_program, undisturbed

LOADED = "A flipped bit in saved weights is refused by the file's name, or changes no weight."
COMMANDS = "Every command that uses a run's weights refuses damaged ones."
OTHERS = "Weights without a digest, of other programs or older versions, still load."
RESUMED = "A flipped bit in a checkpoint is noticed, and the training reaches bitwise the same weights."
SHARES = (0.0, 0.0005, 0.005, 0.02, 0.08, 0.15, 0.3, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def flip(share: float, bit: int, path: Path) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
    path.write_bytes(content)


def flip_in_seal(back: int, path: Path) -> None:
    """Flip one bit of the digest at a file's end, or of the mark before it; ``back`` counts bytes from the end."""
    content = bytearray(path.read_bytes())
    content[-back] ^= 4
    path.write_bytes(content)


@cache
def saved() -> tuple[Path, dict[str, torch.Tensor]]:
    """A model that ``save_model`` wrote, and its state."""
    folder, weights = torn_checkpoints.example()
    model = torn_checkpoints.train(folder.parent / "whole")
    home = folder.parent / "saved"
    save_model(model, home)
    return home, {name: value.clone() for name, value in weights.items()}


def check_loaded(share: float, bit: int, load: Callable[[Path], Classifier], folder: Path) -> None:
    source, weights = saved()
    home = shutil.copytree(source, folder / "model")
    flip(share, bit, home / BEST)
    said = ""
    try:
        state = load(home).state_dict()
    except ValueError as error:
        said = str(error)
    if said:
        assert str(home / BEST) in said, said
    else:
        assert all(torch.equal(state[name], value) for name, value in weights.items()), "other weights without a word"


def load_as_hub(home: Path) -> Classifier:
    return Classifier.from_pretrained(home)


def load_by_predictor(home: Path) -> Classifier:
    return Predictor(home).model


def load_to_adapt(home: Path) -> Classifier:
    return adapt(str(home), channels=("R", "G", "B"), normalise="source")


def commands(home: Path, images: Path, folder: Path) -> dict[str, tuple[Any, ...]]:
    """Each command that uses a run's weights, with its arguments."""
    return {
        "predict": ("predict", home, images / "test/left/0.png"),
        "evaluate": ("evaluate", home, "--cache", folder / "cache"),
        "export": ("export", home, "--out", folder / "out.pt2"),
        "export hub": ("export", home, "--format", "hub", "--out", folder / "hub"),
        "profile": ("profile", home, "--no-memory"),
        "serve": ("serve", home, "--port", 0, "--cache", folder / "cache"),
        "train from it": ("train", "--model", home, "--data", images, "--out", folder / "new", "--quiet"),
        "train from its file": (
            *("train", "--model", "timm/resnet10t", "--checkpoint", home / BEST, "--data", images),
            *("--out", folder / "new", "--quiet"),
        ),
    }


NAMES = tuple(commands(Path(), Path(), Path()))


def check_command(command: str, folder: Path) -> None:
    """Flip the lowest bit in the middle of a run's weights."""
    home = copy_of_run(folder)
    flip(0.6, 0, home / BEST)
    ended = run_program(*commands(home, undisturbed().images, folder)[command])
    assert ended.code == 2, f"{ended.code}: {ended.text}"
    assert BEST in ended.text
    assert "damaged" in ended.text
    assert "Traceback" not in ended.text
    assert not (folder / "out.pt2").exists()


def check_hub(folder: Path) -> None:
    """A folder for the hub keeps the digest, also if only its two files are copied."""
    export_run_to_hub_folder(undisturbed().run, folder / "hub")
    (folder / "copy").mkdir()
    for name in ("model.json", WEIGHTS):
        shutil.copy(folder / "hub" / name, folder / "copy" / name)
    Classifier.from_pretrained(folder / "copy")
    flip(0.7, 3, folder / "copy" / WEIGHTS)
    said = ""
    try:
        Classifier.from_pretrained(folder / "copy")
    except ModelFileError as error:
        said = str(error)
    assert WEIGHTS in said, said or "it loaded"


def check_without(metadata: dict[str, str] | None, folder: Path) -> None:
    source, weights = saved()
    home = shutil.copytree(source, folder / "model")
    tensors = load_file(home / BEST)
    save_file(
        {name: value + 1 if name.endswith("weight") else value for name, value in tensors.items()},
        home / BEST,
        metadata,
    )
    state = load_model(home).state_dict()
    name = next(name for name in weights if name.endswith("weight"))
    assert torch.equal(state[name], weights[name] + 1)


def check_resumed(damage: Callable[[Path], object], folder: Path) -> None:
    said = torn_checkpoints.resume(folder, damage)
    assert any("damaged" in text for text in said), said


def cases() -> list[Case]:
    loaders = (load_model, load_as_hub, load_by_predictor, load_to_adapt)
    found = []
    for number, share in enumerate(SHARES):
        bit, load = number % 8, loaders[number % 4]
        check = partial(check_loaded, share, bit, load)
        found.append(Case(LOADED, f"{share:.2%}, bit {bit}", check, short=number in (3, 8)))
    found += [Case(COMMANDS, name, partial(check_command, name), short=name == "evaluate") for name in NAMES]
    found += [
        Case(COMMANDS, "a copy of a folder for the hub", check_hub),
        Case(OTHERS, "no metadata", partial(check_without, None), short=True),
        Case(OTHERS, "other metadata", partial(check_without, {"format": "pt"})),
    ]
    for number, share in enumerate(SHARES[:-1]):
        bit = (3 * number) % 8
        check = partial(check_resumed, partial(flip, share, bit))
        found.append(Case(RESUMED, f"{share:.2%}, bit {bit}", check, short=number == 8))
    for back in (1, 64, 65, 72):
        check = partial(check_resumed, partial(flip_in_seal, back))
        found.append(Case(RESUMED, f"{back} bytes before the end", check, short=back == 72))
    if find_spec("benchmarks.faults.bit_flips_cache"):
        found += import_module("benchmarks.faults.bit_flips_cache").cases()
    return found
