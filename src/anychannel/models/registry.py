"""Networks by name: the report's, and any timm model that starts with a convolution."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
from torch import nn

from anychannel.models.compact import CompactNet
from anychannel.models.compact_rrdb import CompactRRDB
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
