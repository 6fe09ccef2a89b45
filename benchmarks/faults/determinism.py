"""Pairs of trainings and evaluations that have to give bitwise the same result."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import anychannel as ac
from anychannel.models import Classifier, calibrate, create_model, load_model
from anychannel.training import TrainingSettings, fit, loop
from benchmarks.faults.case import Case

SEED = "The same seed gives bitwise the same weights, again in the same process and in another one."
RESUMED = "A training that was stopped at any step and resumed ends with bitwise the same weights and figures."
READING = "Workers, caches, files or arrays, and the order of channels decide nothing about the weights."
ANSWERS = "Batch size, order and a saved copy change no prediction beyond rounding, and evaluating changes no model."
DIFFERENT = "Another seed gives other weights, so that equal ones are no coincidence."

State = dict[str, Tensor]


@dataclass(frozen=True)
class Setup:
    """A training: settings, network and seed."""

    training: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    partial: float = 0.0

    @property
    def settings(self) -> TrainingSettings:
        values = {"epochs": 2, "batch_size": 16, "lr": 0.02, "device": "cpu", "crop_padding": 2, "jitter": 0.1}
        return TrainingSettings(**values | {"seed": self.seed} | self.training)

    def data(self) -> ac.ImageDataset:
        images, labels, splits = pictures()
        present = np.random.default_rng(1).random((len(images), 3)) >= self.partial
        present[::2] = True
        present[:, 1] |= ~present.any(axis=1)
        return ac.dataset_from_arrays(images, labels, channels="R,G,B", splits=splits, present=present)

    def network(self, data: ac.ImageDataset) -> Classifier:
        torch.manual_seed(self.seed)
        options = {"model": "compact_k7", "model_options": {"width": 16}} | self.model
        return create_model(
            options.pop("model"), channels=data.channels, num_classes=3, classes=data.classes, **options
        )


SETUPS: dict[str, Setup] = {
    "the defaults": Setup(),
    "plain": Setup({"sampler": "full"}, {"stem": "static", "norm": "shared"}),
    "sandwich and distillation": Setup({"sampler": "sandwich", "distill": 0.5}),
    "dropout and average": Setup({"sampler": "dropout", "sampler_options": {"parts": 4}, "ema": 0.9}),
    "AdamW and cosine": Setup({"optimizer": "adamw", "lr": 1e-3, "schedule": "cosine", "warmup_epochs": 1}),
    "bfloat16": Setup({"precision": "bf16"}),
    "a norm for each subset": Setup({}, {"norm": "subset"}),
    "kernels for each image": Setup({}, {"stem": "kernel_attention"}),
    "images that lack channels": Setup(partial=0.5),
}


COUNTS = {"train": 64, "val": 24, "test": 24}


def pictures() -> tuple[np.ndarray, list[int], list[str]]:
    """Images whose class is the brightest third, with their labels and splits."""
    random = np.random.default_rng(0)
    splits = [split for split, count in COUNTS.items() for _ in range(count)]
    labels = [number % 3 for number in range(len(splits))]
    images = random.integers(0, 160, (len(splits), 3, 15, 15), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 5 * label : 5 * label + 5] += 90
    return images, labels, splits


def train(setup: Setup, *, home: Path | None = None, **options: Any) -> tuple[State, list[Any]]:
    """Weights and figures."""
    data = setup.data()
    model = setup.network(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fit(model, data.train, data.val, setup.settings, folder=home, **options)
    rows = [{name: value for name, value in row.items() if "second" not in name} for row in result.rows]
    return model.state_dict(), rows


def same(first: tuple[State, Any], second: tuple[State, Any]) -> None:
    assert first[0].keys() == second[0].keys()
    other = [name for name, value in first[0].items() if not torch.equal(value, second[0][name])]
    assert not other, f"{len(other)} of {len(first[0])} tensors differ, {other[0]} for one"
    assert first[1] == second[1], f"{first[1]} are not {second[1]}"


def again(setup: Setup, _: Path) -> None:
    same(train(setup), train(setup))


def in_another_process(setup: Setup, folder: Path) -> None:
    """With other hash seeds, and other random numbers drawn before."""
    program = (
        "import sys, torch; from benchmarks.faults.determinism import SETUPS, train; "
        "torch.rand(7); torch.save(train(SETUPS[sys.argv[1]]), sys.argv[2])"
    )
    name = next(name for name, each in SETUPS.items() if each is setup)
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", program, name, str(folder / "out.pt")]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])
    same(train(setup), torch.load(folder / "out.pt", weights_only=False))


def another_seed(_: Path) -> None:
    first, second = train(Setup()), train(Setup(seed=1))
    with suppress(AssertionError):
        same(first, second)
        raise RuntimeError("two seeds gave the same weights")


class Stopped(BaseException):
    """Stands for the end of the process."""


def resumed(setup: Setup, step: int, folder: Path) -> None:
    setup = replace(setup, training=setup.training | {"checkpoint_seconds": 0.0})
    whole = train(setup, home=folder / "whole")
    original, seen = loop.augment, 0

    def augment(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen > step:
            raise Stopped
        return original(*arguments, **options)

    loop.augment = augment
    try:
        with suppress(Stopped):
            train(setup, home=folder / "stopped")
    finally:
        loop.augment = original
    assert seen > step
    same(whole, train(setup, home=folder / "stopped", resume=True))


def files_or_arrays(folder: Path) -> None:
    """The same images from arrays, from files, again from these files' cache, and decoded anew."""
    import tifffile

    images, labels, splits = pictures()
    for number, (image, label, split) in enumerate(zip(images, labels, splits, strict=True)):
        path = folder / "files" / f"{number}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig="separate")
        with (folder / "files" / f"{split}.txt").open("a") as lines:
            lines.write(f"{path.name} {label}\n")
    options = {"channels": "R,G,B"}
    results = []
    for cache in ("a", "a", "b", None):
        data = Setup().data()
        if cache is not None:
            data = ac.load_dataset(folder / "files", cache_dir=folder / cache, **options)
        model = Setup().network(data)
        fit(model, data.train, data.val, Setup().settings)
        results.append((model.state_dict(), data.channels.mean))
    for other in results[1:]:
        same(results[0], other)


