"""Batch norm statistics that belong to the weights, recomputed before each validation.

Training's running averages lag behind the weights, and a subset with its own statistics gets only part of each batch.
So the validated network, which is kept if it is the best, gets statistics from up to a few hundred training images
without augmentation: Wu and Johnson's precise batch norm ("Rethinking 'Batch' in BatchNorm", 2021,
https://arxiv.org/abs/2105.07576). Each batch holds the classes in the training set's shares, because deep features
depend on the class: with 40 images of cells, validation accuracy varies by 2 points from draw to draw instead of 10
(docs/LOG.md). If one epoch can afford few images, the best network gets its final statistics from more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.channels import Subset
from anychannel.data import Split, Stream, TorchImages
from anychannel.data.batches.split import Batch
from anychannel.nn.channel_sampling import Part, Sampler, split_evenly
from anychannel.nn.classifier import Classifier
from anychannel.nn.subset_batchnorm import NORMS, keeps_statistics
from anychannel.training.step_parts import StepParts, assign_channels, step_parts
from anychannel.utils.hardware import to_device
from anychannel.utils.processes import Share
from anychannel.utils.seeds import mix

MOST_IMAGES = 512
"""Largest number of images of a subset."""
LEAST_IMAGES, LEAST_PASSES = 32, 256
"""Smallest number of images of a subset, and of all subsets together, if there are as many training images."""
COST = 0.04
"""Share of an epoch's time for passes beyond the smallest number; a training step takes about three forward passes."""
DRAWN_TOGETHER = 8
"""Number of images for which a sampler draws subsets once, if subsets share a batch norm."""

Pass = tuple[Tensor, StepParts]
"""Images, and the channels that are kept of each."""


def count_images(model: Classifier, train: Split | Stream | TorchImages, epochs: int = 1) -> int:
    """Number of images that each subset's statistics are recomputed from, if it may cost a share of so many epochs."""
    if not batch_norms(model):
        return 0
    allowed = max(3 * COST * len(train) * epochs, LEAST_PASSES) / len(normalised_subsets(model))
    return min(len(train), MOST_IMAGES, max(round(allowed), LEAST_IMAGES))


def normalised_subsets(model: Classifier) -> list[Subset]:
    """The subsets with their own statistics; the full set if all subsets share their statistics."""
    own = NORMS[model.spec.norm].own_statistics
    return model.channels.group_subsets() if own else [model.channels.full]


def choose_passes(
    model: Classifier,
    train: Split | Stream | TorchImages,
    sampler: Sampler,
    images: int,
    *,
    seed: int,
    batch_size: int,
    share: Share,
) -> list[Pass]:
    """Choose training images and their channels for the statistics; ``images`` comes from ``count_images``.

    If every subset has its own statistics, each batch passes once for each subset, with the images that have all of its
    channels. Otherwise the sampler draws subsets as in training. Each process takes its share of the images.
    """
    if not images:
        return []
    own, subsets = NORMS[model.spec.norm].own_statistics, normalised_subsets(model)
    size = min(images, batch_size)
    generator = torch.Generator().manual_seed(mix(seed, 4))
    passes: list[Pass] = []
    if isinstance(train, Split):
        batches = train.batches_of(stratify(train.labels, images // size, size, seed), share=share)
    elif isinstance(train, Stream):
        batches = islice(train.batches(seed=seed, epoch=0, batch_size=size, share=share), images // size)
    else:
        single = replace(train, accumulate=1)
        size, _ = single.plan(size, share)  # a DataLoader has its own
        batches = until(images, single.batches(seed=seed, epoch=0, batch_size=size, share=share))
    for batch in batches:
        count = size if isinstance(train, Stream) else len(batch.places)  # a stream's are this process's alone
        if own:
            has = np.ones((count, len(model.channels)), bool) if batch.present is None else batch.present
            whole = torch.from_numpy(has)
            groups = [(subset, torch.nonzero(whole[:, list(subset)].all(1)).flatten()) for subset in subsets]
            found = [step_parts([group], batch.present, share) for group in groups if len(group[1]) > 1]
        else:
            found = [assign_channels(draw_parts(sampler, count, generator), batch.present, share)]
        passes += [(batch.images, rows) for rows in found]
    return passes


def until(images: int, batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches until they hold so many images."""
    taken = 0
    for batch in batches:
        yield batch
        taken += len(batch.places)
        if taken >= images:
            return


def stratify(labels: np.ndarray, batches: int, size: int, seed: int) -> np.ndarray:
    """Rows (batches, size) in random order, none twice; every batch has each class's share of ``labels``.

    Of several labels an image, (N, L), each set of labels is a class.
    """
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    random = np.random.default_rng(mix(seed, 4))
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    spread = (np.arange(batches * size) + random.random()) * len(labels) / (batches * size)
    return random.permuted(order[spread.astype(int)].reshape(size, batches).T, axis=1)


def draw_parts(sampler: Sampler, size: int, generator: torch.Generator) -> list[Part]:
    """Parts of a batch from several draws, for many subsets."""
    return [
        Part(part.subset, start + part.start, start + part.stop)
        for start, stop in split_evenly(size, max(size // DRAWN_TOGETHER, 1))
        for part in sampler(stop - start, generator)
    ]


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """A network's batch norms with running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and keeps_statistics(module)]


@contextmanager
def recomputed_statistics(
    model: Classifier, passes: Sequence[Pass], synchronised: AbstractContextManager[object]
) -> Iterator[None]:
    """Give the model recomputed statistics inside the block, in evaluation mode; restore training's after it.

    ``synchronised`` comes from ``sync_batchnorm``, for batch norms over several processes.
    """
    buffers = [buffer for norm in batch_norms(model) for buffer in norm.buffers(recurse=False)]
    running = [buffer.clone() for buffer in buffers]
    with synchronised:
        recompute_bn_statistics(model, passes)
    try:
        yield
    finally:
        if buffers:
            torch._foreach_copy_(buffers, running)


@torch.no_grad()
def recompute_bn_statistics(model: Classifier, passes: Sequence[Pass]) -> None:
    """Set each batch norm's running statistics to the average of its batches', in place.

    A batch norm without images keeps its statistics. A pass with statistics that are not finite does not count.
    """
    norms = batch_norms(model)
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    momenta = [norm.momentum for norm in norms]
    counted: Counter[nn.Module] = Counter()

    def average_so_far(norm: _BatchNorm, _: object) -> None:
        counted[norm] += 1
        norm.momentum = 1 / counted[norm]

    handles = [norm.register_forward_pre_hook(average_so_far) for norm in norms]
    device = next(model.parameters()).device
    model.eval()
    for norm in norms:
        norm.train()
    try:
        for images, rows in passes:
            before, count = [buffer.clone() for buffer in buffers], counted.copy()
            chosen = to_device(images[rows.images], device).float().contiguous(memory_format=torch.channels_last)
            model(chosen, parts=rows.parts)
            if not torch.stack([buffer.isfinite().all() for buffer in buffers]).all():
                torch._foreach_copy_(buffers, before)
                counted = count
    finally:
        for norm, momentum, handle in zip(norms, momenta, handles, strict=True):
            norm.momentum = momentum
            handle.remove()
        model.eval()
