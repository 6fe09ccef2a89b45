"""Batch norm statistics for one subset, from unlabelled images.

A network that never saw a subset in training normalises it with statistics of other pictures. Recomputing them on a
few hundred images of that subset, without labels and without changing a weight, repairs much of the harm (for
corruptions: Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation",
NeurIPS 2020, https://arxiv.org/abs/2006.16971).

Images that hold all channels tell more: how far each feature of the subset goes along with the same feature of the full
set. One that does not is noise to the layers after it, and its best linear estimate is its mean. So a feature's
deviation from the mean is scaled by the square root of its correlation r with the full set's, which is half way, on a
logarithmic scale, to the least squares estimate (r itself; on photographs half way was better, docs/LOG.md). It is
written into the statistics, the variance being divided by r, and costs nothing afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.nn.channel_sampling import Part
from anychannel.nn.classifier import Classifier
from anychannel.nn.subset_batchnorm import NORMS, SubsetBatchNorm, by_subset, keeps_statistics, replace_norms

LEAST_CORRELATION = 0.05
"""A feature that goes along with the full set's less than this, or against it, counts as this."""

Images = Tensor | np.ndarray


@torch.no_grad()
def calibrate(
    model: Classifier, images: Images | Iterable[Images], channels: str | Sequence[str], *, batch_size: int = 256
) -> Classifier:
    """Give a subset batch norm statistics of its own, in place; other subsets keep theirs.

    They are gathered on a copy, so that a model whose calibration fails is left as it was. It helps where training did
    not show the subset. A network that training did show it, under one batch norm for all (``shared``), has learned
    with the statistics of the mixture and loses by others: 14 points on single ones of eight bands (docs/LOG.md).

    Args:
        model: a trained classifier; its norm is ``shared``, or one that gives each subset statistics of its own.
        images: unlabelled images: one tensor (N, k, H, W), or batches, that hold just ``channels``, in that order; or
            all of the model's channels in the model's order, (N, C, H, W), which does better on channels that predict
            each other. Some hundred are enough. A tensor may be sorted by class; batches of your own are to be random
            mixtures, for each is normalised by its own statistics; their averages are kept, weighted by images.
        channels: names of the subset's channels.
        batch_size: images a forward pass where one tensor is given.

    Returns:
        The same model.

    Raises:
        ChannelError: a name is unknown, or the images hold another number of channels.
        TypeError: the images are neither a tensor nor batches.
        ValueError: there are no images, a batch is too small to have a variance or holds values that are not finite,
            or the network has norm banks of another kind or no batch norm.
    """
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
    subset = model.channels.subset(channels)
    full = model.channels.full
    batches = as_batches(images, batch_size)
    trial = copy.deepcopy(model)
    observers = observe(trial, by_subset(subset), full)
    trial.eval()
    device = next(trial.parameters()).device
    for number, batch in enumerate(batches, start=1):
        if batch.shape[1] == len(full) > len(subset):
            parts = [Part(shown, 0, len(batch)) for shown in (full, subset)]
            trial(batch.to(device), parts=parts)
        else:
            trial(batch.to(device), channels=channels)
        if not all(observer.is_finite() for observer in observers):
            raise ValueError(
                f"batch {number} of the images leads to values that are not finite; look for NaN or infinity in them"
            )
    add_entries(model, [by_subset(subset)])
    for bank, observer in zip(banks_of(model), observers, strict=True):
        observer.write(bank.entries[by_subset(subset)])
    return model


