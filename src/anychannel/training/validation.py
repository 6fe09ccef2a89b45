"""Figures on the validation images, with all channels and with channels missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import ChannelSet, Subset
from anychannel.data import Split, TorchImages, iterate_batches
from anychannel.data.batches.split import group_rows
from anychannel.models.view import as_classifier
from anychannel.nn.channel_sampling import Part, draw_subset
from anychannel.nn.classifier import Classifier
from anychannel.training.early_stopping import FIGURES, LABEL_FIGURES, mean_of_kinds
from anychannel.training.loss import label_loss
from anychannel.training.matching import count_classes, has_several, match_images, open_images, thresholds_of
from anychannel.training.metrics import class_figures, count_answers, count_by_class, mean_figures, new_counts
from anychannel.training.outputs import logits_of
from anychannel.utils.processes import Share, add_up, check_all, share, tell_all
from anychannel.utils.several_labels import UNDECIDED, best_thresholds, label_figures
from anychannel.utils.signals import check

MOST_SUBSETS = 30
"""Number of subsets in validation; all of five channels'."""


def assign_subsets(channels: ChannelSet, images: int) -> tuple[list[Subset], np.ndarray]:
    """Subsets with channels missing, and which of them each validation image gets: (images,), the same at every epoch.

    Of more than ``MOST_SUBSETS``, as many are drawn evenly over sizes. A single channel cannot be missing. Each subset
    occurs about as often as any other. If the channels have groups, whole groups are missing.
    """
    units = list(channels.units.values())
    count = len(units)
    if 2**count - 2 <= MOST_SUBSETS:
        subsets = [subset for subset in channels.group_subsets() if subset != channels.full] or [channels.full]
    else:
        generator = torch.Generator().manual_seed(0)
        sizes = np.linspace(1, count - 1, MOST_SUBSETS).round().astype(int)
        drawn = [draw_subset(count, int(size), generator) for size in sizes]
        subsets = [channels.join(units[i] for i in places) for places in drawn]
    return subsets, np.random.default_rng(0).permutation(images) % len(subsets)


def assign_reduced(channels: ChannelSet, split: Split) -> tuple[list[Subset], np.ndarray]:
    """``assign_subsets`` for images that lack channels; each gets a subset of its own channels."""
    subsets: list[Subset] = []
    chosen = np.zeros(len(split), dtype=int)
    for pattern, rows in split.patterns().items():
        found, places = assign_subsets(channels.select([channels.names[i] for i in pattern]), len(rows))
        chosen[rows] = len(subsets) + places
        subsets += [tuple(pattern[i] for i in subset) for subset in found]
    return subsets, chosen


Shown = tuple[int, Tensor, Tensor, list[Part]]
"""0 for all channels or 1 with some missing; a batch's images; their labels; which subset consecutive images show."""


@torch.no_grad()
def validate(
    model: Classifier, split: Split | TorchImages, *, batch_size: int, reduced: bool = False
) -> dict[str, float]:
    """Loss, accuracy, balanced accuracy and macro F1 on all channels that each image has, over all processes.

    Of several labels an image: loss, exact match, mean average precision, micro F1 and macro F1, at thresholds of 0.5.

    ``reduced`` uses every image again with some of its channels missing, and adds ``val_reduced_loss``,
    ``val_reduced_accuracy`` and so on, and the means of both, ``val_mean_accuracy`` and so on. A signal interrupts it,
    between two batches or, with several processes, at the end.
    """
    device, own, several = next(model.parameters()).device, share(), thresholds_of(model) is not None
    counts = torch.stack([new_counts(device), new_counts(device)])
    of_classes = counts.new_zeros((2, 3, count_classes(model) or 0))
    tables: Tables = ([], [])
    for place, logits, targets in answer(model, split, batch_size, reduced):
        loss = label_loss(logits, targets).mean() if several else F.cross_entropy(logits, targets)
        counts[place] += count_answers(loss, logits, targets, several=several)
        if several:
            tables[place].append((targets, logits))
        else:
            found = count_by_class(logits, targets)
            of_classes = of_classes if of_classes.shape[2] else counts.new_zeros((2, *found.shape))
            of_classes[place] += found
        if own.count == 1:
            check()
    check_all()
    add_up(counts)
    if several:
        return list_label_figures(counts, tables, reduced)
    if count_classes(model) is None:  # and a process without images has not seen how many classes there are
        width = max(tell_all(of_classes.shape[2]))
        of_classes = of_classes if of_classes.shape[2] else counts.new_zeros((2, 3, width))
    add_up(of_classes)
    figures = mean_figures(counts[0], "val") | class_figures(of_classes[0], "val")
    if reduced:
        figures |= mean_figures(counts[1], "val_reduced") | class_figures(of_classes[1], "val_reduced")
        figures |= average_kinds(figures, FIGURES)
    return figures


