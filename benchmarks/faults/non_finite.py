"""Numbers that are not finite, made wherever a training or a calibration can meet them."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.data import Split
from anychannel.models import Classifier, calibrate, create_model, load_model
from anychannel.nn.bn_statistics import subset_norms
from anychannel.training import FitResult, TrainingError, TrainingSettings, fit
from anychannel.training.metrics import read_metrics
from anychannel.training.state import CHECKPOINT
from benchmarks.faults.case import Case

SKIPPED = "A step whose loss or gradients are not finite changes nothing, is counted, and is told."
STATISTICS = (
    "No number that is not finite reaches a running statistic, in training, before validation or in calibration."
)
FLOAT32 = "After several such steps in a row training goes on in float32, and only then an error says what was tried."
FILES = "Files of a run are JSON without NaN, also of an epoch in which every step was skipped."
TOGETHER = "Several processes skip the same steps and end with the same finite weights."

CHANNELS = ChannelSet(("R", "G", "B"), (100.0,) * 3, (40.0,) * 3)
SETTINGS = TrainingSettings(
    epochs=1, batch_size=16, sampler="split", lr=0.02, crop_padding=0, flip=False, device="cpu", precision="fp32"
)
STEPS = 4
VALUES = {"NaN": np.nan, "infinity": np.inf, "-infinity": -np.inf, "1e38": 1e38}

Break = Callable[[Classifier], object]


def task(count: int, seed: int) -> Split:
    """Images whose class is the bright quadrant."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.integers(60, 120, (count, 3, 12, 12)).astype(np.float32)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 80
    return Split(images, labels.astype(np.int64), tuple(f"image_{i}.png" for i in range(count)))


def with_values(split: Split, rows: Sequence[int], value: float, channel: int | None = None) -> Split:
    images = split.images[:].copy()
    images[list(rows), slice(None) if channel is None else channel, 3:5, 3:5] = value
    return replace(split, images=images)


def make(norm: str = "shared", stem: str = "completion", model: str = "compact_k7") -> Classifier:
    torch.manual_seed(0)
    options: dict[str, Any] = {"model_options": {"width": 16}} if model.startswith("compact") else {}
    return create_model(model, channels=CHANNELS, num_classes=4, norm=norm, stem=stem, **options)


def all_finite(state: Any) -> bool:
    """Whether all tensors in nested values are finite."""
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(state.isfinite().all())
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return all(map(all_finite, inner))


def break_gradient(model: Classifier, steps: Sequence[int], value: float = np.nan) -> None:
    """Make one number of a gradient this value at some steps, counted from 1."""
    seen: list[int] = []

    def change(gradient: Tensor) -> Tensor:
        seen.append(1)
        broken = gradient.clone()
        broken.view(-1)[0] = value
        return broken if len(seen) in steps else gradient

    [module for module in model.modules() if isinstance(module, nn.Conv2d)][-2].weight.register_hook(change)


def break_half(model: Classifier) -> None:
    """Let a convolution give NaN whenever it computes in bfloat16."""
    layer = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-2]
    layer.register_forward_hook(lambda _, __, y: y * torch.nan if y.dtype == torch.bfloat16 else y)


