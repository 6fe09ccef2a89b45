"""Classifier = stem + backbone, with the channels that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.models.hub import HubClassifier
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.channel_sampling import Part
from anychannel.nn.normalisation import Normalisation
from anychannel.nn.stems import Stem
from anychannel.nn.subset_context import subset_context


@dataclass(frozen=True)
class ModelSpec:
    """What rebuilds a network: flat values that JSON can hold.

    Args:
        model, num_classes, stem, stem_options, model_options, classes, norm: see ``create_model``.
        calibrated: subsets with batch norm statistics of their own.
        first_conv: path of the convolution that the stem replaces; None looks for it.
        in_chans: channels that the network is built for before the stem takes over; None means as many as it has.
        normalisation: how images are normalised; None means by the channels' own statistics.
    """

    model: str
    num_classes: int
    stem: str
    stem_options: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    norm: str = "shared"
    calibrated: tuple[str, ...] = ()
    first_conv: str | None = None
    in_chans: int | None = None
    normalisation: Normalisation | None = None


class Classifier(nn.Module, HubClassifier):
    """An image classifier that takes any subset of its channels, by name.

    Made by ``create_model``; holds the channels' names, order, mean and standard deviation and normalises images
    itself, so that images are always given in the files' own units.

    Args:
        backbone: a network whose first convolution is a ``AdaptiveConv2d``.
        channels: the full set.
        spec: what rebuilds the network.

    Raises:
        ChannelError: the number of channels is not the stem's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, channels: ChannelSet, spec: ModelSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        if len(channels) != self.stem.in_chans:
            raise ChannelError(f"the stem has {self.stem.in_chans} input channels, got {list(channels.names)}")
        self._channels = channels
        like = next(backbone.parameters())
        for name, values in zip(("mean", "std"), self.exact_statistics(), strict=True):
            self.register_buffer(name, values.to(like), persistent=False)

    @property
    def stem(self) -> Stem:
        """The stem, where the backbone's first convolution was."""
        for module in self.backbone.modules():
            if isinstance(module, AdaptiveConv2d):
                return module.stem
        raise RuntimeError("the backbone holds no stem")

    @property
    def channels(self) -> ChannelSet:
        """The full set of channels, with their statistics."""
        return self._channels

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, None where they were never given."""
        return self.spec.classes

    def exact_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that images are normalised by, (1, C, 1, 1), in no less than float32.

        Half precision would round them, and has no number as large as some of 16 bits.
        """
        like = next(self.backbone.parameters())
        used = self.spec.normalisation or Normalisation.of(self._channels)
        kind = torch.promote_types(like.dtype, torch.float32)
        mean, std = (torch.tensor(values, dtype=kind, device=like.device) for values in (used.mean, used.std))
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def forward(
        self,
        images: Tensor,
        channels: ChannelSet | str | Sequence[str] | None = None,
        *,
        parts: Sequence[Part] | None = None,
    ) -> Tensor:
        """Logits of a batch.

        Args:
            images: (B, k, H, W), integers or floats in the files' own units, holding just ``channels``, in that
                order. A channel that is black is given as zeros; a missing channel is not given.
            channels: names of the channels that the images hold; None means the full set in its order.
            parts: for training: the images hold the full set, in its order, and each part of the batch shows a subset
                of it.

        Returns:
            (B, num_classes); with ``parts``, one row an image of each part, in the parts' order.

        Raises:
            ChannelError: a name is unknown or repeats, the images hold another number of channels, or ``parts`` come
                with other channels than the full set in its order.
            TypeError: the images are no tensor.
        """
        if not isinstance(images, Tensor):
            raise TypeError(
                f"images are a torch tensor (batch, channels, height, width), got {type(images).__name__}; of an array "
                "give torch.from_numpy(images)"
            )
        positions = self._channels.positions(channels)
        if images.ndim != 4 or images.shape[1] != len(positions):
            names = ", ".join(self._channels.names[i] for i in positions)
            raise ChannelError(
                f"images of shape {tuple(images.shape)} given for {len(positions)} channels ({names}); expected "
                f"(batch, {len(positions)}, height, width) with one plane for each of them"
            )
        if parts is None:
            order = sorted(range(len(positions)), key=positions.__getitem__)
            if order != list(range(len(order))):
                images = images[:, order]
            subset = tuple(positions[i] for i in order)
            parts = [Part(subset, 0, len(images))]
        elif positions != self._channels.full:
            raise ChannelError(
                f"parts are of images that hold all channels in the model's order, {', '.join(self._channels.names)}; "
                "bring the images into it and leave channels out"
            )
        else:
            subset = positions
        normalised = self.normalise(images, subset)
        with subset_context(parts):
            logits: Tensor = self.backbone(normalised)
        return logits

    def specialize(self, channels: ChannelSet | str | Sequence[str]) -> nn.Module:
        """A plain PyTorch module for one subset; see ``anychannel.nn.specialize``."""
        from anychannel.nn.specialize import specialize

        return specialize(self, channels)

    def normalise(self, images: Tensor, subset: Sequence[int]) -> Tensor:
        """(x - mean) / std for each channel of ``subset``; keeps the memory format, gives the weights' float type."""
        if self.mean.dtype in (torch.float16, torch.bfloat16):
            mean, std = (values[:, list(subset)] for values in self.exact_statistics())
            return ((images.to(mean.dtype) - mean) / std).to(self.mean.dtype)
        if len(subset) == self.mean.shape[1] and list(subset) == list(range(len(subset))):
            mean, std = self.mean, self.std
        else:
            mean, std = self.mean[:, list(subset)], self.std[:, list(subset)]
        return (images.to(mean.dtype) - mean) / std
