"""Loss and accuracy on the validation images, with all channels and with channels missing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import ChannelSet, Subset
from anychannel.data import Split, iterate_batches
from anychannel.nn.channel_sampling import Part, draw_subset
from anychannel.nn.classifier import Classifier
from anychannel.training.metrics import count_answers, mean_figures, new_counts
from anychannel.utils.processes import add_up, check_all, share
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


@torch.no_grad()
def validate(model: Classifier, split: Split, *, batch_size: int, reduced: bool = False) -> dict[str, float]:
    """Loss and accuracy on all channels that each image has, over all processes.

    ``reduced`` uses every image again with some of its channels missing, and adds ``val_reduced_loss``,
    ``val_reduced_accuracy`` and the mean of both accuracies, ``val_mean_accuracy``. A signal interrupts it, between two
    batches or, with several processes, at the end of a pass.
    """
    model.eval()
    device = next(model.parameters()).device
    own = share()
    rows = own.rows(len(split))

    def count(subsets: list[Subset], chosen: np.ndarray) -> Tensor:
        counts = new_counts(device)
        ordered = rows[np.argsort(chosen[rows], kind="stable")]
        batches = iterate_batches(split, batch_size, order=ordered)
        for first, (images, labels) in zip(range(0, len(rows), batch_size), batches, strict=True):
            inputs = images.to(device).float().contiguous(memory_format=torch.channels_last)
            parts = runs_of(subsets, chosen[ordered[first : first + len(inputs)]])
            logits = model(inputs, parts=parts).float()
            targets = labels.to(device)
            counts += count_answers(F.cross_entropy(logits, targets), logits, targets)
            if own.count == 1:
                check()
        check_all()
        return add_up(counts)

    whole = np.zeros(len(split), dtype=int)
    patterns = split.patterns()
    for number, found in enumerate(patterns.values()):
        whole[found] = number
    figures = mean_figures(count(list(patterns), whole), "val")
    if reduced:
        figures |= mean_figures(count(*assign_reduced(model.channels, split)), "val_reduced")
        figures["val_mean_accuracy"] = (figures["val_accuracy"] + figures["val_reduced_accuracy"]) / 2
    return figures


def runs_of(subsets: list[Subset], chosen: np.ndarray) -> list[Part]:
    """A batch's parts from each image's subset."""
    edges = [0, *(np.flatnonzero(np.diff(chosen)) + 1).tolist(), len(chosen)]
    return [Part(subsets[chosen[start]], start, stop) for start, stop in pairwise(edges)]
