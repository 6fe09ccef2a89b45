"""After training: batch norm statistics of each subset, computed once from training images.

A subset with statistics of its own shows a small part of each step's images, so that the running ones are averages of
few and of several networks' making. Computing them anew for the network that is kept is Wu and Johnson's precise
batch norm ("Rethinking 'Batch' in BatchNorm", 2021, https://arxiv.org/abs/2105.07576).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from anychannel.channels import Subset
from anychannel.data import Split, Stream, iterate_batches
from anychannel.data.batches.split import epoch_order
from anychannel.nn.bn_statistics import calibrate
from anychannel.nn.classifier import Classifier
from anychannel.nn.subset_batchnorm import NORMS
from anychannel.utils.processes import Share

IMAGES = 1024
"""Most training images that a subset's statistics come from."""


def recompute_bn_statistics(model: Classifier, train: Split | Stream, *, seed: int, batch_size: int) -> bool:
    """Recompute the statistics of every subset that has its own, from images that are not augmented.

    Args:
        model: trained; every process of several gives it the same statistics.
        train: its training images; a subset that fewer than two of those read show keeps its running statistics.
        seed: decides which images.
        batch_size: images a forward pass.

    Returns:
        Whether the model has such subsets.
    """
    kind = NORMS[model.spec.norm]
    if not kind.own_statistics:
        return False
    read = list(from_stream(train, seed, batch_size)) if isinstance(train, Stream) else train
    for subset in model.channels.subsets():
        if subset == model.channels.full:
            continue
        names = [model.channels.names[position] for position in subset]
        if isinstance(read, Split):
            rows = rows_that_show(subset, read, seed, batch_size)
            batches = (images[:, list(subset)] for images, _ in iterate_batches(read, batch_size, order=rows))
            known = len(rows)
        else:
            shown = [images[have[:, list(subset)].all(dim=1)][:, list(subset)] for images, have in read]
            batches = (images for images in shown if len(images) > 1)
            known = max(map(len, shown))
        if known > 1:
            calibrate(model, batches, names)
    return True


def rows_that_show(subset: Subset, train: Split, seed: int, batch_size: int) -> np.ndarray:
    """Which images to take, at random: they have every channel of the subset, and the last batch is not one image."""
    rows = epoch_order(seed, 0, len(train))
    if train.present is not None:
        rows = rows[train.present[rows][:, list(subset)].all(axis=1)]
    rows = rows[:IMAGES]
    return rows[: len(rows) - (len(rows) % batch_size == 1)]


def from_stream(train: Stream, seed: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images and which channels each has, (n, C) booleans, the same in every process."""
    taken = 0
    for batch in train.batches(seed=seed, epoch=0, batch_size=batch_size, share=Share(0, 1)):
        whole = torch.ones(batch.images.shape[:2], dtype=torch.bool)
        yield batch.images, whole if batch.present is None else torch.from_numpy(batch.present)
        taken += len(batch.images)
        if taken >= IMAGES:
            return
