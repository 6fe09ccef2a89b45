"""The training loop, in one function.

    result = fit(model, dataset.train, dataset.val, TrainingSettings(epochs=15), folder="run")

The model is trained in place and ends with the weights of the best validation epoch and batch norm statistics that were
recomputed for them (``anychannel.training.bn_statistics``). With a folder, ``fit`` writes metrics, weights and
checkpoints, and a killed training can resume: it ends with bitwise the same weights on the same machine and settings.
SIGINT (Ctrl-C) and SIGTERM end it after the running step with a checkpoint (``anychannel.utils.signals``).
Each of several processes (``anychannel.utils.processes``) takes its share of every batch, and all end with the weights
of a single process.
"""

from __future__ import annotations

import math
import operator
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from anychannel.channels import ChannelSet
from anychannel.data import Split, Stream, TorchImages, augment
from anychannel.data.batches.mixing import mix_images
from anychannel.data.batches.split import Batch
from anychannel.models.saving import BEST, describe_model, save_model, save_weights
from anychannel.models.view import as_classifier
from anychannel.nn.channel_sampling import Part
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import place
from anychannel.nn.sync_batchnorm import sync_batchnorm
from anychannel.training.bn_statistics import (
    Pass,
    choose_passes,
    count_images,
    recompute_bn_statistics,
    recomputed_statistics,
)
from anychannel.training.class_counts import balance_classes, has_uneven_classes
from anychannel.training.contention import Contention
from anychannel.training.early_stopping import FIGURES, LABEL_FIGURES
from anychannel.training.finite_updates import TrainingError
from anychannel.training.loss import check_distillation, find_teacher, training_loss
from anychannel.training.matching import (
    AnyImages,
    Names,
    check_model,
    count_classes,
    expect_several,
    match_images,
    open_images,
    take_statistics,
    thresholds_of,
)
from anychannel.training.metrics import count_answers, mean_figures, new_counts, write_metrics
from anychannel.training.micro_batches import cut_rows
from anychannel.training.outputs import logits_of
from anychannel.training.settings import MIXING, OFF, TrainingSettings, check_own_transforms
from anychannel.training.state import (
    TrainingState,
    copy_state,
    describe_settings,
    load_checkpoint,
    plan_cycle,
    save_checkpoint,
)
from anychannel.training.step_parts import assign_channels, check_missing_channels
from anychannel.training.validation import choose_thresholds, validate
from anychannel.utils.durations import parse_duration
from anychannel.utils.hardware import to_device
from anychannel.utils.plurals import few
from anychannel.utils.processes import Ending, Share, add_up, average_gradients, join, on_main, share
from anychannel.utils.progress import progress_bar
from anychannel.utils.seeds import mix, seeded
from anychannel.utils.signals import held

LAST = "weights/last.safetensors"
Block = AbstractContextManager[object]


@dataclass(frozen=True)
class FitResult:
    """The result of a training.

    Args:
        rows: one row of figures for each epoch.
        best_epoch: the epoch whose weights were kept, counted from 1.
        stopped_early: whether early stopping ended it.
        recomputed_statistics: whether the network has batch norm statistics, which are recomputed before each
            validation (``anychannel.training.bn_statistics``).
        skipped_steps: number of steps whose loss or gradients were not finite.
        seconds: duration.
        monitor: the figure by which the best epoch was chosen, as ``val_mean_balanced_accuracy``.
        timed_out: whether ``time_limit`` ended it before its last epoch.
        cycles: each cycle's settings and ``first_epoch``, counted from 1, if there were several.
    """

    rows: list[dict[str, Any]]
    best_epoch: int
    stopped_early: bool
    recomputed_statistics: bool
    skipped_steps: int
    seconds: float
    monitor: str = "val_accuracy"
    timed_out: bool = False
    cycles: tuple[dict[str, Any], ...] = ()


