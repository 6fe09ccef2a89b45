"""Networks by name: the report's, and any timm model that starts with a convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from torch import nn

from anychannel.models.compact import CompactNet
from anychannel.models.compact_rrdb import CompactRRDB
from anychannel.models.resnet import ResNet
from anychannel.utils.options import registry_options


def report_resnet(
    depths: tuple[int, ...],
    in_chans: int,
    num_classes: int,
    *,
    max_pool: bool = True,
    pretrained: bool = False,
) -> nn.Module:
    """A ResNet whose 7x7, stride 2 first convolution is the report's 3x3, stride 1.

    The scale of each residual branch's last norm starts at 1 (He et al., torchvision). timm starts it at 0, which costs
    several points in short training. Without ``max_pool`` the network lacks the 3x3, stride 2 pooling after the first
    convolution, as the report's v1 does. ``pretrained`` loads timm's weights for all but the first convolution.
    """
    network = ResNet(depths, in_chans, num_classes)
    if pretrained:
        import timm  # here, since timm takes seconds to import

        name = f"resnet{2 * sum(depths) + 2}"
        timms = timm.create_model(name, pretrained=True, num_classes=num_classes, in_chans=in_chans)
        network.load_state_dict(timms.state_dict())
    conv = nn.Conv2d(in_chans, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = conv
    if not max_pool:
        network.maxpool = nn.Identity()
    return network


MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(report_resnet, (2, 2, 2, 2)),
    "resnet34": partial(report_resnet, (3, 4, 6, 3)),
    "compact_k3": partial(CompactNet, kernel_size=3, stride=1, padding=1),
    "compact_k7": partial(CompactNet, kernel_size=7, stride=2, padding=3),
    "compact_rrdb": CompactRRDB,
}

TIMM_PREFIX = "timm/"

TWINS: dict[str, Callable[..., nn.Module]] = {
    "timm/resnet18": partial(ResNet, (2, 2, 2, 2)),
    "timm/resnet34": partial(ResNet, (3, 4, 6, 3)),
}
"""Networks of timm's that are built without timm if a saved model brings the weights and only answers are wanted."""


def list_models(*, with_timm: bool = False) -> list[str]:
    """Names that ``create_model`` takes; ``with_timm`` adds timm's, which work as ``timm/NAME`` or plain ``NAME``."""
    if not with_timm:
        return list(MODELS)
    import timm  # here, since timm takes seconds to import

    return [*MODELS, *(TIMM_PREFIX + name for name in timm.list_models())]


def create_backbone(
    name: str, in_chans: int, num_classes: int | None, options: Mapping[str, Any], *, twin: bool = False
) -> nn.Module:
    """A network with an ordinary first convolution; ``num_classes=None`` keeps a timm network's own head.

    ``twin`` prefers one of ``TWINS``, which computes the same.

    Raises:
        ValueError: the name or an option is unknown, or an option has another type.
    """
    if name in MODELS:
        make = MODELS[name]
        reserved = ("in_chans", "num_classes", *getattr(make, "keywords", ()))
        checked = registry_options("model", name, make, options, reserved=reserved)
        return make(in_chans=in_chans, num_classes=num_classes, **checked)
    if twin and name in TWINS and not options:
        return TWINS[name](in_chans=in_chans, num_classes=num_classes)
    import timm  # here, since timm takes seconds to import

    bare = name.removeprefix(TIMM_PREFIX)
    if timm.is_model(bare.split(".")[0]):
        try:
            network: nn.Module = timm.create_model(bare, in_chans=in_chans, num_classes=num_classes, **options)
        except TypeError as error:  # timm's functions take any keyword, so only the call tells which are wrong
            raise ValueError(f"model {name!r} does not take these options: {error}") from error
        return network
    near = get_close_matches(name, dict.fromkeys([*MODELS, *timm.list_models()]), n=3)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    raise ValueError(f"unknown model {name!r}{hint}; the models are {', '.join(MODELS)} and every timm model")
