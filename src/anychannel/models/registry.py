"""Networks by name: the report's, and any timm model that starts with a convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
from torch import Tensor, nn

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.models.assemble import assemble
from anychannel.models.compact import CompactNet
from anychannel.models.compact_rrdb import CompactRRDB
from anychannel.nn.classifier import Classifier, ModelSpec
from anychannel.nn.normalisation import Normalisation
from anychannel.utils.options import coerce_options


def report_resnet(
    name: str, in_chans: int, num_classes: int, *, max_pool: bool = True, pretrained: bool = False
) -> nn.Module:
    """A timm ResNet whose 7x7, stride 2 first convolution is the report's 3x3, stride 1.

    Residual branches start open (their last norm's scale at 1, as in He et al. and torchvision), not closed as in timm:
    in short training closed ones cost several points.

    Args:
        name: timm's name.
        in_chans, num_classes: sizes.
        max_pool: keep the 3x3, stride 2 max-pool after the first convolution (the report's v1 leaves it out).
        pretrained: take timm's trained weights for all but the first convolution.
    """
    network: nn.Module = timm.create_model(
        name, pretrained=pretrained, num_classes=num_classes, in_chans=in_chans, zero_init_last=False
    )
    conv = nn.Conv2d(in_chans, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = conv
    if not max_pool:
        network.maxpool = nn.Identity()
    return network


def compact(kernel_size: int, stride: int, padding: int, in_chans: int, num_classes: int, **options: Any) -> nn.Module:
    """The compact network with its first convolution's geometry set."""
    return CompactNet(in_chans, num_classes, kernel_size=kernel_size, stride=stride, padding=padding, **options)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(report_resnet, "resnet18"),
    "resnet34": partial(report_resnet, "resnet34"),
    "compact_k3": partial(compact, 3, 1, 1),
    "compact_k7": partial(compact, 7, 2, 3),
    "compact_rrdb": CompactRRDB,
}

TIMM_PREFIX = "timm/"


def list_models(*, with_timm: bool = False) -> list[str]:
    """Names that ``create_model`` takes; ``with_timm`` adds timm's, which work as ``timm/NAME`` or plain ``NAME``."""
    return list(MODELS) + ([TIMM_PREFIX + name for name in timm.list_models()] if with_timm else [])


def create_backbone(name: str, in_chans: int, num_classes: int | None, **options: Any) -> nn.Module:
    """A network with an ordinary first convolution; ``num_classes`` None keeps a timm network's own number.

    Raises:
        ValueError: the name or an option is unknown, or an option of another type; the message lists the valid names.
    """
    try:
        if name in MODELS:
            return MODELS[name](in_chans=in_chans, num_classes=num_classes, **coerce_options(MODELS[name], options))
        bare = name.removeprefix(TIMM_PREFIX)
        if timm.is_model(bare.split(".")[0]):
            network: nn.Module = timm.create_model(bare, in_chans=in_chans, num_classes=num_classes, **options)
            return network
    except TypeError as error:
        raise ValueError(f"model {name!r} does not take these options: {error}") from error
    near = get_close_matches(name, [*MODELS, *timm.list_models()], n=3)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    raise ValueError(f"unknown model {name!r}{hint}; the models are {', '.join(MODELS)} and every timm model")


def create_model(
    model: str = "resnet18",
    *,
    channels: ChannelSet | str | Sequence[str],
    num_classes: int,
    stem: str = "completion",
    stem_options: dict[str, Any] | None = None,
    model_options: dict[str, Any] | None = None,
    norm: str = "auto",
    classes: Sequence[str] | None = None,
    first_conv: str | None = None,
    in_chans: int | None = None,
    normalisation: Normalisation | None = None,
) -> Classifier:
    """Build a channel-adaptive classifier.

    Args:
        model: one of ``list_models()`` or any timm name; ``timm/resnet18`` is timm's own, with its 7x7 stem.
        channels: the full set, as ``"R,G,B"``, names, a sensor (``"sentinel2"``; see ``as_channel_set``), or a
            ``ChannelSet`` with statistics.
        num_classes: number of classes.
        stem: one of ``list_stems()``.
        stem_options: the stem's keyword options.
        model_options: the network's keyword options.
        norm: which batch norms the subsets share, one of ``list_norms()`` in ``anychannel.nn.subset_batchnorm``;
            ``auto`` decides (see ``choose_norm``).
        classes: names of the classes, kept with the model.
        first_conv: path of the convolution that the stem replaces, as ``"patch_embed.proj"``, where the network does
            not tell.
        in_chans: build the network for so many channels before the stem takes over; None builds it for the full set.
        normalisation: how images are normalised; None takes the channels' own statistics.

    Raises:
        ValueError: a name or option is unknown; the message lists the valid ones.
        ChannelError: the channels' names are not usable.
    """
    known = as_channel_set(channels)
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if classes is not None and len(classes) != num_classes:
        raise ValueError(f"num_classes is {num_classes}, but {len(classes)} class names were given")
    spec = ModelSpec(
        model=model,
        num_classes=num_classes,
        stem=stem,
        stem_options=dict(stem_options or {}),
        model_options=dict(model_options or {}),
        classes=None if classes is None else tuple(classes),
        norm=norm,
        first_conv=first_conv,
        in_chans=in_chans,
        normalisation=normalisation,
    )
    network = create_backbone(model, in_chans or len(known), num_classes, **spec.model_options)
    return assemble(network, known, spec, transfer=None if in_chans is None else partial(fresh_kernel, len(known)))


def fresh_kernel(in_chans: int, weight: Tensor) -> Tensor:
    """A kernel for another number of channels, initialised as a convolution's."""
    kernel = weight.new_empty(len(weight), in_chans, *weight.shape[2:])
    return nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")
