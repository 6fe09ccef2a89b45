"""The state of a training, in one object whose ``state_dict`` is the checkpoint, from which a killed one resumes."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from anychannel.nn.classifier import Classifier
from anychannel.training.autocast import autocast
from anychannel.training.early_stopping import RENAMED, EarlyStopping
from anychannel.training.finite_updates import FiniteUpdates
from anychannel.training.matching import thresholds_of
from anychannel.training.metrics import new_counts, rename_figures
from anychannel.training.optim import create_optimizer, create_schedule
from anychannel.training.settings import TrainingSettings
from anychannel.training.step_parts import training_sampler
from anychannel.utils.files import is_sealed, is_stored, seal, seal_holds, write_atomically
from anychannel.utils.hardware import choose_precision

CHECKPOINT = Path("checkpoint/state.pt")
PREVIOUS = CHECKPOINT.with_name("previous.pt")
"""The checkpoint before the current one, used if that is damaged."""
FORMAT = 2
"""Version of a checkpoint's contents; checkpoints without it are from before 0.2."""
FREE = ("device", "checkpoint_seconds", "time_limit")
"""Settings that may change when a training resumes, since they do not affect its result."""
KEPT = ("sampler", "sampler_options", "training images")
"""What stays the same in another cycle of a finished training, whose other settings may change."""


class TrainingState:
    """Model, optimiser, averaged weights, schedule, early stopping, best weights, figures and position of a training.

    The model is on its device; ``batch_size`` counts a step's images in all processes, and an epoch has ``steps``.
    Epochs before ``first_epoch`` belong to earlier cycles of the learning rate.
    """

    def __init__(
        self, model: Classifier, settings: TrainingSettings, *, batch_size: int, steps: int, first_epoch: int = 0
    ) -> None:
        self.device = next(model.parameters()).device
        self.settings = settings = settings.with_rate(trained=model.channel_input.trained)
        self.batch_size = batch_size
        self.steps = steps
        self.model = model
        self.sampler = training_sampler(settings, model.channels)
        self.average = None
        if settings.ema is not None:
            from timm.utils import ModelEmaV3  # here, since timm takes seconds to import

            self.average = ModelEmaV3(model, decay=settings.ema, use_warmup=True)
        self.optimizer = create_optimizer(
            model,
            settings.optimizer,
            lr=settings.lr or 0,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        total, warmup = (settings.epochs - first_epoch) * steps, round(settings.warmup_epochs * steps)
        self.schedule = create_schedule(self.optimizer, settings.schedule, total_steps=total, warmup_steps=warmup)
        precision = choose_precision(settings.precision, self.device)
        self.updates = FiniteUpdates(model, self.optimizer, precision=precision, steps=steps)
        watched = settings.watched(several=thresholds_of(model) is not None)
        self.stopping = EarlyStopping(watched, patience=settings.patience, min_delta=settings.min_delta)
        self.counts = new_counts(self.device)
        self.class_weights: Tensor | None = None
        self.rows: list[dict[str, Any]] = []
        self.first_epoch = first_epoch
        self.cycles: list[dict[str, Any]] = []
        self.epoch, self.step = 0, 0
        self.rate = 0.0
        self.started = time.monotonic()
        self.best = copy_state(self.evaluated)

    @property
    def evaluated(self) -> Classifier:
        """The network to validate and keep: the averaged one if there is one."""
        if self.average is None:
            return self.model
        averaged: Classifier = self.average.module
        return averaged

    @property
    def done(self) -> int:
        """Steps done in all epochs."""
        return self.epoch * self.steps + self.step

    @property
    def seconds(self) -> float:
        """Time since the epoch began."""
        return time.monotonic() - self.started

    def autocast(self) -> AbstractContextManager[None]:
        """The network's number format."""
        return autocast(self.device, bf16=self.updates.precision == "bf16")

    def update(self, counted: Tensor, where: Callable[[], str]) -> None:
        """Apply the gradients, unless they or the loss are not finite, and count the step's answers.

        ``counted`` is from ``count_answers``, summed over all processes; ``where`` describes the step.
        """
        norm = clip_grad_norm_(self.model.parameters(), self.settings.clip_norm or math.inf)
        usable = self.updates.step(counted, norm)
        self.rate = float(self.optimizer.param_groups[0]["lr"])
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model, step=self.done)
        self.counts += torch.where(usable, counted, 0)
        self.updates.follow(where)
        self.step += 1

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Copy the model's buffers, such as a temperature, to the averaged network."""
        if self.average is not None:
            for averaged, buffer in zip(self.average.module.buffers(), self.model.buffers(), strict=True):
                averaged.copy_(buffer)

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self.epoch, self.step = epoch, 0
        self.counts.zero_()
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The state to save; tensors are not copied."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "rate": self.rate,
            "counts": self.counts,
            "rows": self.rows,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "updates": self.updates.state_dict(),
            "stopping": self.stopping.state_dict(),
            "best": self.best,
            "first_epoch": self.first_epoch,
            "cycles": self.cycles,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self.epoch, self.step, self.rows, self.best = (state[name] for name in ("epoch", "step", "rows", "best"))
        self.cycles = state.get("cycles", [])
        self.started = time.monotonic() - state["seconds"]
        self.rate = state.get("rate", 0.0)
        self.counts.copy_(state["counts"])
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        for name in ("optimizer", "schedule", "updates", "stopping"):
            getattr(self, name).load_state_dict(state[name])

    def begin_cycle(self, state: dict[str, Any]) -> None:
        """Begin another cycle of a finished training, from its best weights. Its epochs and its best one are kept."""
        self.rows, self.best, self.epoch = state["rows"], state["best"], self.first_epoch
        self.cycles = [*state.get("cycles", []), {"first_epoch": state.get("first_epoch", 0) + 1, **state["settings"]}]
        for network in {self.model, self.evaluated}:
            network.load_state_dict(self.best)
        best = state["stopping"]["best_epoch"]
        score = self.stopping.score(self.rows[best - 1])
        self.stopping.best_epoch, self.stopping.best_score, self.stopping.reference = best, score, score


