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

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from anychannel.models.classifier import Classifier
from anychannel.norms import NORMS, NormBank, by_subset, replace_norms
from anychannel.samplers import Part

LEAST_CORRELATION = 0.05
"""A feature that goes along with the full set's less than this, or against it, counts as this."""


@torch.no_grad()
def calibrate(
    model: Classifier, images: Tensor | Iterable[Tensor], channels: str | Sequence[str], *, batch_size: int = 256
) -> Classifier:
    """Give a subset batch norm statistics of its own, in place; other subsets keep theirs.

    Args:
        model: a trained classifier; its norm is ``shared``, or one that gives each subset statistics of its own.
        images: unlabelled images: one tensor (N, k, H, W), or batches, that hold just ``channels``, in that order; or
            all of the model's channels in the model's order, (N, C, H, W), which does better on channels that predict
            each other. Some hundred are enough. A tensor may be sorted by class; batches of your own are to be random
            mixtures, for the statistics are averages over batches.
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
    subset = model.channels.subset(channels)
    name = by_subset(subset)
    batches = mixed(images, batch_size) if isinstance(images, Tensor) else list(images)
    if not batches:
        raise ValueError("calibrate needs images of the subset, got none")
    add_entries(model, [name])
    banks = [bank for bank in model.modules() if isinstance(bank, NormBank)]
    entries = [bank.entries[name] for bank in banks]
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
            if batch.shape[1] == len(model.channels) > len(subset):
                with paired(banks, name):
                    parts = [Part(shown, 0, len(batch)) for shown in (model.channels.full, subset)]
                    model(batch.to(device), parts=parts)
            else:
                model(batch.to(device), channels=channels)
    finally:
        for entry, momentum in zip(entries, momenta, strict=True):
            entry.momentum = momentum  # type: ignore[assignment]
        model.train(training)
    return model


class PairedNorm(nn.Module):
    """Stands in for a subset's batch norm while the same images pass with all channels and with the subset's.

    Args:
        entry: the subset's batch norm; its running statistics become averages over the batches.
    """

    def __init__(self, entry: _BatchNorm) -> None:
        super().__init__()
        self.entry = entry
        self.whole: Tensor | None = None

    def see_whole(self, module: nn.Module, inputs: tuple[Tensor]) -> None:  # noqa: ARG002 - a hook's signature
        """Keep what the same images are with all channels."""
        self.whole = inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W): normalise by the batch's mean, and its variance divided by each feature's correlation."""
        entry, whole = self.entry, self.whole
        assert whole is not None
        assert entry.running_mean is not None
        assert entry.running_var is not None
        assert entry.num_batches_tracked is not None
        places = (0, *range(2, x.ndim))
        own, other = x.float(), whole.float()
        variance, mean = torch.var_mean(own, places, correction=0)
        other_variance, other_mean = torch.var_mean(other, places, correction=0)
        shared = (own * other).mean(places) - mean * other_mean
        correlation = shared / (variance * other_variance).clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        damped = variance / correlation.clamp(min=LEAST_CORRELATION, max=1)
        entry.num_batches_tracked += 1
        count = x.numel() / x.shape[1]
        unbiased = damped * count / max(count - 1, 1)
        for running, new in ((entry.running_mean, mean), (entry.running_var, unbiased)):
            running += (new - running) / entry.num_batches_tracked
        return F.batch_norm(x, mean, damped, entry.weight, entry.bias, False, 0.0, entry.eps)


@contextmanager
def paired(banks: Sequence[NormBank], name: str) -> Iterator[None]:
    """Put a ``PairedNorm`` in the place of each bank's entry inside the block."""
    placed = []
    try:
        for bank in banks:
            entry = bank.entries[name]
            assert isinstance(entry, _BatchNorm)
            bank.entries[name] = standing = PairedNorm(entry)
            placed.append((bank, entry, bank.shared.register_forward_pre_hook(standing.see_whole)))
        yield
    finally:
        for bank, entry, hook in placed:
            hook.remove()
            bank.entries[name] = entry


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
