"""Probabilities beside the logits of an exported graph: with the model's temperatures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anychannel.nn.classifier import Classifier
from anychannel.nn.outputs import logits_of
from anychannel.nn.temperatures import Temperatures, temperature_of


class Logits(nn.Module):
    """A network of one subset that gives the logits alone, also where it gives a dictionary or a tuple."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) images -> (B, K) logits."""
        return logits_of(self.network(images))


class WithProbabilities(nn.Module):
    """A graph of logits that gives (logits, probabilities), both (B, K).

    Probabilities are softmax(logits / temperature), with the temperature of the subset, or sigmoid(logits) if an image
    may have several labels. They equal those of ``predict``.

    Args:
        module: takes images of one subset, or images and the vector of the present channels.
        model: the model, whose temperatures are used.
        names: the images' channels.
        any_subset: whether ``module`` takes the vector.
    """

    sizes: Tensor
    keys: Tensor
    values: Tensor

    def __init__(self, module: nn.Module, model: Classifier, names: Sequence[str], *, any_subset: bool) -> None:
        super().__init__()
        self.module = module
        self.several = model.spec.thresholds is not None
        known, channels = model.spec.temperatures or Temperatures((1.0,)), model.channels.names
        own = {} if not any_subset else known.subsets
        of_sizes = [known.sizes[min(size, len(known.sizes)) - 1] for size in range(1, len(channels) + 1)]
        alone = [temperature_of(model, names)]
        keys = [[name in key.split(",") for name in channels] for key in own]
        self.register_buffer("sizes", torch.tensor(of_sizes if any_subset else alone))
        self.register_buffer("keys", torch.tensor(keys, dtype=torch.bool).view(len(own), len(channels)))
        self.register_buffer("values", torch.tensor(list(own.values())))

    def forward(self, images: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images and, for any subset, (C,) bools -> logits and probabilities."""
        logits = self.module(images) if present is None else self.module(images, present)
        return logits, logits.sigmoid() if self.several else (logits / self.temperature(present)).softmax(1)

    def temperature(self, present: Tensor | None) -> Tensor:
        """The subset's own temperature, or that of its number of channels."""
        if present is None:
            return self.sizes
        found = self.sizes.index_select(0, (present.sum() - 1).clamp(min=0).view(1))
        if not len(self.keys):
            return found
        own = (self.keys == present).all(1)
        return torch.where(own.any(), (own * self.values).sum(), found)
