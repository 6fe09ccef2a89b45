"""The program and a training, small enough to be interrupted hundreds of times, and the moments to interrupt them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from anychannel.cli import app
from anychannel.runs.execute import train_run  # noqa: F401  # a forked program then starts without importing it
from anychannel.utils.signals import SIGNALS

FLAGS = (
    *("--size", "12", "--model", "compact_k7", "--set", "model_options.width=16", "--batch-size", "8"),
    *("--epochs", "2", "--lr", "0.01", "--device", "cpu", "--precision", "fp32", "--no-cost", "--quiet"),
    *("--set", "training.checkpoint_seconds=0", "--sampler", "dropout"),
)
TRAINED = ("weights/best.safetensors", "weights/last.safetensors")


def write_images(folder: Path) -> Path:
    """32 training, 12 validation and 12 test images of two classes, which differ in where they are bright."""
    random = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 6), ("test", 6)):
        for label, name in enumerate(("left", "right")):
            for number in range(count):
                pixels = random.integers(0, 150, (12, 12, 3))
                pixels[:, 6 * label : 6 * label + 6] += 100
                path = folder / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code (negative: the signal that killed it), output and seconds."""

    code: int
    text: str
    seconds: float


def run_program(*arguments: object, prepare: Callable[[], object] = lambda: None) -> Ended:
    """Run the program in a fork of this process, which has torch imported already; ``prepare`` runs in the fork."""
    sys.stdout.flush()
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of forks while threads live
            process = os.fork()
        if process == 0:
            run_forked(log.fileno(), [str(argument) for argument in arguments], prepare)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        log.seek(0)
        return Ended(code, log.read().decode(), time.monotonic() - started)


def run_forked(log: int, arguments: Sequence[str], prepare: Callable[[], object]) -> None:
    """The fork: never returns."""
    code = 70
    try:
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
        for number, usual in zip(SIGNALS, (signal.default_int_handler, signal.SIG_DFL), strict=True):
            signal.signal(number, usual)
        warnings.resetwarnings()
        torch.set_num_threads(1)
        prepare()
        app(list(arguments))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def send(*numbers: int, pause: float = 0.6) -> None:
    """Send signals to this process, one after the other."""
    for position, number in enumerate(numbers):
        if position:
            time.sleep(pause)
        os.kill(os.getpid(), number)


def at_call(place: str, count: int, act: Callable[[], object]) -> Callable[[], None]:
    """Make the program act before the call of that count of a function, ``place`` as ``package.module:name``."""

    def prepare() -> None:
        module, _, name = place.partition(":")
        *owners, last = name.split(".")
        owner: Any = import_module(module)
        for each in owners:
            owner = getattr(owner, each)
        original, calls = getattr(owner, last), 0

        def acting(*values: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count:
                act()
            return original(*values, **options)

        setattr(owner, last, acting)

    return prepare


class FileEvents:
    """Counts what a process does with files of some folders that are written: opens, renames, removes, makes."""

    def __init__(self, folders: Sequence[Path], act: Callable[[int], object]) -> None:
        self.folders = tuple(map(str, folders))
        self.act = act
        self.count = 0

    def hook(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            concerned = values[2] is not None and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            concerned = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod")
        if concerned and str(values[0]).startswith(self.folders):
            self.count += 1
            self.act(self.count)


def at_file_event(folders: Sequence[Path], count: int, act: Callable[[], object]) -> Callable[[], None]:
    """Make the program act before the file event of that count in the folders."""
    events = FileEvents(folders, lambda reached: act() if reached == count else None)
    return lambda: sys.addaudithook(events.hook)


@dataclass(frozen=True)
class Undisturbed:
    """A training that nothing disturbed: its images, its run, and how many file events it had."""

    images: Path
    run: Path
    events: int


@cache
def undisturbed() -> Undisturbed:
    """Train once in each process, without a disturbance."""
    folder = Path(tempfile.mkdtemp(prefix="undisturbed-"))
    images = write_images(folder / "images")
    counter = folder / "events"
    counter.write_bytes(b"")

    def note(_: int) -> None:
        with counter.open("ab") as file:  # not in a counted folder
            file.write(b".")

    events = FileEvents([folder / "run", folder / "cache"], note)
    ended = train(images, folder, prepare=lambda: sys.addaudithook(events.hook))
    assert ended.code == 0, ended.text
    return Undisturbed(images, folder / "run", counter.stat().st_size)


def train(images: Path, folder: Path, *flags: object, prepare: Callable[[], object] = lambda: None) -> Ended:
    """Train, or resume, in ``folder / "run"`` with a cache of its own."""
    command = ("train", "--data", images, "--out", folder / "run", "--cache", folder / "cache", *FLAGS, *flags)
    return run_program(*command, prepare=prepare)


def check_resumed(folder: Path) -> None:
    """Resume the training in a folder, and compare all that it left with the undisturbed one's, bit by bit."""
    whole = undisturbed()
    ended = train(whole.images, folder, "--resume")
    assert ended.code == 0, ended.text
    check_same(folder)


def check_same(folder: Path) -> None:
    """Compare a finished run with the undisturbed one: weights, metrics, predictions, and nothing left over."""
    whole = undisturbed().run
    for name in TRAINED:
        mine, theirs = load_file(folder / "run" / name), load_file(whole / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], value) for key, value in theirs.items()), f"{name} differs"
    assert read_figures(folder / "run") == read_figures(whole)
    with (
        np.load(folder / "run/evaluation/test_predictions.npz") as mine,
        np.load(whole / "evaluation/test_predictions.npz") as theirs,
    ):
        assert all(np.array_equal(mine[key], theirs[key]) for key in theirs.files)
    left = [str(path) for path in folder.rglob(".*") if path.suffix != ".lock" and path.name != ".lock"]
    assert not left, f"left over: {left}"


def read_figures(run: Path) -> list[dict[str, Any]]:
    """A run's metrics without times."""
    import json

    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def copy_of_run(folder: Path) -> Path:
    """A copy of the undisturbed run."""
    return shutil.copytree(undisturbed().run, folder / "run")
