"""What a training is about to do, in about ten lines: what it reads, how that is split, and which defaults it took."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from anychannel.data import ImageDataset, Split
from anychannel.evaluation import choose_subsets
from anychannel.nn.classifier import Classifier
from anychannel.results.run import read_record
from anychannel.runs.config import RunConfig
from anychannel.training.class_counts import count_labels, has_uneven_classes
from anychannel.training.loop import plan_steps
from anychannel.training.settings import MIXING, OFF, TrainingSettings
from anychannel.utils.hardware import choose_precision
from anychannel.utils.plurals import plural
from anychannel.utils.processes import share
from anychannel.utils.sizes import describe_size

MOST_NAMES = 8
"""More channels are counted instead of named."""


def describe_start(
    config: RunConfig, given: RunConfig, home: Path, dataset: ImageDataset, model: Classifier, device: torch.device
) -> list[str]:
    """The lines.

    Args:
        config: the settings that are used.
        given: the settings as they were given, where the learning rate may be None.
        home: the run's folder, which may hold an interrupted run, whose epochs so far are named.
        dataset, model, device: what is trained on what and where.
    """
    training, usual = config.training, TrainingSettings()

    def default(name: str) -> str:
        return " (default)" if getattr(training, name) == getattr(usual, name) else ""

    images, steps = plan_steps(dataset.train, training, share())
    augmentation = describe_augmentation(training)
    names = dataset.channels.names
    listed = ", ".join(names) if len(names) <= MOST_NAMES else f"{', '.join(names[:MOST_NAMES])}, ..."
    size = "resized to" if config.size else "of"
    pixels = f"{dataset.val.images.dtype.name}, {size} {describe_size(dataset.image_size)} pixels"
    units = [f"{group} = {', '.join(members)}" for group, members in dataset.channels.members.items()]
    norm = f"norm {model.spec.norm}{' (auto)' if config.norm == 'auto' else ''}"
    weights = f"from {config.checkpoint or config.model}" if config.checkpoint or Path(config.model).is_dir() else ""
    weights = "the weights of this run" if (home / "metrics.jsonl").is_file() else weights
    weights = weights or ("pretrained weights" if config.pretrained else "new weights")
    rate = f"learning rate {training.lr:g}" + (" (default)" if given.training.lr is None else "")
    uneven = has_uneven_classes(dataset.train, dataset.val, len(dataset.classes))
    watched, auto = training.watched(uneven=uneven, several=dataset.has_several), ""
    if training.monitor == "auto" and not dataset.has_several:
        auto = ", since classes are uneven" if uneven else ", since classes are about even"
    patience = f"patience {plural(training.patience, 'epoch')}" if training.patience else "no early stopping"
    limit = f"; training ends after {training.time_limit:g} s at most" if training.time_limit else ""
    subsets, sampled, _ = choose_subsets(model.channels, config.subsets)
    chosen = "a sample of the subsets" if sampled else "named subsets" if config.subsets else "every subset"
    precision = choose_precision(training.precision, device)
    planned = read_record(home).get("epochs_planned", 0) if (home / "run.json").is_file() else 0
    done = (home / "metrics.jsonl").read_text(encoding="utf-8").count("\n") if (home / "metrics.jsonl").is_file() else 0
    rows: dict[str, str] = {
        "data": f"{config.data}: {plural(len(names), 'channel')} ({listed}), {pixels}",
        "groups": "; ".join(units),
        "split": dataset.describe_split() + describe_counts(dataset),
        "network": f"{model.spec.model}, stem {config.stem}, {norm}, {weights}, "
        f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters",
        "channels shown": f"sampler {training.sampler}{default('sampler')}"
        + (" drops channels at random" if training.shows_subsets else " shows all channels")
        + (", by group" if units and training.shows_subsets else ""),
        "augmentation": augmentation + (" (default)" if augmentation == describe_augmentation(usual) else ""),
        "training": f"{plural(training.epochs, 'epoch')}{default('epochs')} of {plural(steps, 'step')} of {images:,} "
        f"images, {training.optimizer}, {training.schedule}, {rate}, balance {training.balance}, seed {training.seed}",
        "best epoch": f"that of the best {watched}{auto}; {patience}{limit}",
        "computed on": f"{device} in {precision}" + (f", {share().count} processes" if share().count > 1 else ""),
        "evaluated": f"at the end, on {chosen} ({len(subsets):,}) of the "
        f"{'test' if len(dataset.test) else 'validation'} images",
        "written to": f"{home}; --resume continues it",
        "continues": f"{'another cycle ' * (done >= planned)}after {plural(done, 'epoch')}" if done else "",
    }
    return [f"{head:>14}  {text}" for head, text in rows.items() if text]


def describe_counts(dataset: ImageDataset) -> str:
    """How many training images a class has; empty if it is not known."""
    counts = count_labels(dataset.train, len(dataset.classes)) if isinstance(dataset.train, Split) else None
    if counts is None:
        return ""
    few, many = int(counts.min()), int(counts.max())
    each = "label" if dataset.has_several else "class"
    return f"; {f'{few:,}' if few == many else f'{few:,} to {many:,}'} training images a {each}"


def describe_augmentation(training: TrainingSettings) -> str:
    """The preset and what is switched on."""
    values: dict[str, Any] = {name: value for name, value in asdict(training).items() if name in OFF | MIXING}
    shown = [
        name if value is True else f"{name} {value:g}"
        for name, value in values.items()
        if value != (OFF | MIXING)[name]
    ]
    return f"{training.augment}: {', '.join(shown) or 'nothing'}"
