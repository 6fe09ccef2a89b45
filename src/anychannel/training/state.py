"""Everything that a training changes, in one object whose ``state_dict`` is the checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from anychannel.nn.channel_sampling import create_sampler
from anychannel.nn.classifier import Classifier
from anychannel.training.early_stopping import EarlyStopping
from anychannel.training.finite_updates import FiniteUpdates
from anychannel.training.metrics import new_counts
from anychannel.training.optim import create_optimizer, create_schedule
from anychannel.training.settings import TrainingSettings
from anychannel.utils.hardware import choose_precision


class TrainingState:
    """Model, optimiser, averaged weights, schedule, early stopping, best weights, figures and position of a training,
    and what else a step needs.

    Args:
        model: on its device already.
        settings: of the training.
        batch_size: images a step, over all processes.
        steps: steps an epoch.
    """

    def __init__(self, model: Classifier, settings: TrainingSettings, *, batch_size: int, steps: int) -> None:
        self.device = next(model.parameters()).device
        self.settings = settings
        self.batch_size = batch_size
        self.steps = steps
        self.model = model
        self.sampler = create_sampler(settings.sampler, len(model.channels), **settings.sampler_options)
        self.average = ModelEmaV3(model, decay=settings.ema, use_warmup=True) if settings.ema else None
        self.optimizer = create_optimizer(
            model, settings.optimizer, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.schedule = create_schedule(
            self.optimizer,
            settings.schedule,
            total_steps=settings.epochs * steps,
            warmup_steps=round(settings.warmup_epochs * steps),
        )
        precision = choose_precision(settings.precision, self.device)
        self.updates = FiniteUpdates(model, self.optimizer, precision=precision, steps=steps)
        self.stopping = EarlyStopping(settings.watched, patience=settings.patience, min_delta=settings.min_delta)
        self.counts = new_counts(self.device)
        self.rows: list[dict[str, Any]] = []
        self.epoch, self.step = 0, 0
        self.rate = 0.0
        self.started = time.monotonic()
        self.best = copy_state(self.evaluated)

    @property
    def evaluated(self) -> Classifier:
        """The network that is validated and kept: the averaged one if there is one."""
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
        """Time spent on the epoch under way."""
        return time.monotonic() - self.started

    def autocast(self) -> torch.autocast:
        """The number format that the network computes in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.updates.precision == "bf16")

    def update(self, counted: Tensor, where: Callable[[], str]) -> None:
        """Apply the gradients, unless they or the loss are not finite, and count the step's answers.

        ``counted`` is what ``count_answers`` returned, summed over all processes; ``where`` describes the step.
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
        """Give the averaged network the model's own buffers: a temperature, say, is not to be averaged."""
        if self.average is not None:
            for averaged, buffer in zip(self.average.module.buffers(), self.model.buffers(), strict=True):
                averaged.copy_(buffer)

    def start_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch."""
        self.epoch, self.step = epoch, 0
        self.counts.zero_()
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` restores; tensors are not copied."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "counts": self.counts,
            "rows": self.rows,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "updates": self.updates.state_dict(),
            "stopping": self.stopping.state_dict(),
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch, self.step, self.rows, self.best = (state[name] for name in ("epoch", "step", "rows", "best"))
        self.started = time.monotonic() - state["seconds"]
        self.counts.copy_(state["counts"])
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        for name in ("optimizer", "schedule", "updates", "stopping"):
            getattr(self, name).load_state_dict(state[name])


def copy_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors as they are now, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
