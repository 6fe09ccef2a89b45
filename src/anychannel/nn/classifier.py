"""Classifier = stem + backbone, with the channels that it knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.channel_input import ChannelInput, ModelSpec
from anychannel.nn.channel_sampling import Part
from anychannel.nn.embedding import embed
from anychannel.nn.forward_pass import continue_pass, find_conv, run_pass, stem_paths
from anychannel.nn.input_range import InputRange
from anychannel.nn.loading import fill_in_statistics, strip_prefix
from anychannel.nn.normalisation import moments
from anychannel.nn.outputs import logits_of
from anychannel.nn.specialize import specialize_backbone
from anychannel.nn.stems import Stem
from anychannel.nn.subset_context import last_shown

INPUT = "channel_input."


class Classifier(nn.Module):
    """An image classifier that takes any subset of its channels, by name; ``create_model`` makes one.

    It has the channels' names, order, mean and standard deviation, and normalises images itself, so images are always
    in the files' own units. All of these are buffers: a state dict has everything that changes a logit, and
    ``load_state_dict`` refuses one with other channel names.

    In training mode, a forward pass without ``channels`` draws which subset each image shows (``channel_sampling``).

    Args:
        backbone: a network whose first convolution is an ``AdaptiveConv2d``.
        channels: the full set. None takes the channels and the spec that the backbone has already.
        spec: what rebuilds the network.

    Raises:
        ChannelError: the number of channels is not the stem's.
    """

    conv: AdaptiveConv2d
    """The module where the backbone's first convolution was."""

    def __init__(self, backbone: nn.Module, channels: ChannelSet | None = None, spec: ModelSpec | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        conv = find_conv(backbone)
        if channels is not None and spec is not None:
            if len(channels) != conv.stem.in_chans:
                raise ChannelError(f"the stem has {conv.stem.in_chans} input channels, got {list(channels.names)}")
            former = getattr(conv, "channel_input", None)
            conv.channel_input = ChannelInput(channels, spec, next(backbone.parameters()))
            if former is not None:
                conv.channel_input.inherit(former)
        self.__dict__["conv"] = conv  # a second name for a module of the backbone, outside the state dict
        self.register_state_dict_post_hook(shorten_names)  # type: ignore[no-untyped-call]

    @property
    def channel_input(self) -> ChannelInput:
        """The channels, their statistics and the sampling of training."""
        entrance: ChannelInput = self.conv.channel_input
        return entrance

    def measured_names(self) -> list[str]:
        """Names of the statistics in a state dict, the stem's too; another program's may have weights alone."""
        stem = [name for name, _ in self.stem.named_buffers(recurse=False)]
        paths = stem_paths(self)
        return [*self.channel_input._buffers, *(f"{path}.stem.{name}" for path in paths for name in stem)]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``nn.Module`` does; also from a checkpoint's ``state_dict``, and with a wrapper's prefix on each name.

        DistributedDataParallel writes ``module.``, ``torch.compile`` ``_orig_mod.``, Lightning the attribute's name.
        """
        return super().load_state_dict(strip_prefix(self, state_dict), strict, assign)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load a state dict of the same channels, and adopt its statistics; without them the model keeps its own."""
        fill_in_statistics(self, state_dict, prefix, self.channel_input, self.measured_names())
        for name in [*self.channel_input._buffers, "_extra_state"]:
            value = state_dict.pop(prefix + name)
            for path in stem_paths(self):
                state_dict[f"{prefix}{path}.{INPUT}{name}"] = value
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def measure(self, channels: ChannelSet) -> None:
        """Take measured statistics of the same channels, in place: images are normalised by them from now on."""
        self.channel_input.measure(channels)
        self.stem.measure(**moments(self.channels, None))

    @property
    def stem(self) -> Stem:
        """The stem, where the backbone's first convolution was."""
        return self.conv.stem

    @property
    def channels(self) -> ChannelSet:
        """The full set of channels with their statistics."""
        return self.channel_input.channels

    @property
    def spec(self) -> ModelSpec:
        """What rebuilds the network."""
        return self.channel_input.spec

    @spec.setter
    def spec(self, spec: ModelSpec) -> None:
        self.channel_input.spec = spec

    @property
    def mean(self) -> Tensor:
        """What is subtracted from images, (1, C, 1, 1)."""
        return self.channel_input.mean

    @property
    def std(self) -> Tensor:
        """What images are divided by, (1, C, 1, 1)."""
        return self.channel_input.std

    @property
    def input_range(self) -> InputRange:
        """The check of the images' range of values."""
        return self.channel_input.input_range

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, or None."""
        return self.spec.classes

    @property
    def channel_sampling(self) -> str | None:
        """What draws the subsets in training mode: a sampler's name, or None. Assign a name to change it."""
        sampling = self.channel_input.sampling
        return None if sampling is None else sampling.name

    @channel_sampling.setter
    def channel_sampling(self, sampler: Any) -> None:
        self.channel_input.sample(sampler)

    @property
    def last_subsets(self) -> list[str] | None:
        """The channels that each image of this thread's last pass showed, such as ``"R,B"``; None before any pass."""
        shown = last_shown(self.channel_input)
        return None if shown is None else [self.channels.key(subset) for subset in shown.subsets()]

    @property
    def dtype(self) -> torch.dtype:
        """The weights' number format; normalised images are converted to it."""
        return next(self.parameters()).dtype

    def forward(
        self,
        images: Tensor,
        channels: ChannelSet | str | Sequence[str] | None = None,
        *,
        present: Any = None,
        parts: Sequence[Part] | None = None,
    ) -> Tensor:
        """Logits of a batch.

        Args:
            images: (B, k, H, W), integers or floats in the files' own units, with just ``channels``, in that order.
                Give zeros for a black channel, and no plane for a missing one.
            channels: names of the images' channels; None means the full set in its order. In training mode, None also
                means that subsets are drawn; name the channels to show exactly these.
            present: (B, k) booleans, which planes of each image hold something; None means all. The other planes may
                hold anything.
            parts: each part of the batch keeps a subset of the channels, and nothing is drawn. The images have the
                full set.

        Returns:
            (B, num_classes); with ``parts``, one row for each image of each part, in the parts' order.

        Raises:
            ChannelError: a name is unknown or repeats, the images have another number of channels, or ``parts`` come
                with other channels than the full set in its order.
            TypeError: the images are not a tensor.
            ValueError: a part lies outside the batch, or all are empty; ``present`` has another shape, or an image
                without any channel.

        Warns:
            UserWarning: once, if values lie far outside the channels' statistics, or between 0 and 1 where the
                statistics are of larger values.
        """
        output = run_pass(self, self.conv, self.backbone, images, channels, present, parts)
        return logits_of(output)

    def forward_features(
        self, images: Tensor, channels: ChannelSet | str | Sequence[str] | None = None, *, present: Any = None
    ) -> Tensor:
        """Features before pooling, of a timm network; for the arguments see ``forward``."""
        features: Tensor = run_pass(self, self.conv, self.part("forward_features"), images, channels, present)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of ``forward_features``' features or, with ``pre_logits``, the pooled features; of a timm network."""
        head = self.part("forward_head")
        logits: Tensor = continue_pass(self.conv, lambda: head(features, pre_logits=pre_logits))
        return logits

    def embed(
        self, images: Tensor, channels: ChannelSet | str | Sequence[str] | None = None, *, present: Any = None
    ) -> Tensor:
        """Embeddings (B, D): what the last linear layer gets; for the arguments see ``forward``."""
        call = partial(embed, self.backbone)
        embedded: Tensor = run_pass(self, self.conv, call, images, channels, present)
        return embedded

    @property
    def num_features(self) -> int:
        """Number of features before the head, of a timm network."""
        number: Any = self.part("num_features")
        return int(number)

    def get_classifier(self) -> nn.Module:
        """The last layer, of a timm network."""
        layer: nn.Module = self.part("get_classifier")()
        return layer

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay: those that the backbone names."""
        named: set[str] = getattr(self.backbone, "no_weight_decay", set)()
        stem = {f"{path}.stem.{name}" for path in stem_paths(self) for name in self.stem.no_weight_decay()}
        return {f"backbone.{name}" for name in named} | stem

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations again in the backward pass instead of keeping them, of a timm network."""
        self.part("set_grad_checkpointing")(enable)

    def part(self, name: str) -> Callable[..., Any]:
        """A method or attribute of the backbone; AttributeError if it has none of this name."""
        found: Callable[..., Any] | None = getattr(self.backbone, name, None)
        if found is None:
            raise AttributeError(f"{type(self.backbone).__name__} has no {name}, which timm's networks have")
        return found

    def specialize(self, channels: ChannelSet | str | Sequence[str]) -> nn.Module:
        """A plain PyTorch module that computes what ``model(images, channels=channels)`` does.

        Args:
            channels: names of the subset's channels; the module takes images of just these, in this order.

        Returns:
            A module in evaluation mode, on the model's device. It maps images (B, k, H, W), integers or floats of the
            weights' type, in the files' own units, to logits that equal the model's to rounding. If the network can be
            traced, it is an ``fx.GraphModule`` of PyTorch's own operations with batch norms folded into convolutions.
            If not, only the stem and the subset batch norms are replaced, with a warning, and the module returns what
            the network does.

        Raises:
            ChannelError: a name is unknown or repeats.
            SpecializeError: each image's kernel is its own, and no linear combination of basis kernels.
        """
        return specialize_backbone(self.backbone, self.channels.positions(channels), self.mean, self.std)

    def normalise(self, images: Tensor, subset: Sequence[int]) -> Tensor:
        """(x - mean) / std for each channel of ``subset``, in the images' memory format and the weights' type."""
        return self.channel_input.normalise(images, subset, self.dtype)


def shorten_names(model: Classifier, state: dict[str, Any], prefix: str, _: object) -> None:
    """Name the channels' statistics in a state dict as the model's own."""
    for path in stem_paths(model):
        start = f"{prefix}{path}.{INPUT}"
        for name in [name for name in state if name.startswith(start)]:
            state[prefix + name.removeprefix(start)] = state.pop(name)
