"""Depthwise convolutions train in float32 under bfloat16 autocast on a CPU; everything else is as autocast does it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from anychannel.training.autocast import autocast

CPU = torch.device("cpu")


def gradients(layer: nn.Module, images: torch.Tensor, context) -> list[torch.Tensor]:
    layer.zero_grad()
    with context:
        found = layer(images)
    found.float().square().sum().backward()
    return [found.detach(), *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_is_computed_in_float32_and_returned_in_autocasts_format(multiplier, padding_mode):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6 * multiplier, 3, stride=2, padding=1, groups=6, padding_mode=padding_mode)
    images = torch.randn(4, 6, 9, 9)
    with torch.no_grad():
        exact = layer(images)
    output, *grads = gradients(layer, images, autocast(CPU, bf16=True))
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, exact.bfloat16())
    layer.zero_grad()
    layer(images).bfloat16().float().square().sum().backward()
    for one, parameter in zip(grads, layer.parameters(), strict=True):
        assert torch.equal(one, parameter.grad)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3),
        nn.Conv2d(6, 8, 3, groups=2),
        nn.Conv2d(1, 8, 3),
        nn.Conv1d(6, 6, 3, groups=6),
        nn.Sequential(nn.Flatten(), nn.Linear(6 * 81, 3)),
    ],
    ids=["dense", "groups", "one channel", "1d", "linear"],
)
def test_everything_else_is_as_under_autocast(layer):
    torch.manual_seed(0)
    first = next(layer.modules())
    images = torch.randn(4, first.in_channels if hasattr(first, "in_channels") else 6, 9, 9)
    images = images.flatten(2) if isinstance(layer, nn.Conv1d) else images
    ours = gradients(layer, images, autocast(CPU, bf16=True))
    plain = gradients(layer, images, torch.autocast("cpu", torch.bfloat16))
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_without_gradients_and_without_bf16_nothing_changes():
    images, weight = torch.randn(2, 6, 9, 9), torch.randn(6, 1, 3, 3)
    with torch.no_grad():
        with autocast(CPU, bf16=True):
            ours = F.conv2d(images, weight, groups=6)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(ours, F.conv2d(images, weight, groups=6))
    with autocast(CPU, bf16=False):
        assert F.conv2d(images, weight, groups=6).dtype == torch.float32


def test_what_the_backward_pass_computes_again_is_as_under_autocast():
    layer = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 3))
    images = torch.randn(2, 6, 9, 9, requires_grad=True)
    with autocast(CPU, bf16=True):
        found = checkpoint(layer, images, use_reentrant=False)
    found.float().square().sum().backward()
    again = gradients(layer, images, torch.autocast("cpu", torch.bfloat16))
    assert torch.equal(found, again[0])


def test_float64_stays():
    images, weight = torch.randn(2, 6, 9, 9, dtype=torch.float64), torch.randn(6, 1, 3, 3, dtype=torch.float64)
    with autocast(CPU, bf16=True):
        assert F.conv2d(images, weight, groups=6).dtype == torch.float64


def test_arguments_by_keyword_and_a_compiled_network():
    images, weight = torch.randn(2, 6, 9, 9), torch.randn(6, 1, 3, 3, requires_grad=True)
    layer = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6))
    with autocast(CPU, bf16=True):
        assert torch.equal(F.conv2d(input=images, weight=weight, groups=6), F.conv2d(images, weight, None, 1, 0, 1, 6))
        found = torch.compile(layer, backend="eager")(images)
        assert torch.equal(found, layer(images))
