"""What ``calibrate`` and ``specialize`` come to, written out: statistics by definition, nothing folded."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from anychannel.models import Classifier
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.subset_batchnorm import SubsetBatchNorm
from tests.reference.stems import TWINS


class LiteralNorm(nn.Module):
    """A batch norm channel by channel: with the batch's own statistics, which it writes down, or with given ones.

    With a partner, which met the same images with all channels just before, the partner's given statistics are shifted
    by how its own differ from the partner's, and the variance is divided by each channel's correlation with the
    partner's.
    """

    def __init__(self, norm: nn.BatchNorm2d, *, own: bool) -> None:
        super().__init__()
        self.norm, self.own = norm, own
        self.met: list[tuple[list[float], list[float]]] = []
        self.seen: Tensor | None = None
        self.partner: list[LiteralNorm] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        planes, means, variances = [], [], []
        for channel in range(x.shape[1]):
            values = x[:, channel]
            if self.own:
                mean = values.sum() / values.numel()
                spread = ((values - mean) ** 2).sum()
                centred, variance = values - mean, spread / values.numel()
                unbiased = spread / (values.numel() - 1)  # as running statistics are
                for partner in self.partner:
                    other = partner.seen[:, channel]
                    trained = partner.norm.running_var[channel]
                    mine, theirs = variance + trained / 1000, other.var(correction=0) + trained / 1000
                    together = (centred * (other - other.mean())).mean() + trained / 1000
                    correlation = together / torch.sqrt(mine * theirs)
                    mean = partner.norm.running_mean[channel] + mean - other.mean()
                    unbiased = variance = trained * mine / theirs / max(float(correlation), 0.05)
                means.append(float(mean))
                variances.append(float(unbiased))
            else:
                mean, variance = self.norm.running_mean[channel], self.norm.running_var[channel]
            standard = (values - mean) / torch.sqrt(variance + self.norm.eps)
            planes.append(standard * self.norm.weight[channel] + self.norm.bias[channel])
        self.met.append((means, variances))
        return torch.stack(planes, dim=1)


def is_literal(module: nn.Module) -> bool:
    return isinstance(module, LiteralNorm)


def take_apart(model: Classifier, subset: tuple[int, ...], *, own: bool) -> nn.Module:
    """The backbone with the stem's literal twin and literal norms in place; a bank gives the subset's own norm."""
    backbone = copy.deepcopy(model.backbone).eval()
    banks = [path for path, module in backbone.named_modules() if isinstance(module, SubsetBatchNorm)]
    for path, module in list(backbone.named_modules()):
        parent, _, attribute = path.rpartition(".")
        if any(path.startswith(f"{bank}.") for bank in banks):
            continue
        if isinstance(module, AdaptiveConv2d):
            setattr(backbone.get_submodule(parent), attribute, LiteralStem(module.stem, model.spec.stem, subset))
        elif isinstance(module, SubsetBatchNorm):
            setattr(backbone.get_submodule(parent), attribute, LiteralNorm(module.choose(subset), own=own))
        elif isinstance(module, nn.BatchNorm2d):
            setattr(backbone.get_submodule(parent), attribute, LiteralNorm(module, own=own))
    return backbone


class LiteralStem(nn.Module):
    """A stem's twin, for one subset."""

    def __init__(self, stem: nn.Module, name: str, subset: tuple[int, ...]) -> None:
        super().__init__()
        self.stem, self.twin, self.subset = stem, TWINS[name], subset

    def forward(self, images: Tensor) -> Tensor:
        return self.twin(self.stem, images, self.subset)


def normalise(model: Classifier, images: Tensor, channels: str) -> tuple[Tensor, tuple[int, ...]]:
    """Planes in the model's order, each by its own mean and standard deviation, and the subset that they are."""
    names = channels.split(",")
    subset = tuple(i for i, name in enumerate(model.channels.names) if name in names)
    planes = []
    for position in subset:
        plane = images[:, names.index(model.channels.names[position])].float()
        planes.append((plane - model.channels.mean[position]) / model.channels.std[position])
    return torch.stack(planes, dim=1), subset


def calibrated_statistics(
    model: Classifier, batches: list[Tensor], channels: str, *, whole: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """For each batch norm, in the network's order, the mean over images of the statistics that their batches have.

    ``whole``: the images hold all channels, and the statistics are those of norms with partners.
    """
    subset = tuple(i for i, name in enumerate(model.channels.names) if name in channels.split(","))
    backbone = take_apart(model, subset, own=True)
    full = take_apart(model, model.channels.full, own=False)
    if whole:
        for norm, partner in zip(*(filter(is_literal, network.modules()) for network in (backbone, full)), strict=True):
            norm.partner.append(partner)
    with torch.no_grad():
        for batch in batches:
            shown = batch
            if whole:
                full(normalise(model, batch, ",".join(model.channels.names))[0])
                shown = batch[:, [model.channels.names.index(name) for name in channels.split(",")]]
            backbone(normalise(model, shown, channels)[0])
    found = []
    for module in backbone.modules():
        if isinstance(module, LiteralNorm):
            shares = [len(batch) / sum(map(len, batches)) for batch in batches]
            means, variances = (
                [
                    sum(share * value for share, value in zip(shares, values, strict=True))
                    for values in zip(*met, strict=True)
                ]
                for met in zip(*module.met, strict=True)
            )
            found.append((torch.tensor(means), torch.tensor(variances)))
    return found


def specialised(model: Classifier, images: Tensor, channels: str) -> Tensor:
    """Logits for one subset, layer by layer, nothing folded into anything."""
    shown, subset = normalise(model, images, channels)
    return take_apart(model, subset, own=False)(shown)