def average_kinds(figures: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Means of the figures with all channels and with some missing."""
    return {mean_of_kinds(name): (figures[f"val_{name}"] + figures[f"val_reduced_{name}"]) / 2 for name in names}


@torch.no_grad()
def answer(
    model: Classifier, split: Split | TorchImages, batch_size: int, reduced: bool
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Logits and targets of each batch of this process: 0 with all channels, and 1 with some missing if ``reduced``."""
    model.eval()
    device = next(model.parameters()).device
    options = (model.channels, batch_size, share(), reduced)
    shown = show_split(split, *options) if isinstance(split, Split) else show_as_read(split, *options)
    for place, images, labels, parts in shown:
        inputs = images.to(device).float().contiguous(memory_format=torch.channels_last)
        yield place, logits_of(model(inputs, parts=parts)).float(), labels.to(device)


Tables = tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]
"""Targets and logits (N, L) of batches, with all channels and with some missing."""


def gather_tables(batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities (N, L) of the images of all processes."""
    mine = [(targets.cpu().numpy(), logits.sigmoid().cpu().numpy()) for targets, logits in batches]
    labels, probabilities = zip(*(pair for each in tell_all(mine) for pair in each), strict=True)
    return np.concatenate(labels), np.concatenate(probabilities)


def list_label_figures(counts: Tensor, tables: Tables, reduced: bool) -> dict[str, float]:
    """See ``validate``, of several labels an image."""
    figures: dict[str, float] = {}
    for place, prefix in enumerate(("val", "val_reduced")[: 1 + reduced]):
        found = label_figures(*gather_tables(tables[place]), np.array(UNDECIDED))
        figures |= mean_figures(counts[place], prefix, several=True)
        figures |= {f"{prefix}_{name}": found[name] for name in LABEL_FIGURES}
    return figures | (average_kinds(figures, LABEL_FIGURES) if reduced else {})


def choose_thresholds(model: Any, images: Any, *, batch_size: int = 128, reduced: bool = True) -> None:
    """Tell a network that an image may have several labels, and from which probability it has each.

    The thresholds are those of the highest F1 of each label on these images. ``fit`` does this itself. After training
    in a loop of your own, ``evaluate``, ``predict``, ``save_model`` and ``export_model`` need it.

    Args:
        model: a ``Classifier``, or a network that ``adapt`` returned; ``model.spec.thresholds`` are set.
        images: a validation split, or a PyTorch ``Dataset`` or ``DataLoader``; see ``fit``.
        batch_size: images in a forward pass.
        reduced: whether to use every image again with some of its channels missing.

    Raises:
        ValueError: an image has one class.
    """
    model = as_classifier(model)
    if not isinstance(images, TorchImages):
        images = match_images(model, open_images(images, model, "the images"), "the images")
    if not has_several(images):
        raise ValueError("the images have one class each, so that there are no thresholds to choose")
    batches = [(targets, logits) for _, logits, targets in answer(model, images, batch_size, reduced)]
    model.spec = replace(model.spec, thresholds=best_thresholds(*gather_tables(batches)))


def show_split(split: Split, channels: ChannelSet, batch_size: int, own: Share, reduced: bool) -> Iterator[Shown]:
    """All images of this process with all channels, then with some missing; images with the same are adjacent."""
    rows = own.rows(len(split))
    patterns = split.patterns()
    whole = np.zeros(len(split), dtype=int)
    for number, found in enumerate(patterns.values()):
        whole[found] = number
    assigned = [(list(patterns), whole), *([assign_reduced(channels, split)] if reduced else [])]
    for place, (subsets, chosen) in enumerate(assigned):
        ordered = rows[np.argsort(chosen[rows], kind="stable")]
        batches = iterate_batches(split, batch_size, order=ordered)
        for first, (images, labels) in zip(range(0, len(rows), batch_size), batches, strict=True):
            yield place, images, labels, runs_of(subsets, chosen[ordered[first : first + len(images)]])


def show_as_read(
    found: TorchImages, channels: ChannelSet, batch_size: int, own: Share, reduced: bool
) -> Iterator[Shown]:
    """Each batch with all channels and then with some missing, so that every image is read once."""
    known: dict[Subset, list[Subset]] = {}
    seen = 0
    for batch in found.in_order(batch_size, own):
        count = len(batch.labels)
        subsets: list[Subset] = []
        chosen = np.zeros((2, count), dtype=int)
        for pattern, rows in group_rows(batch.held()).items():
            if pattern not in known:
                names = [channels.names[i] for i in pattern]
                listed, _ = assign_subsets(channels.select(names), 0)
                known[pattern] = [tuple(pattern[i] for i in each) for each in listed]
            chosen[0, rows] = len(subsets)
            turns = [take_turn(own.index + own.count * (seen + row), len(known[pattern])) for row in rows.tolist()]
            chosen[1, rows] = len(subsets) + 1 + np.array(turns)
            subsets += [pattern, *known[pattern]]
        seen += count
        for place in range(1 + reduced):
            order = np.argsort(chosen[place], kind="stable")
            index = torch.from_numpy(order)
            yield place, batch.images[index], batch.labels[index], runs_of(subsets, chosen[place][order])


def take_turn(number: int, choices: int) -> int:
    """One of the choices for each number: in any stretch of so many numbers each occurs once, in random order."""
    return int(np.random.default_rng([0, number // choices]).permutation(choices)[number % choices])


def runs_of(subsets: list[Subset], chosen: np.ndarray) -> list[Part]:
    """A batch's parts from each image's subset."""
    edges = [0, *(np.flatnonzero(np.diff(chosen)) + 1).tolist(), len(chosen)]
    return [Part(subsets[chosen[start]], start, stop) for start, stop in pairwise(edges)]