def copy_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's tensors on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a state with a digest, whole or not at all. The state before it stays as ``PREVIOUS``."""
    path = folder / CHECKPOINT

    def write(temporary: Path) -> None:
        buffer = BytesIO()  # PyTorch's own writing aborts the process if the disk is full
        torch.save({"format": FORMAT, **state}, buffer)
        temporary.write_bytes(buffer.getbuffer())
        seal(temporary)
        if path.is_file():
            path.replace(folder / PREVIOUS)

    write_atomically(path, write)


def load_checkpoint(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The last saved state that is whole, or None if nothing was saved.

    ``settings`` are the current ones from ``describe_settings``. A damaged file is set aside with a warning.

    Raises:
        ValueError: all files are damaged, or the state is of another format or of other settings.
    """
    paths = [path for path in (folder / CHECKPOINT, folder / PREVIOUS) if path.is_file()]
    for number, path in enumerate(paths):
        try:
            state = read_checkpoint(path)
        except DamagedError:
            continue
        check_checkpoint(path, state, settings)
        for damaged in paths[:number]:
            aside = damaged.replace(damaged.with_suffix(".damaged"))
            warnings.warn(
                f"checkpoint {damaged} is damaged; training continues from the one before it, {path.name} (the damaged "
                f"one is now {aside.name})",
                stacklevel=2,
            )
        return state
    if paths:
        raise ValueError(
            f"checkpoint {' and the one before it, '.join(map(str, paths))} cannot be read; restore a copy, or delete "
            "it to start the training anew with the same command"
        )
    return None


class DamagedError(ValueError):
    """A checkpoint's content is not what was written."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint whose digest holds."""
    if not seal_holds(path):
        raise DamagedError(path)
    try:
        if not is_stored(path):
            raise DamagedError(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise several kinds
        raise DamagedError(path) from error
    if not is_sealed(path) and isinstance(state, dict) and state.get("format") == FORMAT:  # which is always sealed
        raise DamagedError(path)
    if isinstance(state, dict) and state.get("format") == FORMAT:
        state["rows"] = [rename_figures(row) for row in state["rows"]]
        for part in (state["stopping"], state["settings"]):
            part["monitor"] = RENAMED.get(part["monitor"], part["monitor"])
    return state


def check_checkpoint(path: Path, state: Any, settings: dict[str, Any]) -> None:
    """Refuse a checkpoint of another format or of other settings."""
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        raise ValueError(
            f"checkpoint {path} was written by {'a newer' if newer else 'an earlier'} version of anychannel (format "
            f"{found}, this version reads {FORMAT}); go on with that version, or delete the file and run the same "
            "command again, which starts the training anew"
        )
    kept = describe_settings(TrainingSettings(), settings["training images"]) | state["settings"]  # newer settings
    settings = settings | ({"lr": kept["lr"]} if settings["lr"] is None else {})
    another = settings["epochs"] > kept["epochs"] and is_finished(state)
    changed = [
        f"{name}: {kept.get(name)} -> {settings.get(name)}"
        for name in (KEPT if another else kept | settings)
        if kept.get(name) != settings.get(name)
    ]
    if changed:
        raise ValueError(
            f"checkpoint {path} is of a training with other settings ({'; '.join(changed)}); go on with its own, or "
            "train in another folder"
        )


def is_finished(state: dict[str, Any]) -> bool:
    """Whether the training of a checkpoint has reached its end."""
    stopping = state["stopping"]
    stopped = stopping["patience"] is not None and stopping["waited"] >= stopping["patience"]
    return bool(state["epoch"] >= state["settings"]["epochs"] or stopped)


def plan_cycle(
    settings: TrainingSettings, saved: dict[str, Any] | None, *, trained: bool
) -> tuple[TrainingSettings, int]:
    """The settings with their learning rate, and the first epoch of the cycle, for a checkpoint that is resumed.

    More epochs than those of the checkpoint begin another cycle, at the rate for trained weights unless one is given.
    """
    if saved is None:
        return settings.with_rate(trained=trained), 0
    if settings.epochs > saved["settings"]["epochs"]:
        return settings.with_rate(trained=True), len(saved["rows"])
    return replace(settings, lr=saved["settings"]["lr"]), saved.get("first_epoch", 0)


def describe_settings(settings: TrainingSettings, images: int) -> dict[str, Any]:
    """What must stay the same when a training resumes, as JSON: its settings and its number of training images."""
    values = {name: value for name, value in asdict(settings).items() if name not in FREE}
    values["training images"] = images
    known = json.dumps(values, default=lambda value: value.tolist() if hasattr(value, "tolist") else repr(value))
    plain: dict[str, Any] = json.loads(known)
    return plain
