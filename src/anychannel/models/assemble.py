"""Put a stem where a network's first convolution was, and make a classifier of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.models.first_conv import FirstConv, read_first_conv
from anychannel.models.kernel_transfer import wavelengths
from anychannel.models.registry import create_backbone
from anychannel.nn.adapted import make_adaptive
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.channel_input import ModelSpec
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import replace_module, set_width
from anychannel.nn.normalisation import Normalisation, moments
from anychannel.nn.stems import STEMS, CompletionStem, MaskedStem, Stem, build_stem
from anychannel.nn.subset_batchnorm import MOST_CHANNELS, choose_norm, install_norms


def assemble(
    network: nn.Module,
    channels: ChannelSet,
    spec: ModelSpec,
    *,
    transfer: Callable[[Tensor], Tensor] | None = None,
    conv: FirstConv | None = None,
    keep_kind: bool = False,
) -> Classifier:
    """A classifier from a network, in place.

    The network's first convolution takes ``spec.in_chans`` channels, or as many as ``channels`` has. ``conv`` spares
    the search for it. ``transfer`` makes the kernel (out, C, kh, kw) for ``channels`` from the network's own. Without
    it the stem starts from the network's kernel, or from a fresh one if ``spec.in_chans`` is set.

    If norm ``auto`` resolves to ``shared`` because there are too many channels for statistics of each subset,
    ``completion`` learns a bias for each missing channel (``presence``). ``keep_kind`` is for networks of other
    libraries: the backbone becomes adaptive itself, see ``make_adaptive``.
    """
    before = conv or read_first_conv(network, spec.in_chans or len(channels), spec.first_conv)
    weight = before.weight if transfer is None else transfer(before.weight)
    if transfer is None and spec.in_chans is not None:
        fresh = weight.new_empty(len(weight), len(channels), *weight.shape[2:])
        weight = nn.init.kaiming_normal_(fresh, mode="fan_out", nonlinearity="relu")
    if spec.norm == "auto":
        norm = choose_norm(channels, spec.stem, network)
        many = norm == "shared" and len(channels) > MOST_CHANNELS and STEMS.get(spec.stem) is CompletionStem
        spec = replace(spec, norm=norm, stem_options=({"presence": True} if many else {}) | spec.stem_options)
    start = replace(before, weight=weight)
    stem = stem_for(channels, spec.stem, start, spec.normalisation, spec.stem_options)
    replace_module(network, network.get_submodule(before.path), AdaptiveConv2d(stem))
    install_norms(network, spec.norm, channels)
    model = Classifier(network, channels, spec)
    model.channel_input.sample(None if isinstance(stem, MaskedStem) else "split")
    if keep_kind:
        model.channel_input.wide = True
        set_width(network, before.path, before.weight.shape[1], len(channels))
        model.backbone = make_adaptive(network)
    return model


def stem_for(
    channels: ChannelSet, name: str, start: FirstConv, normalisation: Normalisation | None, options: dict[str, Any]
) -> Stem:
    """A stem for ``channels`` from the kernel of ``start``, with the channels' moments unless the options give them."""
    values = moments(channels, normalisation) | options
    return build_stem(name, start.weight, start.bias, start.geometry, wavelengths_nm=wavelengths(channels), **values)


def build_model(channels: ChannelSet, spec: ModelSpec) -> Classifier:
    """A classifier with a fresh network; see ``create_model``."""
    if spec.num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {spec.num_classes}")
    if spec.classes is not None and len(spec.classes) != spec.num_classes:
        raise ValueError(f"num_classes is {spec.num_classes}, but {len(spec.classes)} class names were given")
    network = create_backbone(spec.model, spec.in_chans or len(channels), spec.num_classes, spec.model_options)
    return assemble(network, channels, spec)
