"""Which convolution is a network's first, and whether a stem can stand for it."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import transformers
from torch import nn
from torch.nn.functional import dropout

import anychannel as ac
from anychannel.nn.adaptive_conv import AdaptiveConv2d

NAMED = {"channels": "R,G,B", "normalise": "none"}
BIT = {"hidden_sizes": [16] * 4, "depths": [1] * 4, "embedding_size": 16, "num_groups": 8, "num_labels": 4}


def images(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))


def behind(conv: nn.Conv2d) -> nn.Sequential:
    layers = [conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(conv.out_channels, 4)]
    return nn.Sequential(*layers).eval()


class Normed(nn.Conv2d):
    """As detectron2's, with its norm inside."""

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.norm = nn.BatchNorm2d(self.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(x))


class Standardised(nn.Conv2d):
    """With a formula of its own, which is not timm's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight / self.weight.std((1, 2, 3), keepdim=True), self.bias)


class Inner(nn.Conv2d):
    """Changes what ``forward`` of its base calls."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return 2 * super()._conv_forward(x, weight, bias)


class Dropping(nn.Conv2d):
    """Another in training mode only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return dropout(super().forward(x), 0.5, self.training)


class Renamed(nn.Conv2d):
    """Computes what its base does, and says so in two ways."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


def replaced_forward() -> nn.Conv2d:
    conv = nn.Conv2d(3, 8, 3)
    usual = conv.forward
    conv.forward = lambda x: 2 * usual(x)
    return conv


@pytest.mark.parametrize("make", [Normed, Standardised, Inner, Dropping, lambda *_: replaced_forward()])
def test_a_convolution_that_does_more_is_refused_by_its_name(make):
    conv = make(3, 8, 3)
    with pytest.raises(ValueError, match=rf"first convolution, 0, is a .*{type(conv).__name__}, whose forward is more"):
        ac.adapt(behind(conv), **NAMED)


@pytest.mark.parametrize(
    "register",
    ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"],
)
def test_a_convolution_with_hooks_is_refused(register):
    def triple(_module, *values):
        return values[-1] * 3

    network = behind(nn.Conv2d(3, 8, 3))
    handle = getattr(network[0], register)(triple)
    with pytest.raises(ValueError, match=r"0, is a Conv2d with the hook .*triple, which a stem .* would lose"):
        ac.adapt(network, **NAMED)
    handle.remove()
    ac.adapt(network, **NAMED)


@torch.no_grad()
def weight_normed_as_of_old() -> nn.Module:
    conv = nn.utils.weight_norm(nn.Conv2d(3, 8, 3))
    conv.weight_g.mul_(2)
    return behind(conv)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: behind(Renamed(3, 8, 3)), 33),
        (lambda: behind(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))), 33),
        (lambda: behind(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3))), 33),
        (weight_normed_as_of_old, 33),
        (lambda: behind(nn.Conv2d(3, 8, 4, padding="same")), 33),
        (lambda: behind(timm.layers.StdConv2d(3, 8, 3, 2)), 33),
        (lambda: behind(timm.layers.ScaledStdConv2dSame(3, 8, 3, 2)), 33),
        (lambda: behind(timm.layers.Conv2dSame(3, 8, 3, 2)), 33),
        (lambda: smp.Unet("efficientnet-b0", encoder_weights=None, decoder_channels=(8,) * 5), 64),
        (lambda: transformers.BitForImageClassification(transformers.BitConfig(**BIT)), 64),
        (lambda: transformers.BitForImageClassification(transformers.BitConfig(**BIT, global_padding="SAME")), 64),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated", "ignore:Using padding='same'")
@torch.no_grad()
def test_a_convolution_that_computes_what_a_plain_one_does_is_kept(make, size):
    torch.manual_seed(0)
    network = make().eval()
    found, expected = ac.adapt(network, **NAMED)(images(size)), network(images(size))
    found, expected = (getattr(output, "logits", output) for output in (found, expected))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Coloured(nn.Module):
    """Mixes colours before the convolution ``conv1``, or only afterwards, or beside it."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.conv1, self.colour, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1), nn.Linear(3, 4)
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.order == "beside":
            return self.fc((self.conv1(x) + self.colour(x)).mean((2, 3)))
        first, second = (self.colour, self.conv1) if self.order == "before" else (self.conv1, self.colour)
        return self.fc(second(first(x).relu()).mean((2, 3)))


@pytest.mark.parametrize("order", ["before", "beside"])
def test_conv1_is_not_the_first_because_of_its_name(order):
    with pytest.raises(ValueError, match="Coloured has 2 convolutions that take 3 channels; say which one meets"):
        ac.adapt(Coloured(order), **NAMED)
    if order == "before":
        assert isinstance(ac.adapt(Coloured(order), **NAMED, first_conv="colour").colour, AdaptiveConv2d)


def test_conv1_is_the_first_of_several_if_it_meets_the_images():
    assert isinstance(ac.adapt(Coloured("after"), **NAMED).conv1, AdaptiveConv2d)
    many = ac.create_model("resnet18", channels=[f"band{i}" for i in range(64)], num_classes=4)
    assert isinstance(many.backbone.conv1, AdaptiveConv2d)
