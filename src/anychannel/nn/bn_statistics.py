"""Batch norm statistics for one subset, recomputed from unlabelled images.

A network normalises a subset that it never had in training with the statistics of other images. Recomputing them on a
few hundred images of that subset, without labels and without changing a weight, repairs much of the harm (for
corruptions: Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation",
NeurIPS 2020, https://arxiv.org/abs/2006.16971).

Images that hold all channels also show how well each feature of the subset correlates with the same feature of the full
set. A feature with no correlation is noise to the layers after it, and its best linear estimate is its mean. So a
feature's deviation from the mean is scaled by the square root of its correlation r with the full set's. That is half
way, on a logarithmic scale, to the least squares estimate r, and was better on photographs (docs/LOG.md). The scale is
part of the statistics (the variance is divided by r) and costs nothing at inference.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.channel_sampling import Part
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import keep_modes
from anychannel.nn.subset_batchnorm import (
    COUNT,
    NORMS,
    STATISTICS,
    SubsetBatchNorm,
    by_subset,
    keeps_statistics,
    replace_norms,
)

LEAST_CORRELATION = 0.05
"""Lower bound of a feature's correlation with the full set's."""

LEAST_VARIANCE = 1e-3
"""Share of the trained variance below which a feature's variance says nothing: both sets count as having it alike."""

HELD_OUT = 5
"""One of so many images with all channels checks the new statistics, in batches of at least ``LEAST_BATCH``."""

LEAST_BATCH = 32


Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def calibrate(model: Model, images: Any, channels: str | Sequence[str], *, batch_size: int = 256) -> Model:
    """Recompute the batch norm statistics of one subset from unlabelled images, in place; other subsets keep theirs.

    Use it for subsets that training left out. A network that was trained on the subset with one batch norm for all
    subsets (``shared``) has learned with the statistics of the mixture and loses accuracy with others: 14 points on
    single channels of eight bands (docs/LOG.md). If calibration fails, the model stays as it was.

    Args:
        model: a trained classifier, or a network that ``adapt`` returned; its norm is ``shared``, or one with
            statistics for each subset.
        images: unlabelled images, as one tensor or array (N, k, H, W), as batches, or as a data set's split, whose
            channels are matched by name. Tensors hold just ``channels``, in that order, or all of the model's channels
            in its order, (N, C, H, W), which is better: statistics change only by how the subset differs from all
            channels, and a fifth of the images checks that its answers come nearer to those to all channels. A few
            hundred are enough. One tensor is shuffled. Batches should be random mixtures, since each is normalised by
            its own statistics; the averages of these, weighted by images, are kept.
        channels: names of the subset's channels.
        batch_size: images in a forward pass, if one tensor is given.

    Returns:
        The same model.

    Raises:
        ChannelError: a name is unknown, or the images hold another number of channels.
        TypeError: the images are neither a tensor nor batches.
        ValueError: there are no images, a batch has one image or values that are not finite, or the network has no
            batch norm or whole batch norms for subsets.

    Warns:
        UserWarning: the check failed, so that the subset keeps its former statistics.
    """
    with keep_modes(model):
        view = model if isinstance(model, Classifier) else Classifier(model)
        calibrate_classifier(view, images, channels, batch_size)
    for module in model.modules():
        if isinstance(module, SubsetBatchNorm):  # a new one, or one with new entries
            module.training = module.shared.training
            module.entries.train(module.shared.training)
    return model