def trained(
    folder: Path, settings: TrainingSettings, train: Split, model: Classifier, *, skipped: int | None = None
) -> FitResult:
    """Train; check weights, optimiser, average, best weights, files, count and warning."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = fit(model, train, task(16, 9), settings, folder=folder)
    told = [str(warning.message) for warning in said if "skipped, because" in str(warning.message)]
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    assert all_finite(model.state_dict())
    assert all_finite({name: state[name] for name in ("model", "average", "optimizer", "best")})
    assert all_finite(load_model(folder).state_dict())
    assert result.skipped_steps == sum(row["skipped_steps"] for row in read_metrics(folder))
    if skipped is not None:
        assert result.skipped_steps == skipped, f"{result.skipped_steps} steps were skipped"
    assert bool(told) == bool(result.skipped_steps), told
    return result


def broken_gradient(value: float, step: int, options: dict[str, Any], folder: Path) -> None:
    model = make()
    break_gradient(model, [step], value)
    trained(folder, replace(SETTINGS, **options), task(16 * STEPS, 1), model, skipped=1)


def broken_images(value: float, options: dict[str, Any], model: dict[str, Any], folder: Path) -> None:
    train = with_values(task(16 * STEPS, 1), [11], value)
    trained(folder, replace(SETTINGS, **options), train, make(**model), skipped=1)


def broken_channel(folder: Path) -> None:
    """A channel that an image lacks may hold anything."""
    train = task(16 * STEPS, 1)
    present = np.ones((len(train), 3), bool)
    present[::3, 1] = False
    images = train.images[:].copy()
    images[::3, 1] = np.nan
    trained(folder, SETTINGS, replace(train, images=images, present=present), make(), skipped=0)


def broken_statistics(kind: str, _: Path) -> None:
    """Images that are used before validation, to recompute batch norm statistics."""
    from anychannel.nn.channel_sampling import Part
    from anychannel.training.bn_statistics import recompute_bn_statistics
    from anychannel.training.step_parts import StepParts

    model = make("statistics")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    passes = []
    for value in (0.0, VALUES[kind]):
        images = torch.from_numpy(with_values(task(16, 3), [2], value).images)
        parts = [Part((0, 1, 2), 0, 8), Part((0, 2), 8, 16)]
        passes.append((images, StepParts(parts, torch.arange(16), torch.ones(16, dtype=torch.bool))))
    recompute_bn_statistics(model, passes[1:])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    recompute_bn_statistics(model, passes)
    both = {name: value.clone() for name, value in model.state_dict().items()}
    recompute_bn_statistics(model, passes[:1])
    assert all_finite(both)
    counted = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    assert all(torch.equal(value, both[name]) for name, value in counted.items())


def broken_calibration(kind: str, norm: str, _: Path) -> None:
    model = make(norm)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.from_numpy(with_values(task(32, 3), [2], VALUES[kind]).images)
    with pytest.raises(ValueError, match="not finite"):
        calibrate(model, images, "R,B", batch_size=8)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not subset_norms(model) or norm == "statistics"


def falls_back(epochs: int, folder: Path) -> None:
    model = make()
    break_half(model)
    settings = replace(SETTINGS, epochs=epochs, precision="bf16")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(model, task(96, 1), task(16, 9), settings, folder=folder)
    assert sum("training goes on in fp32" in str(warning.message) for warning in said) == 1
    assert all_finite(model.state_dict())


def gives_up(precision: str, cause: str, folder: Path) -> None:
    model, train = make(), task(96, 1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    if cause == "gradients":
        break_gradient(model, range(1000))
    else:
        train = with_values(train, range(96), np.nan)
    tried = "bf16 and then in fp32" if precision == "bf16" else "fp32"
    settings = replace(SETTINGS, epochs=3, precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TrainingError, match=f"computed in {tried};.*no weight was changed"):
            fit(model, train, task(16, 9), settings, folder=folder)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def empty_epoch(options: dict[str, Any], folder: Path) -> None:
    model = make()
    break_half(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = replace(SETTINGS, epochs=2, precision="bf16", **options)
        result = fit(model, task(32, 1), task(16, 9), settings, folder=folder)
    assert np.isnan(result.rows[0]["train_loss"])
    assert result.best_epoch in (1, 2)
    for path in folder.rglob("*.json*"):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(line, parse_constant=refuse)
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["train_loss"] is None


def broken_validation(value: float, folder: Path) -> None:
    val = with_values(task(16, 9), [3], value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fit(make(), task(64, 1), val, replace(SETTINGS, epochs=2, monitor="val_loss"), folder=folder)
    assert result.best_epoch == 1
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert all_finite(load_model(folder).state_dict())


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is in a file of JSON")


def one_of_two(index: int, port: int, out: Path, options: dict[str, Any]) -> None:
    """What each of two processes does: train on images of which one is NaN, and keep the weights."""
    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    from anychannel.utils.processes import leave

    model = make("statistics")
    train = with_values(task(16 * STEPS, 1), [11], np.nan)
    result = fit(model, train, task(16, 9), replace(SETTINGS, epochs=2, **options))
    torch.save({"model": model.state_dict(), "skipped": result.skipped_steps}, out / f"{index}.pt")
    leave()


def in_two_processes(options: dict[str, Any], folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=one_of_two, args=(index, port, folder, options)) for index in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    first, second = (torch.load(folder / f"{index}.pt", weights_only=True) for index in (0, 1))
    assert first["skipped"] == second["skipped"] == 2
    assert all_finite(first["model"])
    assert all(torch.equal(value, second["model"][name]) for name, value in first["model"].items())


OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "averaged weights": {"ema": 0.9},
    "AdamW": {"optimizer": "adamw", "lr": 1e-3},
    "no clipping": {"clip_norm": 0.0},
    "distillation": {"sampler": "sandwich", "distill": 0.5},
    "bfloat16": {"precision": "bf16"},
}
MODELS: dict[str, dict[str, Any]] = {
    "one batch norm": {},
    "statistics for each subset": {"norm": "statistics"},
    "a batch norm for each subset": {"norm": "subset"},
    "kernels for each image": {"stem": "kernel_attention"},
    "a residual network": {"model": "resnet18"},
}


PROCESSES: dict[str, dict[str, Any]] = {
    "one batch norm": {},
    "norms of each process": {"sync_norm": False},
    "averaged weights": {"ema": 0.9},
}


def cases() -> list[Case]:
    found = []
    for kind, value in VALUES.items():
        for place, (name, options) in enumerate(OPTIONS.items()):
            check = partial(broken_gradient, value, 1 + place % STEPS, options)
            if kind != "1e38":  # clipping makes it finite
                found.append(Case(SKIPPED, f"{kind} in a gradient, {name}", check, (kind, name) == ("NaN", "SGD")))
            found.append(Case(SKIPPED, f"{kind} in an image, {name}", partial(broken_images, value, options, {})))
        for name, model in MODELS.items():
            check = partial(broken_images, value, {}, model)
            found.append(Case(STATISTICS, f"{kind} in an image, {name}", check))
        check = partial(broken_statistics, kind)
        found.append(Case(STATISTICS, f"{kind} before validation", check, kind == "infinity"))
        for norm in ("shared", "statistics"):
            check = partial(broken_calibration, kind, norm)
            found.append(Case(STATISTICS, f"{kind} in calibration, {norm}", check))
        found.append(Case(FILES, f"{kind} in a validation image", partial(broken_validation, value)))
    for step in range(1, STEPS + 1):
        check = partial(broken_gradient, np.nan, step, {})
        found.append(Case(SKIPPED, f"NaN in the gradient of step {step}", check))
    found.append(Case(SKIPPED, "NaN in a channel that an image lacks", broken_channel))
    for epochs in (1, 3):
        check = partial(falls_back, epochs)
        found.append(Case(FLOAT32, f"bfloat16 that breaks, {epochs} epochs", check))
    for precision, cause in product(("fp32", "bf16"), ("gradients", "images")):
        check = partial(gives_up, precision, cause)
        found.append(Case(FLOAT32, f"{cause} that stay broken, {precision}", check))
    for name in ("SGD", "averaged weights"):
        check = partial(empty_epoch, OPTIONS[name])
        found.append(Case(FILES, f"an epoch without a step, {name}", check, name == "SGD"))
    return found + [Case(TOGETHER, name, partial(in_two_processes, each)) for name, each in PROCESSES.items()]
