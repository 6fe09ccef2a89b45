"""Small networks that take next to no time to capture."""

from __future__ import annotations

import torch
from torch import nn

import anychannel as ac
from anychannel.channels import ChannelSet
from anychannel.models.view import as_view

RGB = ChannelSet(
    ("R", "G", "B"),
    mean=(120.0, 110.0, 100.0),
    std=(60.0, 55.0, 50.0),
    correlation=((1.0, 0.9, 0.8), (0.9, 1.0, 0.9), (0.8, 0.9, 1.0)),
)


class Tiny(nn.Sequential):
    """Two convolutions, the first with a bias, and a linear layer."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )


def tiny(stem: str = "completion", **options):
    """A classifier of ``Tiny`` whose parameters and statistics are away from their start, as after training."""
    own = ac.adapt(Tiny().eval(), channels=RGB, source_channels=RGB, stem=stem, classes=["a", "b", "c", "d"], **options)
    model = ac.Classifier.of(as_view(own))
    with torch.no_grad():
        for parameter in model.stem.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def pixels(batch: int, channels: int, height: int = 24, width: int = 24) -> torch.Tensor:
    """As 8-bit files hold them."""
    return torch.randint(0, 256, (batch, channels, height, width)).float()