def calibrate_classifier(model: Classifier, images: Any, channels: str | Sequence[str], batch_size: int) -> None:
    """See ``calibrate``."""
    kind = NORMS[model.spec.norm]
    if model.spec.norm != "shared" and not kind.own_statistics:
        able = " or ".join(name for name in NORMS if name == "shared" or NORMS[name].own_statistics)
        raise ValueError(
            f"a model with norm={model.spec.norm!r} has no statistics of one subset; calibrate takes norm {able}"
        )
    if not any(keeps_statistics(module) for module in model.modules()):
        raise ValueError(
            f"{type(model.backbone).__name__} has no batch norm that keeps statistics, so there is nothing to calibrate"
        )
    subset, full = model.channels.subset(channels), model.channels.full
    name = by_subset(subset)
    trial = copy.deepcopy(model).eval()
    add_entries(trial, [name])
    observers = [Observer(norm.entries[name], norm.choose(full)) for norm in subset_norms(trial).values()]
    device = next(trial.parameters()).device
    images = arrange_split(images, model, channels)
    held_out = []
    for number, batch in enumerate(as_batches(images, batch_size), start=1):
        if batch.shape[1] == len(full) > len(subset):
            kept = len(batch) // HELD_OUT if len(batch) >= LEAST_BATCH else 0
            shown, checked = batch.tensor_split([len(batch) - kept])
            held_out += [checked] if kept else []
            trial(shown.to(device), parts=[Part(each, 0, len(shown)) for each in (full, subset)])
        else:
            trial(batch.to(device), channels=channels)
        if not all(bool(found.isfinite().all()) for each in observers for found in (each.mean, each.variance)):
            raise ValueError(
                f"batch {number} of the images leads to values that are not finite; look for NaN or infinity in them"
            )
    before = disagreement(model, held_out, subset)
    add_entries(model, [name])
    norms = subset_norms(model).values()
    former = [[norm.entries[name].get_buffer(key).clone() for key in (*STATISTICS, COUNT)] for norm in norms]
    for norm, observer in zip(norms, observers, strict=True):
        if observer.batches:
            set_statistics(norm.entries[name], observer.mean, observer.variance, observer.batches)
    if held_out and not disagreement(model, held_out, subset) <= before:
        for norm, (mean, variance, batches) in zip(norms, former, strict=True):
            set_statistics(norm.entries[name], mean, variance, int(batches))
        which, count = ",".join(model.channels.names[i] for i in subset), sum(map(len, held_out))
        warnings.warn(
            f"recomputed statistics of {which} take its answers further from those to all channels on {count} held-out "
            "images, so it keeps its former ones",
            stacklevel=3,
        )


@torch.no_grad()
def disagreement(model: Classifier, batches: Sequence[Tensor], subset: Subset) -> float:
    """Mean KL(full || subset) between a network's answers to images (N, C, H, W) with all channels and with some.

    Of several labels an image, it is the sum over the labels. Leaves the network in evaluation mode.
    """
    device, total, count = next(model.parameters()).device, 0.0, 0
    model.eval()
    for batch in filter(len, batches):
        parts = [Part(each, 0, len(batch)) for each in (model.channels.full, subset)]
        logits = model(batch.to(device), parts=parts).float()
        if model.spec.thresholds is not None:
            logits = torch.stack([logits, torch.zeros_like(logits)], dim=1)
        known, found = logits.log_softmax(1).chunk(2)
        total, count = total + float((known.exp() * (known - found)).sum()), count + len(batch)
    return total / max(count, 1)


def arrange_split(images: Any, model: Classifier, channels: str | Sequence[str]) -> Any:
    """The images of a split with named channels, in the order that ``calibrate`` takes; anything else as it is."""
    held = getattr(images, "channels", None)
    if not isinstance(held, ChannelSet):
        return images
    whole = set(model.channels.names) <= set(held.names)
    return images.select(held.positions(model.channels.names if whole else channels)).images[:]


