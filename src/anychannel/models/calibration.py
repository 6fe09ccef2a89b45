"""Batch norm statistics for one subset, from unlabelled images.

A network that never saw a subset in training normalises it with statistics of other pictures. Recomputing them on a
few hundred images of that subset, without labels and without changing a weight, repairs much of the harm (for
corruptions: Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation",
NeurIPS 2020, https://arxiv.org/abs/2006.16971).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.models.classifier import Classifier
from anychannel.norms import NORMS, NormBank, by_subset, replace_norms


@torch.no_grad()
def calibrate(
    model: Classifier, images: Tensor | Iterable[Tensor], channels: str | Sequence[str], *, batch_size: int = 256
) -> Classifier:
    """Give a subset batch norm statistics of its own, in place; other subsets keep theirs.

    Args:
        model: a trained classifier; its norm is ``shared``, or one that gives each subset statistics of its own.
        images: unlabelled images that hold just ``channels``, in that order: one tensor (N, k, H, W), or batches.
            Some hundred are enough. A tensor may be sorted by class; batches of your own are to be random mixtures, for
            the statistics are averages over batches.
        channels: names of the subset's channels.
        batch_size: images a forward pass where one tensor is given.

    Returns:
        The same model.

    Raises:
        ChannelError: a name is unknown, or the images hold another number of channels.
        ValueError: there are no images, or the network has norm banks of another kind or no batch norm.
    """
    kind = NORMS[model.spec.norm]
    if model.spec.norm != "shared" and not kind.own_statistics:
        able = " or ".join(name for name in NORMS if name == "shared" or NORMS[name].own_statistics)
        raise ValueError(
            f"a model with norm={model.spec.norm!r} has no statistics of one subset; calibrate takes norm {able}"
        )
    name = by_subset(model.channels.subset(channels))
    batches = mixed(images, batch_size) if isinstance(images, Tensor) else list(images)
    if not batches:
        raise ValueError("calibrate needs images of the subset, got none")
    add_entries(model, [name])
    entries = [bank.entries[name] for bank in model.modules() if isinstance(bank, NormBank)]
    momenta = [float(entry.momentum or 0.1) for entry in entries if isinstance(entry, _BatchNorm)]
    training = model.training
    model.eval()
    for entry in entries:
        assert isinstance(entry, _BatchNorm)
        entry.reset_running_stats()
        entry.momentum = None  # a plain average over all batches
        entry.train()
    device = next(model.parameters()).device
    try:
        for batch in batches:
            model(batch.to(device), channels=channels)
    finally:
        for entry, momentum in zip(entries, momenta, strict=True):
            entry.momentum = momentum  # type: ignore[assignment]
        model.train(training)
    return model


def mixed(images: Tensor, batch_size: int) -> list[Tensor]:
    """Batches in an order of chance, the same at every call, so that images sorted by class make no difference."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    count = -(-len(images) // batch_size)
    return [images[chosen] for chosen in torch.tensor_split(order, count)] if count else []


def add_entries(model: Classifier, names: Sequence[str]) -> None:
    """Make sure that every batch norm has an entry of each name, starting as a copy of the shared one."""
    replace_norms(model.backbone, lambda norm: NormBank(norm, by_subset, tied=True))
    for bank in model.modules():
        if isinstance(bank, NormBank):
            for name in names:
                bank.add(name)
    kind = NORMS[model.spec.norm]
    known = dict.fromkeys(name for name in [*model.spec.calibrated, *names] if name not in kind.entries(model.channels))
    model.spec = replace(model.spec, calibrated=tuple(known))
