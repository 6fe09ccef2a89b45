"""Checkpoints that were cut, overwritten in part, or lost while they were written."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from anychannel.channels import ChannelSet
from anychannel.data import Split
from anychannel.models import Classifier, create_model
from anychannel.training import TrainingSettings, fit
from anychannel.training.state import CHECKPOINT, PREVIOUS
from benchmarks.faults.case import Case

USED = "A damaged checkpoint is named, and the one before it leads to bitwise the same weights."
BOTH = "If both checkpoints are damaged, the error names both, and nothing is deleted."
SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, lr=0.02, crop_padding=2, ema=0.9, device="cpu", precision="fp32", checkpoint_seconds=0
)
Damage = Callable[[Path], object]


class Stopped(BaseException):
    """Stands in for a killed process."""


def make_split(count: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    images = random.integers(60, 120, (count, 3, 8, 8)).astype(np.uint8)
    images[labels == 1, :, :4] += 80
    return Split(images, labels.astype(np.int64), tuple(f"{i}.png" for i in range(count)))


def train(folder: Path, settings: TrainingSettings = SETTINGS, *, stop_at: int = 0) -> Classifier:
    """Train or resume; ``stop_at`` stops before the step of that count."""
    from anychannel.training import loop

    torch.manual_seed(0)
    channels = ChannelSet(("R", "G", "B"), mean=(100.0,) * 3, std=(40.0,) * 3)
    model = create_model("compact_k7", channels=channels, num_classes=2, stem="completion", model_options={"width": 16})
    original, calls = loop.train_step, 0

    def step(*values: object) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Stopped
        original(*values)  # type: ignore[arg-type]

    loop.train_step = step  # type: ignore[assignment]
    try:
        fit(model, make_split(64, 0), make_split(16, 1), settings, folder=folder, resume=True)
    finally:
        loop.train_step = original
    return model


@cache
def example() -> tuple[Path, dict[str, torch.Tensor]]:
    """A training that was stopped in its second epoch, with both checkpoints, and the weights that it should reach."""
    folder = Path(tempfile.mkdtemp(prefix="stopped-"))
    with suppress(Stopped):
        train(folder / "stopped", stop_at=7)
    assert (folder / "stopped" / PREVIOUS).is_file()
    return folder / "stopped", train(folder / "whole").state_dict()


def check_same(model: Classifier) -> None:
    """Compare a model with the undisturbed one."""
    weights = example()[1]
    differing = [name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])]
    assert not differing, f"other values of {', '.join(differing[:3])}"


def resume(folder: Path, damage: Damage) -> list[str]:
    """Damage the checkpoint of a copy, resume it, compare its weights, and return the warnings."""
    home = shutil.copytree(example()[0], folder / "run")
    damage(home / CHECKPOINT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_same(train(home))
    return [str(warning.message) for warning in caught]


def check_used(damage: Damage, folder: Path) -> None:
    said = [text for text in resume(folder, damage) if "damaged" in text]
    assert len(said) == 1, f"it said {said}"
    assert "state.pt is damaged; training continues from the one before it, previous.pt" in said[0]
    assert "\n" not in said[0]
    assert (folder / "run" / CHECKPOINT).is_file()


def check_silent(damage: Damage, folder: Path) -> None:
    """A checkpoint that is missing because the program was killed between two renames is not worth a word."""
    assert not [text for text in resume(folder, damage) if "damaged" in text]


def check_both(damage: Damage, folder: Path) -> None:
    home = shutil.copytree(example()[0], folder / "run")
    for name in (CHECKPOINT, PREVIOUS):
        damage(home / name)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    said = ""
    try:
        train(home)
    except ValueError as error:
        said = str(error)
    assert all(str(home / name) in said for name in (CHECKPOINT, PREVIOUS)), said or "it went on"
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def cut(share: float, path: Path) -> None:
    """Keep a share of a file."""
    size = path.stat().st_size
    with path.open("rb+") as file:
        file.truncate(int(size * share))


def overwrite(start: float, length: float, path: Path) -> None:
    """Write zeros over a part of a file, as a disk without power does."""
    content = bytearray(path.read_bytes())
    first, count = int(start * len(content)), max(1, int(length * len(content)))
    content[first : first + count] = bytes(len(content[first : first + count]))
    path.write_bytes(content)


def check_again(folder: Path) -> None:
    """Damage, resume, stop, and damage again: there are two good checkpoints after a resume."""
    home = shutil.copytree(example()[0], folder / "run")
    cut(0.5, home / CHECKPOINT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Stopped):
            train(home, stop_at=3)
        cut(0.7, home / CHECKPOINT)
        check_same(train(home))


def cases() -> list[Case]:
    damages: dict[str, Damage] = {
        f"cut to {share:.0%}": partial(cut, share) for share in (0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99)
    }
    damages |= {
        f"zeros from {start:.0%}, {length:.0%} long": partial(overwrite, start, length)
        for start, length in ((0, 0.01), (0.2, 0.001), (0.4, 0.1), (0.6, 0.4), (0.8, 0.1), (0.9, 0.1), (0.5, 0.5))
    }
    damages |= {
        "another file": lambda path: path.write_bytes(b"not a checkpoint"),
        "the text of an error page": lambda path: path.write_text("<html>404</html>" * 1000),
    }
    found = [
        Case(USED, name, partial(check_used, damage), short=name in ("cut to 50%", "zeros from 40%, 10% long"))
        for name, damage in damages.items()
    ]
    found += [
        Case(USED, "lost between two renames", partial(check_silent, Path.unlink)),
        Case(USED, "damaged twice, with a resume between", check_again),
    ]
    found += [
        Case(BOTH, name, partial(check_both, damages[name]), short=name == "cut to 50%")
        for name in ("cut to 0%", "cut to 50%", "cut to 99%", "zeros from 40%, 10% long", "another file")
    ]
    return found