class ObservingNorm(nn.Module):
    """Stands in for a subset's batch norm and gathers its statistics.

    It normalises by the batch's own mean and variance, and a batch counts by its images. Where the same images pass
    with all channels in the same forward pass, the variance is divided by each feature's correlation with the full
    set's.

    Args:
        entry: the subset's batch norm; what else it does (a timm one may hold its activation) is left to it.
    """

    def __init__(self, entry: _BatchNorm) -> None:
        super().__init__()
        self.entry = entry
        self.whole: Tensor | None = None
        self.batches = 0
        self.values = 0
        self.mean = torch.zeros(())
        self.variance = torch.zeros(())

    def see_whole(self, module: nn.Module, inputs: tuple[Tensor]) -> None:  # noqa: ARG002 - a hook's signature
        """Keep what the same images are with all channels."""
        self.whole = inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, ...) -> (B, F, ...).

        Raises:
            ValueError: there is one value a feature.
        """
        count = x.numel() // x.shape[1]
        if count < 2:
            raise ValueError(
                "a batch of one image leaves each feature of the network one value, which has no variance; give "
                "calibrate more images, in batches of two or more"
            )
        places = (0, *range(2, x.ndim))
        own = at_least_float32(x)
        variance, mean = torch.var_mean(own, places, correction=0)
        if self.whole is not None:
            together = correlation(own, mean, variance, at_least_float32(self.whole), places)
            variance = variance / together.clamp(LEAST_CORRELATION, 1)
            self.whole = None
        self.batches += 1
        self.values += count
        own_share = count / self.values
        self.mean = self.mean + (mean - self.mean) * own_share
        self.variance = self.variance + (variance * (count / (count - 1)) - self.variance) * own_share
        set_statistics(self.entry, mean, variance)
        normalised: Tensor = self.entry(x)
        return normalised

    def is_finite(self) -> bool:
        """Whether all of its figures are numbers so far."""
        return all(bool(figure.isfinite().all()) for figure in (self.mean, self.variance))

    def write(self, norm: nn.Module) -> None:
        """Give a batch norm the averages over the batches' images, if it met any."""
        assert isinstance(norm, _BatchNorm)
        if self.batches:
            set_statistics(norm, self.mean, self.variance)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.fill_(self.batches)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, others as they are."""
    return x if x.dtype == torch.float64 else x.float()


def correlation(own: Tensor, mean: Tensor, variance: Tensor, other: Tensor, places: tuple[int, ...]) -> Tensor:
    """Of each feature's values, whose moments over ``places`` are given, with those of another tensor: (F,)."""
    other_variance, other_mean = torch.var_mean(other, places, correction=0)
    shared = (own * other).mean(places) - mean * other_mean
    return shared / (variance * other_variance).clamp(min=torch.finfo(torch.float32).tiny).sqrt()


def set_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """What a batch norm normalises by in evaluation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def banks_of(model: Classifier) -> list[SubsetBatchNorm]:
    """A model's norm banks, in an order that copies of it share."""
    return [module for module in model.modules() if isinstance(module, SubsetBatchNorm)]


def observe(model: Classifier, name: str, full: tuple[int, ...]) -> list[ObservingNorm]:
    """Put an observing norm in the place of each bank's entry; returns them in the banks' order."""
    add_entries(model, [name])
    observers = []
    for bank in banks_of(model):
        entry, whole = bank.entries[name], bank.choose(full)
        assert isinstance(entry, _BatchNorm)
        observer = ObservingNorm(entry)
        if whole is not entry:
            whole.register_forward_pre_hook(observer.see_whole)
        bank.entries[name] = observer
        observers.append(observer)
    return observers


def as_batches(images: Images | Iterable[Images], batch_size: int) -> list[Tensor]:
    """One tensor's images in random batches, or the batches that are given.

    Raises:
        TypeError: the images are neither.
        ValueError: there are none, or ``batch_size`` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(images, Images):
        batches = mixed(torch.as_tensor(images), batch_size)
    else:
        given = list(images) if isinstance(images, Iterable) else [images]
        foreign = [type(batch).__name__ for batch in given if not isinstance(batch, Images)]
        if foreign:
            raise TypeError(
                f"calibrate takes images as a tensor (N, k, H, W) or as batches of them, not {foreign[0]}; of a data "
                "set's part give its images: data.train.images"
            )
        batches = [torch.as_tensor(batch) for batch in given]
    if not batches:
        raise ValueError("calibrate needs images of the subset, got none")
    return batches


def mixed(images: Tensor, batch_size: int) -> list[Tensor]:
    """Batches in an order of chance, the same at every call, so that images sorted by class make no difference."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    count = -(-len(images) // batch_size)
    return [images[chosen] for chosen in torch.tensor_split(order, count)] if count else []


def add_entries(model: Classifier, names: Sequence[str]) -> None:
    """Make sure that every batch norm has an entry of each name, starting as a copy of the shared one."""
    replace_norms(model.backbone, lambda norm: SubsetBatchNorm(norm, by_subset, tied=True))
    for bank in model.modules():
        if isinstance(bank, SubsetBatchNorm):
            for name in names:
                bank.add(name)
    kind = NORMS[model.spec.norm]
    known = dict.fromkeys(name for name in [*model.spec.calibrated, *names] if name not in kind.entries(model.channels))
    model.spec = replace(model.spec, calibrated=tuple(known))
