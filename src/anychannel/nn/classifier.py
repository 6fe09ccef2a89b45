"""Classifier = stem + backbone, with the channels that it knows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.channel_sampling import Part
from anychannel.nn.input_range import InputRange, has_values
from anychannel.nn.module_utils import Float32Buffers
from anychannel.nn.normalisation import Normalisation, moments
from anychannel.nn.specialize import specialize_backbone
from anychannel.nn.stems import Stem
from anychannel.nn.subset_batchnorm import NORMS
from anychannel.nn.subset_context import subset_context


@dataclass(frozen=True)
class ModelSpec:
    """What rebuilds a network: flat values that JSON can hold, most of them as ``create_model`` takes them.

    Args:
        calibrated: subsets with batch norm statistics of their own.
        first_conv: path of the convolution that the stem replaces; None searches for it.
        in_chans: number of channels that the network is built for before it gets the stem; None means the model's.
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


class Classifier(Float32Buffers):
    """An image classifier that takes any subset of its channels, by name; ``create_model`` makes one.

    It has the channels' names, order, mean and standard deviation, and normalises images itself, so images are always
    in the files' own units. All of these are buffers: a state dict has everything that changes a logit, and
    ``load_state_dict`` refuses one with other channel names.

    Args:
        backbone: a network whose first convolution is an ``AdaptiveConv2d``.
        channels: the full set.
        spec: what rebuilds the network.

    Raises:
        ChannelError: the number of channels is not the stem's.
    """

    mean: Tensor
    std: Tensor
    channel_names: Tensor
    channel_mean: Tensor
    channel_std: Tensor
    channel_correlation: Tensor

    def __init__(self, backbone: nn.Module, channels: ChannelSet, spec: ModelSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        if len(channels) != self.stem.in_chans:
            raise ChannelError(f"the stem has {self.stem.in_chans} input channels, got {list(channels.names)}")
        self._channels = channels
        self.input_range = InputRange()
        like = next(backbone.parameters())
        for name, values in self.statistics().items():
            kind = torch.promote_types(like.dtype, torch.float32) if values.is_floating_point() else values.dtype
            self.register_buffer(name, values.to(like.device, kind))

    def statistics(self) -> dict[str, Tensor]:
        """The buffers, from the channels' names and statistics.

        ``mean`` and ``std`` normalise images; ``channel_mean``, ``channel_std`` and ``channel_correlation`` are those
        of the training pixels, the last all zeros if it was never measured. ``channel_names`` are joined by commas.
        ``channel_groups``, JSON, is there only if channels have groups.
        """
        channels = self._channels
        used = self.spec.normalisation or Normalisation.of(channels)
        correlation = channels.correlation or ((0.0,) * len(channels),) * len(channels)
        groups = torch.tensor(list(json.dumps(channels.members).encode()), dtype=torch.uint8)
        return {
            "mean": torch.tensor(used.mean, dtype=torch.float64).view(1, -1, 1, 1),
            "std": torch.tensor(used.std, dtype=torch.float64).view(1, -1, 1, 1),
            "channel_names": torch.tensor(list(",".join(channels.names).encode()), dtype=torch.uint8),
            "channel_mean": torch.tensor(channels.mean, dtype=torch.float64),
            "channel_std": torch.tensor(channels.std, dtype=torch.float64),
            "channel_correlation": torch.tensor(correlation, dtype=torch.float64),
            **({"channel_groups": groups} if channels.members else {}),
        }

    def measured_names(self) -> list[str]:
        """Names of this module's and the stem's buffers in a state dict; another program's may have weights alone."""
        stems = [
            path for path, module in self.named_modules(remove_duplicate=False) if isinstance(module, AdaptiveConv2d)
        ]
        stem = [name for name, _ in self.stem.named_buffers(recurse=False)]
        return [*self._buffers, *(f"{path}.stem.{name}" for path in stems for name in stem)]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``nn.Module`` does; also from a checkpoint's ``state_dict``, and with a wrapper's prefix on each name.

        DistributedDataParallel writes ``module.``, ``torch.compile`` ``_orig_mod.``, Lightning the attribute's name.
        """
        given = state_dict.get("state_dict", state_dict)
        first = next(name for name, _ in self.named_parameters())
        prefixes = [name.removesuffix(first) for name in given if f".{name}".endswith(f".{first}")]
        prefix = min(prefixes, key=len, default="")
        if prefix:
            given = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
        return super().load_state_dict(given, strict, assign)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load a state dict of the same channels, and adopt its statistics; without them the model keeps its own."""
        names = state_dict.get(f"{prefix}channel_names")
        if names is not None and bytes(names.tolist()) != bytes(self.channel_names.tolist()):
            theirs = bytes(names.tolist()).decode(errors="replace")
            raise ChannelError(
                f"the state dict is of a model with the channels {theirs}, and this model's are "
                f"{','.join(self._channels.names)}; create the model with the same names in the same order, or give a "
                "trained network other channels with adapt()"
            )
        self.adopt_groups(state_dict, f"{prefix}channel_groups")
        missing = [name for name in self.measured_names() if prefix + name not in state_dict]
        if missing:
            warnings.warn(
                f"the state dict lacks {', '.join(missing)}; the model keeps its own, and answers rightly only if "
                "these belong to the weights",
                stacklevel=4,
            )
            own = self.state_dict()
            state_dict.update({prefix + name: own[name] for name in missing})
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.adopt_statistics()

    def adopt_groups(self, state_dict: dict[str, Any], name: str) -> None:
        """Take the groups of a state dict; a state dict without them gets the model's own.

        Raises:
            ChannelError: the model has batch norms for the subsets of other groups.
        """
        own = self._buffers.get("channel_groups")
        if name not in state_dict:
            state_dict |= {} if own is None else {name: own}
            return
        text = bytes(state_dict[name].tolist())
        if own is not None and text == bytes(own.tolist()):
            return
        channels = self._channels.with_groups(json.loads(text))
        if NORMS[self.spec.norm].key is not None:
            raise ChannelError(
                f"the state dict is of a model with the groups {', '.join(channels.members)}, and this model's are "
                f"{', '.join(self._channels.members) or 'none'}; create the model with the same groups: "
                f"channels=ChannelSet(names, groups={channels.members})"
            )
        self._channels = channels
        self.register_buffer("channel_groups", state_dict[name].clone().to(self.channel_names.device))

    def adopt_statistics(self) -> None:
        """Make the buffers' statistics those of ``channels`` and ``spec``."""
        if all(
            torch.equal(values.to(self.get_buffer(name)), self.get_buffer(name))
            for name, values in self.statistics().items()
        ):
            return
        correlation = self.channel_correlation.tolist() if self.channel_correlation.any() else None
        self._channels = self._channels.with_statistics(
            self.channel_mean.tolist(), self.channel_std.tolist(), correlation
        )
        used = Normalisation(tuple(self.mean.flatten().tolist()), tuple(self.std.flatten().tolist()))
        self.spec = replace(self.spec, normalisation=None if used == Normalisation.of(self._channels) else used)

    @torch.no_grad()
    def measure(self, channels: ChannelSet) -> None:
        """Take measured statistics of the same channels, in place: images are normalised by them from now on."""
        self._channels = self._channels.with_statistics(channels.mean, channels.std, channels.correlation)
        self.spec = replace(self.spec, normalisation=None)
        for name, values in self.statistics().items():
            self.get_buffer(name).copy_(values)
        self.stem.measure(**moments(self._channels, None))

    @property
    def stem(self) -> Stem:
        """The stem, where the backbone's first convolution was."""
        for module in self.backbone.modules():
            if isinstance(module, AdaptiveConv2d):
                return module.stem
        raise RuntimeError("the backbone holds no stem")

    @property
    def channels(self) -> ChannelSet:
        """The full set of channels with their statistics."""
        return self._channels

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, or None."""
        return self.spec.classes

    @property
    def dtype(self) -> torch.dtype:
        """The weights' number format; normalised images are converted to it."""
        return next(self.parameters()).dtype

    def forward(
        self,
        images: Tensor,
        channels: ChannelSet | str | Sequence[str] | None = None,
        *,
        parts: Sequence[Part] | None = None,
    ) -> Tensor:
        """Logits of a batch.

        Args:
            images: (B, k, H, W), integers or floats in the files' own units, with just ``channels``, in that order.
                Give zeros for a black channel, and no plane for a missing one.
            channels: names of the images' channels; None means the full set in its order.
            parts: for training: each part of the batch keeps a subset of the channels. The images have the full set.

        Returns:
            (B, num_classes); with ``parts``, one row for each image of each part, in the parts' order.

        Raises:
            ChannelError: a name is unknown or repeats, the images have another number of channels, or ``parts`` come
                with other channels than the full set in its order.
            TypeError: the images are not a tensor.
            ValueError: a part lies outside the batch, or all are empty.

        Warns:
            UserWarning: once, if values lie far outside the channels' statistics, or between 0 and 1 where the
                statistics are of larger values.
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
            check_parts(parts, len(images))
        if not self.input_range.warned and self._channels.measured and has_values(images):
            self.input_range.look(images, parts, self._channels.names, self.channel_mean, self.channel_std)
        normalised = self.normalise(images, subset)
        with subset_context(parts):
            logits: Tensor = self.backbone(normalised)
        return logits

    def specialize(self, channels: ChannelSet | str | Sequence[str]) -> nn.Module:
        """A plain PyTorch module that computes what ``model(images, channels=channels)`` does.

        Args:
            channels: names of the subset's channels; the module takes images of just these, in this order.

        Returns:
            A module in evaluation mode, on the model's device. It maps images (B, k, H, W), integers or floats of the
            weights' type, in the files' own units, to logits that equal the model's to rounding. If the network can be
            traced, it is an ``fx.GraphModule`` of PyTorch's own operations with batch norms folded into convolutions.
            If not, only the stem and the subset batch norms are replaced, with a warning.

        Raises:
            ChannelError: a name is unknown or repeats.
            SpecializeError: each image's kernel is its own, and no linear combination of basis kernels.
        """
        return specialize_backbone(self.backbone, self._channels.positions(channels), self.mean, self.std)

    def normalise(self, images: Tensor, subset: Sequence[int]) -> Tensor:
        """(x - mean) / std for each channel of ``subset``, in the images' memory format and the weights' type."""
        if len(subset) == self.mean.shape[1] and list(subset) == list(range(len(subset))):
            mean, std = self.mean, self.std
        else:
            mean, std = self.mean[:, list(subset)], self.std[:, list(subset)]
        return ((images.to(mean.dtype) - mean) / std).to(self.dtype)


def check_parts(parts: Sequence[Part], batch: int) -> None:
    """Refuse parts that lie outside a batch, which slicing would cut without a word."""
    for part in parts:
        if not 0 <= part.start <= part.stop <= batch:
            raise ValueError(f"{part} lies outside the batch, which has the images 0 to {batch - 1}")
    if not any(map(len, parts)):
        raise ValueError(f"the parts of a batch of {batch} images hold no image")