def fit(
    model: nn.Module,
    train: Any,
    val: Any,
    settings: TrainingSettings | None = None,
    *,
    channels: Names = None,
    teacher: Classifier | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> FitResult:
    """Train a classifier and leave it with the weights of its best validation epoch.

    Args:
        model: a ``Classifier``, or a network that ``adapt`` returned; trained in place. If it was created from names
            alone, it takes the channels' mean, standard deviation and correlations from the training images.
        train, val: images with the model's channels; training images may come from shards (``Stream``). Channels are
            matched by name; a split of bare arrays, without names, has them in the model's order. An image that lacks
            channels is used with those that it has and the sampler keeps, or else with all that it has. Validation uses
            all channels of each image and, unless the sampler is ``full``, every image again with channels missing.
            Instead of splits, PyTorch's ``Dataset`` or ``DataLoader`` of (image, label), or of dictionaries with
            ``image``, ``label`` and, if images lack channels, ``present`` (a boolean for each channel). Images are
            Pillow images or tensors or arrays (C, H, W), in the units of the model's statistics. A ``DataLoader`` keeps
            its batch size, sampler, workers and ``collate_fn``. The data set's own transforms augment, and of the
            settings' augmentation only ``mixup`` and ``cutmix`` apply. Order and transforms repeat with ``seed`` if
            they draw from the global generators of torch, NumPy or Python, or from the loader's.
        settings: see ``TrainingSettings``.
        channels: names of the planes of a ``Dataset`` or ``DataLoader`` in their order, or a sensor; None means the
            model's channels in its order.
        teacher: a trained network with the same classes, whose answers are learned with weight ``distill``. A teacher
            with all of the model's channels teaches every image that has them. A teacher with fewer teaches the images
            that are used with just its channels. None learns from the model's own answers to all channels. Ends in
            evaluation mode.
        folder: folder for metrics, weights and checkpoints; None keeps everything in memory.
        resume: resume from the folder's checkpoint if there is one; it needs the same settings. A finished training
            continues if ``epochs`` is larger than before: another cycle of the learning rate starts from its best
            weights, in which all settings but the sampler's may differ. ``lr=None`` is then the rate for trained
            weights.
        progress: show a progress bar on standard error.
        on_epoch: called with each epoch's row.

    Raises:
        TrainingError: loss or gradients are not finite in several steps in a row, in float32 too, or there are too few
            training images.
        ChannelError: images lack channels of the model, or have others, or another number of planes.
        TypeError: the model is no channel-adaptive network, the images are none of these, or a sample has another form.
        ValueError: a setting is out of range, has no effect or a name is unknown, the images' classes are not the
            model's, images lack channels that the stem needs, ``distill`` has nothing to learn from, the checkpoint is
            damaged, of another version or of other settings, or the model cannot be saved to the folder.
        Interrupted: SIGINT or SIGTERM ended the training; ``resume`` continues it from the step that it reached.

    Warns:
        UserWarning: the model took its statistics from the training images, other programs slow down training on the
            CPU (``anychannel.training.contention``), or steps were skipped because loss or gradients were not finite.
    """
    began = time.monotonic()
    check_model(model)
    model = as_classifier(model)
    settings = settings or TrainingSettings()
    home = None if folder is None else Path(folder)
    if resume and home is None:
        raise ValueError("resume needs the folder of the training to resume; give folder, or leave resume out")
    train = open_images(train, model, "the training images", channels)
    val = open_images(val, model, "the validation images", channels)
    if isinstance(val, Stream):
        raise TypeError("validation reads images in order, and a stream of shards has none; give data.val")
    if len(train) < 2 or (isinstance(val, Split) and not len(val)):
        raise TrainingError(f"training needs at least 2 images and validation 1, got {len(train)} and {len(val)}")
    train, val = match_images(model, train, "the training images"), match_images(model, val, "the validation images")
    if isinstance(train, TorchImages):
        settings = check_own_transforms(
            settings, own_batches=(train.source.batch_size or 0) if train.is_loader else None
        )
        train = replace(train, accumulate=settings.accumulate)
    check_missing_channels(model, train, val)
    several = expect_several(model, train, val)
    check_distillation(settings, model, teacher, several=several)
    if home is not None:
        describe_model(model)  # refuses what could not be saved
    device, own = join(settings.device), share()
    batch_size, steps = plan_steps(train, settings, own)
    if batch_size < own.count:
        raise TrainingError(f"a batch of {batch_size} images is too small for {own.count} processes; raise batch_size")

    planned, saved = describe_settings(settings, len(train)), None
    if resume and home is not None:
        saved = on_main(lambda: load_checkpoint(home, planned))
    settings, first_epoch = plan_cycle(settings, saved, trained=model.channel_input.trained)
    take_statistics(model, train)
    place(model, device)
    if teacher is not None:
        place(teacher.eval(), device)
    uneven = has_uneven_classes(train, val, count_classes(model))
    watched = replace(settings, monitor=settings.watched(uneven=uneven, several=several))
    state = TrainingState(model, watched, batch_size=batch_size, steps=steps, first_epoch=first_epoch)
    train, weights = balance_classes(train, settings, count_classes(model))
    state.class_weights = None if weights is None else weights.to(device)
    images, small = count_images(model, train), -(-batch_size // settings.accumulate)
    passes = choose_passes(model, train, state.sampler, images, seed=settings.seed, batch_size=small, share=own)
    fixed = describe_settings(settings, len(train))
    if saved is not None and home is not None:
        if first_epoch > saved.get("first_epoch", 0):
            state.begin_cycle(saved)
        else:
            state.load_state_dict(saved)
        if state.rows and own.is_main:
            save_weights(state.best, home / BEST)  # those on the disk may be of a later epoch, or damaged

    def checkpoint() -> None:
        if home is not None and own.is_main:
            save_checkpoint(home, {"settings": fixed, **state.state_dict()})

    network, ending = average_gradients(model, device), Ending(device)
    contention = Contention() if device.type == "cpu" and own.count == 1 else None
    limit, timed_out = parse_duration(settings.time_limit), False
    total = settings.epochs * state.steps
    bar = progress_bar("training", total, done=state.done, show=progress and own.is_main)
    with bar as advance, sync_batchnorm(synchronise=settings.sync_norm) as synchronised, held(checkpoint):
        while state.epoch < settings.epochs and not (state.stopping.should_stop or timed_out):
            last_checkpoint = time.monotonic()
            position = {"seed": settings.seed, "epoch": state.epoch, "first_step": state.step}
            for batch in train.batches(batch_size=batch_size, share=own, **position):
                size = len(batch.places) if isinstance(train, TorchImages) else batch_size
                train_step(state, network, batch, size, teacher, synchronised)
                advance()
                if contention is not None:
                    contention.check()
                due = time.monotonic() - last_checkpoint > settings.checkpoint_seconds
                if due and state.step < state.steps:
                    checkpoint()
                    last_checkpoint = time.monotonic()
                ending.check()
            row = close_epoch(state, val, passes, synchronised, home)
            checkpoint()
            advance(0, note=summary(state.rows, settings.epochs))
            if on_epoch is not None:
                on_epoch(row)
            state.started = time.monotonic()
            if limit is not None and state.epoch < settings.epochs:
                expected = state.started - began + row["seconds"]
                timed_out = on_main(partial(operator.gt, expected, limit))
        finish(state, train, val, synchronised, home)
        if several:
            with state.autocast():
                choose_thresholds(model, val, batch_size=batch_size, reduced=settings.shows_subsets)
            if home is not None and own.is_main:
                save_model(model, home, weights=BEST)

    model.channel_input.trained = True
    return FitResult(
        state.rows,
        best_epoch=state.stopping.best_epoch,
        stopped_early=state.stopping.should_stop and len(state.rows) < settings.epochs,
        recomputed_statistics=bool(passes),
        skipped_steps=sum(row["skipped_steps"] for row in state.rows),
        seconds=time.monotonic() - began,
        monitor=state.stopping.monitor,
        timed_out=timed_out and not state.stopping.should_stop,
        cycles=(*state.cycles, {"first_epoch": first_epoch + 1, **fixed}) if state.cycles else (),
    )


def plan_steps(train: AnyImages, settings: TrainingSettings, share: Share) -> tuple[int, int]:
    """Number of images in a step, over all processes, and of steps in an epoch."""
    if isinstance(train, TorchImages):
        return train.plan(settings.batch_size, share)
    images = min(settings.batch_size * settings.accumulate, len(train))
    return images, len(train) // images


def train_step(
    state: TrainingState, network: nn.Module, batch: Batch, size: int, teacher: Classifier | None, synchronised: Block
) -> None:
    """One step of ``size`` images over all processes, in ``accumulate`` pieces; ``network`` may wrap the model.

    The host waits for the device at none but the steps 1, 2, 4, 8 ..., whose images' range is checked.
    """
    settings, channels, own = state.settings, state.model.channels, share()
    several = thresholds_of(state.model) is not None
    # a function of seed, epoch and step, so that a resumed training needs no generator's state
    generator = torch.Generator().manual_seed(mix(settings.seed, 2, state.epoch, state.step))
    parts = state.sampler(size, generator)
    whole = assign_channels(parts, batch.present, own)
    pieces = cut_rows(whole, parts, size, settings.accumulate, own)
    images = augment(
        to_device(batch.images, state.device),
        **settings.options(OFF),
        fill=torch.tensor(channels.mean, dtype=torch.float32),
        std=torch.tensor(channels.std, dtype=torch.float32),
        generator=generator,
        share=own,
        batch_size=size,
    )
    images, labels = mix_images(
        images,
        batch.labels,
        **settings.options(MIXING),
        num_classes=count_classes(state.model) or 0,
        generator=generator,
        present=batch.present,
        share=own,
    )
    state.model.stem.anneal(state.epoch + state.step / state.steps)
    network.train()
    counted, total = new_counts(state.device), sum(map(len, parts))
    for number, rows in enumerate(pieces, start=1):
        targets = to_device(labels[rows.images], state.device)
        inputs = images[to_device(rows.images, state.device)].contiguous(memory_format=torch.channels_last)
        randomness = (settings.seed, 3, state.epoch, state.step, own.index, *([number] if number > 1 else []))
        own_gradients = number < len(pieces) and isinstance(network, DistributedDataParallel)
        with network.no_sync() if own_gradients else nullcontext():  # type: ignore[operator]
            with seeded(*randomness), state.autocast(), synchronised:
                logits = logits_of(network(inputs, parts=rows.parts)).float()
                answers, taught = find_teacher(teacher, images, logits, rows, channels, settings)
            loss = training_loss(logits, targets, answers, taught, settings, state.class_weights, several=several)
            counted += count_answers(loss, logits, targets, several=several)
            # gradients are averaged over processes: this makes their sum the mean over all processes' rows
            mean: Tensor = loss * (own.count * len(targets) / total)
            mean.backward()  # type: ignore[no-untyped-call]
    counted = add_up(counted + state.updates.doubt())
    state.update(counted, partial(describe_step, state.epoch, state.step, whole.parts, channels, batch.places))


def close_epoch(
    state: TrainingState, val: Split | TorchImages, passes: Sequence[Pass], synchronised: Block, home: Path | None
) -> dict[str, Any]:
    """Validate, keep the best weights, write weights and metrics, start the next epoch, and return this one's row."""
    settings, network, own = state.settings, state.evaluated, share()
    several = thresholds_of(network) is not None
    state.updates.look()
    row: dict[str, Any] = {"epoch": state.epoch + 1, **mean_figures(state.counts, "train", several=several)}
    state.copy_buffers()
    with state.autocast(), recomputed_statistics(network, passes, synchronised):
        row |= validate(network, val, batch_size=settings.batch_size, reduced=settings.shows_subsets)
        seconds = state.seconds
        row |= {"lr": state.rate, "seconds": round(seconds, 3)}
        row["images_per_second"] = round(state.steps * state.batch_size / seconds, 1)
        row["skipped_steps"] = state.updates.close_epoch(state.epoch, quiet=not own.is_main)
        row["best"] = state.stopping.update(state.epoch + 1, row)
        state.rows.append(row)
        if row["best"]:
            state.best = copy_state(network)
        if home is not None and own.is_main:
            if row["best"]:
                save_model(network, home, weights=BEST)
            save_weights(network.state_dict(), home / LAST)
            write_metrics(home, state.rows)
    state.start_epoch(state.epoch + 1)
    return row


def finish(
    state: TrainingState, train: AnyImages, val: Split | TorchImages, synchronised: Block, home: Path | None
) -> None:
    """Load the best weights, with statistics from more images than each epoch can afford.

    Statistics from few images make the epochs' figures noisy, so that the last epoch, whose learning rate is the
    lowest, is compared once more with the best, both with their final statistics.
    """
    settings, model, own = state.settings, state.model, share()
    last, stopping = copy_state(state.evaluated), state.stopping
    model.load_state_dict(state.best)
    images = count_images(model, train, epochs=len(state.rows))
    if images == count_images(model, train):
        return
    small = -(-state.batch_size // settings.accumulate)
    passes = choose_passes(model, train, state.sampler, images, seed=settings.seed, batch_size=small, share=own)
    candidates = {stopping.best_epoch: state.best, len(state.rows): last}  # one, if the last is the best
    scores = {}
    for epoch, weights in candidates.items():
        model.load_state_dict(weights)
        with state.autocast():
            with synchronised:
                recompute_bn_statistics(model, passes)
            row = state.rows[epoch - 1]
            row |= validate(model, val, batch_size=settings.batch_size, reduced=settings.shows_subsets)
        scores[epoch] = stopping.score(row)
        candidates[epoch] = copy_state(model)
    stopping.best_epoch = max(scores, key=scores.__getitem__)
    model.load_state_dict(candidates[stopping.best_epoch])
    if home is not None and own.is_main:
        save_model(model, home, weights=BEST)
        write_metrics(home, state.rows)


def describe_step(epoch: int, step: int, parts: list[Part], channels: ChannelSet, paths: Sequence[str]) -> str:
    """A step's epoch, batch, subsets and images, for messages."""
    subsets = sorted({channels.key(part.subset) for part in parts})
    return f"epoch {epoch + 1}, batch {step + 1} (channels {' / '.join(subsets)}; images {few(paths, 4)})"


def summary(rows: list[dict[str, Any]], epochs: int) -> str:
    """One line about the last epoch, with an estimate of the time left."""
    row = rows[-1]
    left = statistics.median(entry["seconds"] for entry in rows) * (epochs - row["epoch"])

    def figures(prefix: str) -> str:
        if prefix + LABEL_FIGURES[0] in row:
            precision, *scores = (f"{100 * row[prefix + name]:.1f} %" for name in LABEL_FIGURES)
            return f"average precision {precision} (micro F1 {scores[0]}, macro F1 {scores[1]})"
        accuracy, *others = (f"{100 * row.get(prefix + name, math.nan):.1f} %" for name in FIGURES)
        return f"{accuracy} (balanced {others[0]}, macro F1 {others[1]})"

    missing = f", with channels missing {figures('val_reduced_')}" if "val_reduced_loss" in row else ""
    right = row.get("train_accuracy", row.get("train_exact_match", math.nan))
    exact = " with all labels right" if "train_exact_match" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, "
        f"train {100 * right:.1f} %{exact}, val {figures('val_')}{missing}, "
        f"{timedelta(seconds=round(row['seconds']))}, {timedelta(seconds=round(left))} left"
    )
