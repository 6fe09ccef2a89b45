"""The training loop, in one function.

    result = fit(model, dataset.train, dataset.val, TrainingSettings(epochs=15), folder="run")

It trains ``model`` in place and leaves it with the weights of the best validation epoch and the batch norm statistics
that were recomputed for it (``anychannel.training.bn_statistics``). With a folder it writes metrics (one row an epoch),
the best and the last weights and checkpoints, and can go on where it was killed: it ends with bitwise the same weights
on the same machine and settings. Of several processes (``anychannel.utils.processes``), each takes its share of every
batch, and all of them end with the weights that one process would end with.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from anychannel.channels import ChannelSet
from anychannel.data import Split, Stream, augment
from anychannel.models.saving import BEST, describe_model, save_model, save_weights
from anychannel.nn.channel_sampling import Part, create_sampler
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import place
from anychannel.nn.sync_batchnorm import sync_batchnorm
from anychannel.training.bn_statistics import choose_passes, recomputed_statistics
from anychannel.training.checkpoint import (
    check_settings,
    describe_settings,
    load_checkpoint,
    save_checkpoint,
    write_metrics,
)
from anychannel.training.contention import Contention
from anychannel.training.distillation import check_distillation, find_teacher, training_loss
from anychannel.training.early_stopping import EarlyStopping
from anychannel.training.feed import feed
from anychannel.training.finite_updates import FiniteUpdates, TrainingError
from anychannel.training.optim import create_optimizer, create_schedule
from anychannel.training.patterns import check_patterns, plan_step
from anychannel.training.randomness import seeded, step_generator
from anychannel.training.settings import TrainingSettings
from anychannel.training.validation import COUNTED, count_answers, mean_figures, validate
from anychannel.utils.hardware import choose_precision
from anychannel.utils.processes import add_up, average_gradients, join, on_main, share
from anychannel.utils.progress import progress_bar

LAST = "weights/last.safetensors"


@dataclass(frozen=True)
class FitResult:
    """What a training run did: one row an epoch, the epoch whose weights were kept (counted from 1), and more.

    ``settled`` says whether batch norm statistics were recomputed before each validation, which is so if the network
    has any (``anychannel.training.bn_statistics``). ``skipped_steps`` counts the steps whose loss or gradients were not
    finite, in all rows together.
    """

    rows: list[dict[str, Any]]
    best_epoch: int
    stopped_early: bool
    settled: bool
    skipped_steps: int
    seconds: float


def fit(
    model: Classifier,
    train: Split | Stream,
    val: Split,
    settings: TrainingSettings | None = None,
    *,
    teacher: Classifier | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> FitResult:
    """Train a classifier and leave it with the weights of its best validation epoch.

    Args:
        model: trained in place, in the channels that its ``ChannelSet`` names.
        train, val: images in the model's channels and order; training images may be read from shards (``Stream``). An
            image that lacks channels shows those that the sampler says and it has, or else all that it has. Validation
            shows each image's own channels and, where the sampler shows subsets, every image once more with channels
            missing.
        settings: see ``TrainingSettings``.
        teacher: a trained network with the same classes, whose answers are learned with weight ``distill``. One that
            has all of the model's channels answers to all of them, and teaches every image that has them; one with
            fewer, a network dedicated to a subset, teaches the images that are shown in just that subset. None learns
            from the network's own answers to images that a step shows in full. It comes back in evaluation mode.
        folder: where metrics, weights and checkpoints go; None keeps everything in memory.
        resume: go on from the folder's checkpoint if it has one, with the settings that it was made with.
        progress: show a bar with the time left on standard error.
        on_epoch: called with each epoch's row.

    Raises:
        TrainingError: loss or gradients are not finite in several steps in a row, in float32 too, or there are fewer
            training images than one step needs.
        ValueError: a setting is out of range or a name unknown, images lack channels and the stem knows one set,
            there is nothing that ``distill`` could learn from, the checkpoint to go on from is damaged or of other
            settings, or there is a folder and the model has an option that no file can hold.

    Warns:
        UserWarning: other programs hold the training up, on a CPU (``anychannel.training.contention``), or steps were
            skipped because their loss or gradients were not finite.
    """
    options = settings or TrainingSettings()
    home = None if folder is None else Path(folder)
    if len(train) < 2 or len(val) < 1:
        raise TrainingError(f"training needs at least 2 images and validation 1, got {len(train)} and {len(val)}")
    check_patterns(model, train, val)
    if home is not None:
        describe_model(model)  # refuses what could not be saved
    device = join(options.device)
    own = share()
    sampler = create_sampler(options.sampler, len(model.channels), **options.sampler_options)
    stopping = EarlyStopping(options.watched, patience=options.patience, min_delta=options.min_delta)
    batch_size = min(options.batch_size, len(train))
    steps = len(train) // batch_size
    if batch_size < own.count:
        raise TrainingError(f"a batch of {batch_size} images is too small for {own.count} processes; raise batch_size")

    place(model, device)
    check_distillation(options, model, teacher)
    if teacher is not None:
        place(teacher.eval(), device)
    ema = ModelEmaV3(model, decay=options.ema, use_warmup=True) if options.ema else None
    judged = model if ema is None else ema.module
    optimizer = create_optimizer(
        model, options.optimizer, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
    )
    schedule = create_schedule(
        optimizer,
        options.schedule,
        total_steps=options.epochs * steps,
        warmup_steps=round(options.warmup_epochs * steps),
    )
    updates = FiniteUpdates(model, optimizer, precision=choose_precision(options.precision, device), steps=steps)
    passes = choose_passes(model, train, sampler, seed=options.seed, batch_size=batch_size, share=own)
    fixed = describe_settings(options, len(train))
    fill = torch.tensor(model.channels.mean, dtype=torch.float32)

    rows: list[dict[str, Any]] = []
    first_epoch, first_step, spent = 0, 0, 0.0
    tally = torch.zeros(COUNTED, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    best_state = copy_state(judged)

    def checkpoint(epoch: int, step: int) -> None:
        if home is None or not own.is_main:
            return
        state = {
            "epoch": epoch,
            "step": step,
            "tally": tally.tolist(),
            "spent": spent + time.monotonic() - epoch_start,
            "rows": rows,
            "model": model.state_dict(),
            "ema": None if ema is None else ema.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "updates": updates.state_dict(),
            "stopping": stopping.state_dict(),
            "best": best_state,
            "settings": fixed,
        }
        save_checkpoint(home, state)

    started = time.monotonic()
    state = on_main(lambda: load_checkpoint(home)) if resume and home is not None else None
    if state is not None and home is not None:
        check_settings(home, state, fixed)
        model.load_state_dict(state["model"])
        if ema is not None:
            ema.module.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        updates.load_state_dict(state["updates"])
        stopping.load_state_dict(state["stopping"])
        rows, first_epoch, first_step, spent = state["rows"], state["epoch"], state["step"], state["spent"]
        tally.copy_(torch.tensor(state["tally"], dtype=tally.dtype))
        best_state = state["best"]

    contention = Contention() if device.type == "cpu" and own.count == 1 else None
    total = options.epochs * steps
    bar = progress_bar("training", total, done=first_epoch * steps + first_step, show=progress and own.is_main)
    normalising = sync_batchnorm(synchronise=options.sync_norm)
    wrapped = average_gradients(model, device)

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=updates.precision == "bf16")

    with bar as advance, normalising as norms:
        for epoch in range(first_epoch, options.epochs):
            if stopping.should_stop:
                break
            epoch_start = last_checkpoint = time.monotonic()
            batches = feed(
                train, seed=options.seed, epoch=epoch, batch_size=batch_size, share=own, first_step=first_step
            )
            for step, (images, labels, present, places) in enumerate(batches, start=first_step):
                generator = step_generator(options.seed, epoch, step)
                plan = plan_step(sampler(batch_size, generator), present, own)
                targets = labels[plan.images].to(device)
                changed = augment(
                    images.to(device),
                    crop_padding=options.crop_padding,
                    flip=options.flip,
                    jitter=options.jitter,
                    fill=fill,
                    generator=generator,
                    share=own,
                    batch_size=batch_size,
                )
                shown = plan.arrange(changed).contiguous(memory_format=torch.channels_last)
                for network in (model, judged):
                    network.stem.anneal(epoch + step / steps)
                wrapped.train()
                with seeded(options.seed, 3, epoch, step, own.index), autocast(), norms:
                    logits = wrapped(shown, parts=plan.parts).float()
                    answers, taught = find_teacher(teacher, shown, logits, plan, model.channels, options)
                loss = training_loss(
                    logits,
                    targets,
                    answers,
                    taught,
                    weight=options.distill,
                    temperature=options.distill_temperature,
                    label_smoothing=options.label_smoothing,
                )
                counted = add_up(count_answers(loss, logits, targets))
                # gradients are averaged over processes: this makes it the mean over all processes' images
                mean: Tensor = loss * (own.count * len(targets) / counted[2])
                mean.backward()  # type: ignore[no-untyped-call]
                norm = clip_grad_norm_(model.parameters(), options.clip_norm or math.inf)
                usable = updates.step(counted, norm)
                rate = float(optimizer.param_groups[0]["lr"])
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                if ema is not None:
                    ema.update(model, step=epoch * steps + step)
                tally += torch.where(usable, counted, 0)
                updates.follow(partial(describe_step, epoch, step, plan.parts, model.channels, places))
                advance()
                if contention is not None:
                    contention.check()
                if time.monotonic() - last_checkpoint > options.checkpoint_seconds and step + 1 < steps:
                    checkpoint(epoch, step + 1)
                    last_checkpoint = time.monotonic()

            updates.look()
            row: dict[str, Any] = {"epoch": epoch + 1, **mean_figures(tally.tolist(), "train")}
            with autocast(), recomputed_statistics(judged, passes, norms):
                row |= validate(judged, val, device, batch_size=options.batch_size, reduced=options.shows_subsets)
                seconds = spent + time.monotonic() - epoch_start
                row |= {"lr": rate, "seconds": round(seconds, 3)}
                row["images_per_second"] = round(steps * batch_size / seconds, 1)
                row["skipped_steps"] = updates.close_epoch(epoch, quiet=not own.is_main)
                row["best"] = stopping.update(epoch + 1, row)
                rows.append(row)
                if row["best"]:
                    best_state = copy_state(judged)
                if home is not None and own.is_main:
                    if row["best"]:
                        save_model(judged, home, weights=BEST)
                    save_weights(judged.state_dict(), home / LAST)
                    write_metrics(home, rows)
            first_step, spent = 0, 0.0
            tally.zero_()
            epoch_start = time.monotonic()
            checkpoint(epoch + 1, 0)
            advance(0, note=summary(rows, options.epochs))
            if on_epoch is not None:
                on_epoch(row)

    model.load_state_dict(best_state)
    model.eval()
    stopped = stopping.should_stop and len(rows) < options.epochs
    skipped = sum(row["skipped_steps"] for row in rows)
    return FitResult(rows, stopping.best_epoch, stopped, bool(passes), skipped, time.monotonic() - started)


def copy_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's tensors as they are now, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def describe_step(epoch: int, step: int, parts: list[Part], channels: ChannelSet, paths: Sequence[str]) -> str:
    """Which batch a step had: its place, its subsets of channels and its images."""
    subsets = sorted({channels.key(part.subset) for part in parts})
    listed = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
    return f"epoch {epoch + 1}, batch {step + 1} (channels {' / '.join(subsets)}; images {listed})"


def summary(rows: list[dict[str, Any]], epochs: int) -> str:
    """One line about the last epoch, with the time that the others will take at most."""
    row = rows[-1]
    left = statistics.median(entry["seconds"] for entry in rows) * (epochs - row["epoch"])
    reduced = row.get("val_reduced_accuracy")
    missing = "" if reduced is None else f" ({100 * reduced:.1f} % with channels missing)"
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, "
        f"train {100 * row['train_accuracy']:.1f} %, val {100 * row['val_accuracy']:.1f} %{missing}, "
        f"{timedelta(seconds=round(row['seconds']))}, {timedelta(seconds=round(left))} left"
    )