def channel_order(_: Path) -> None:
    """A network fitted on images whose channels come in another order."""
    data = Setup().data()
    results = []
    for names in (data.channels.names, data.channels.names[::-1]):
        model, images = Setup().network(data), data.select(names)
        fit(model, images.train, images.val, Setup().settings)
        results.append((model.state_dict(), []))
    same(results[0], results[1])


def workers(_: Path) -> None:
    """Batches that other processes read ahead."""
    from anychannel.data import iterate_batches

    split = Setup(partial=0.5).data().train
    order = np.random.default_rng(0).permutation(len(split))
    tables = [list(iterate_batches(split, 7, order=order, num_workers=count)) for count in (0, 1, 2)]
    for table in tables[1:]:
        for (images, labels), (others, theirs) in zip(tables[0], table, strict=True):
            assert torch.equal(images, others)
            assert torch.equal(labels, theirs)


def answers(kind: str, folder: Path) -> None:
    data = Setup().data()
    model = Setup().network(data).eval()
    whole = ac.evaluate(model, data.val, batch_size=256)
    if kind == "batch size":
        for size in (1, 7, 64):
            other = ac.evaluate(model, data.val, batch_size=size)
            for key, table in whole.probabilities.items():
                assert np.allclose(table, other.probabilities[key], atol=2e-6), key
        return
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if kind == "again":
        other = ac.evaluate(model, data.val)
    elif kind == "saved":
        ac.save_model(model, folder / "model")
        other = ac.evaluate(load_model(folder / "model"), data.val)
    elif kind == "state dict":
        twin = replace(Setup(), seed=5).network(data)
        twin.load_state_dict(model.state_dict())
        other = ac.evaluate(twin, data.val)
    else:
        model.train()
        other = ac.evaluate(model, data.val)
        assert model.training
    assert all(np.array_equal(table, other.probabilities[key]) for key, table in whole.probabilities.items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def calibrated(_: Path) -> None:
    data = Setup().data()
    states = []
    for _ in range(2):
        model = Setup(model={"norm": "shared"}).network(data).eval()
        states.append((calibrate(model, data.train, data.channels.names[:1]).state_dict(), []))
    same(states[0], states[1])


def cases() -> list[Case]:
    found = []
    for name, setup in SETUPS.items():
        found.append(Case(SEED, f"again, {name}", partial(again, setup), name == "the defaults"))
        if name in ("the defaults", "sandwich and distillation", "images that lack channels"):
            found.append(Case(SEED, f"in another process, {name}", partial(in_another_process, setup)))
        found += [Case(RESUMED, f"stopped after step {n}, {name}", partial(resumed, setup, n)) for n in (1, 3, 4, 6)]
    reading: dict[str, Callable[[Path], None]] = {
        "arrays, files, a cache and another cache": files_or_arrays,
        "channels in another order": channel_order,
        "0, 1 and 2 workers": workers,
        "calibrated twice": calibrated,
    }
    found += [Case(READING, name, check, name == "channels in another order") for name, check in reading.items()]
    for kind in ("batch size", "again", "saved", "state dict", "from training mode"):
        found.append(Case(ANSWERS, kind, partial(answers, kind)))
    return [*found, Case(DIFFERENT, "seeds 0 and 1", another_seed)]
