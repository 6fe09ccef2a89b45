"""Networks without anything of ours, to compare with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from anychannel.models import create_model


def plain_network(name: str, channels: str | Sequence[str], num_classes: int) -> nn.Module:
    """A network of ``create_model`` with an ``nn.Conv2d`` for the channels in the place of its stem."""
    model = create_model(name, channels=channels, num_classes=num_classes, stem="static", norm="shared")
    network, stem = model.backbone, model.stem
    path = next(path for path, module in network.named_modules() if module is model.conv)
    geometry = stem.geometry
    conv = nn.Conv2d(
        stem.in_chans,
        stem.out_chans,
        geometry.kernel_size,
        geometry.stride,
        geometry.padding,
        bias=stem.bias is not None,
    )
    network.set_submodule(path, conv)
    return network