class Observer:
    """Averages a batch norm's statistics over batches, and makes it normalise each batch by the batch's own.

    ``norm`` is the subset's batch norm in evaluation mode, ``whole`` the full set's, which may be the same. If the same
    images pass with all channels in the same forward pass, the full set's running statistics are shifted by how the
    subset's differ from the full set's on these images, and each feature's variance is divided by its correlation with
    the full set's feature. So images unlike those that the network was trained on do no harm.
    """

    def __init__(self, norm: nn.Module, whole: nn.Module) -> None:
        self.source = whole
        self.whole: Tensor | None = None
        self.batches = 0
        self.values = 0
        self.mean = torch.zeros(())
        self.variance = torch.zeros(())
        norm.register_forward_pre_hook(self.observe)
        if whole is not norm:
            whole.register_forward_pre_hook(self.observe_whole)

    def observe_whole(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        """Keep the full set's features (B, F, ...)."""
        self.whole = inputs[0]

    def observe(self, norm: nn.Module, inputs: tuple[Tensor]) -> None:
        """Take the statistics of the subset's features (B, F, ...)."""
        own = at_least_float32(inputs[0])
        count = own.numel() // own.shape[1]
        if count < 2:
            raise ValueError(
                "a batch of one image leaves each feature of the network one value, which has no variance; give "
                "calibrate more images, in batches of two or more"
            )
        places = (0, *range(2, own.ndim))
        variance, mean = torch.var_mean(own, places, correction=0)
        correction = count / (count - 1)
        if self.whole is not None:
            other = at_least_float32(self.whole)
            other_variance, other_mean = torch.var_mean(other, places, correction=0)
            trained = self.source.get_buffer("running_var")
            least = LEAST_VARIANCE * trained + torch.finfo(torch.float32).tiny
            covariance = (own * other).mean(places) - mean * other_mean + least
            variance, other_variance = variance + least, other_variance + least
            correlation = (covariance / (variance * other_variance).sqrt()).clamp(LEAST_CORRELATION, 1)
            mean = self.source.get_buffer("running_mean") + mean - other_mean
            variance = trained * variance / other_variance / correlation
            self.whole, correction = None, 1.0
        self.batches += 1
        self.values += count
        self.mean = self.mean + (mean - self.mean) * (count / self.values)
        self.variance = self.variance + (variance * correction - self.variance) * (count / self.values)
        set_statistics(norm, mean, variance, self.batches)


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def set_statistics(norm: nn.Module, mean: Tensor, variance: Tensor, batches: int) -> None:
    """Set a batch norm's running statistics."""
    norm.get_buffer("running_mean").copy_(mean)
    norm.get_buffer("running_var").copy_(variance)
    norm.get_buffer("num_batches_tracked").fill_(batches)


def subset_norms(model: Classifier) -> dict[str, SubsetBatchNorm]:
    """A model's subset batch norms by path, in the same order for copies of the model."""
    found = model.backbone.named_modules()
    return {path: module for path, module in found if isinstance(module, SubsetBatchNorm)}


def as_batches(images: Any, batch_size: int) -> list[Tensor]:
    """Batches of one tensor's images, shuffled alike at every call, or the given batches."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if hasattr(images, "__array__"):
        given = torch.as_tensor(images)
        order = torch.randperm(len(given), generator=torch.Generator().manual_seed(0))
        count = -(-len(given) // batch_size)
        batches = [given[chosen] for chosen in torch.tensor_split(order, count)] if count else []
    else:
        found = list(images) if isinstance(images, Iterable) else [images]
        foreign = [type(batch).__name__ for batch in found if not hasattr(batch, "__array__")]
        if foreign:
            raise TypeError(
                f"calibrate takes images as a tensor (N, k, H, W), as batches of them, or as a split of loaded data, "
                f"not {foreign[0]}; of a split without names give its images: split.images"
            )
        batches = [torch.as_tensor(batch) for batch in found]
    if not batches:
        raise ValueError("calibrate needs images of the subset, got none")
    return batches


def add_entries(model: Classifier, names: Iterable[str]) -> None:
    """Give every batch norm statistics under each name, at first a copy of the shared ones."""
    names = list(names)
    if not names:
        return
    replace_norms(model.backbone, lambda norm: SubsetBatchNorm(norm, by_subset, tied=True))
    for norm in subset_norms(model).values():
        for name in names:
            norm.add(name)
    kind = NORMS[model.spec.norm]
    known = dict.fromkeys(name for name in [*model.spec.calibrated, *names] if name not in kind.entries(model.channels))
    model.spec = replace(model.spec, calibrated=tuple(known))


@torch.no_grad()
def copy_subset_statistics(old: Classifier, new: Classifier, known: Sequence[int | None]) -> None:
    """Copy the statistics of subsets of ``old`` to the same channels' subsets of ``new``, in place.

    ``known`` has for each channel of ``new`` its position in ``old``, or None. If every subset of ``new`` has
    statistics, a subset with new channels gets those of its known channels. Other subsets use the shared ones. Nothing
    is copied if subsets of ``old`` have whole batch norms, or no statistics; the norm of ``new`` is ``shared`` or
    ``statistics``.
    """
    norms = subset_norms(old)
    if not norms or not all(norm.tied for norm in norms.values()):
        return
    names = next(iter(norms.values())).entries
    places = {position: i for i, position in enumerate(known) if position is not None}
    sources: dict[str, str] = {}
    for name in names:
        before = [int(position) for position in name.split("_")]
        if all(position in places for position in before):
            sources[by_subset(tuple(sorted(places[position] for position in before)))] = name
    if NORMS[new.spec.norm].own_statistics:
        for subset in new.channels.group_subsets():
            part: Subset = tuple(sorted(position for i in subset if (position := known[i]) is not None))
            if by_subset(part) in names:
                sources[by_subset(subset)] = by_subset(part)
    sources.pop(by_subset(new.channels.full), None)
    add_entries(new, sources)
    mine = subset_norms(new)
    for path, norm in norms.items():
        for name, source in sources.items():
            for key, value in norm.entries[source].named_buffers():
                mine[path].entries[name].get_buffer(key).copy_(value)
