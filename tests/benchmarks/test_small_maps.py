"""A small map's convolution and attention as matrix products are as exact as torch's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import small_maps

from anychannel.models.attention import SelfAttention


@pytest.fixture
def installed() -> Iterator[None]:
    small_maps.install()
    yield
    small_maps.uninstall()


def passes(layer: nn.Module, images: Tensor, autocast: bool) -> list[Tensor]:
    """Result and all gradients."""
    layer.zero_grad()
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = layer(images).float()
    (result * torch.sin(torch.arange(result.numel()).view(result.shape))).sum().backward()
    gradients = [tensor.grad for tensor in (images, *layer.parameters())]
    assert all(gradient is not None for gradient in gradients)
    return [result.detach(), *(gradient.clone() for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "edge"),
    [((32, 48), 3, 1, 1, 3), ((32, 16), 3, 2, 1, 6), ((8, 8), 5, 1, 2, 4), ((8, 16), 3, 2, 0, 5), ((8, 8), 3, 1, 2, 2)],
)
def test_as_exact_as_the_convolution(
    installed: None, channels: tuple[int, int], kernel: int, stride: int, padding: int, edge: int
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(*channels, kernel, stride, padding, bias=False)
    images = torch.randn(4, channels[0], edge, edge)
    exact = passes(convolution, images, autocast=False)
    multiplied = passes(convolution, images, autocast=True)
    for ours, truth in zip(multiplied, exact, strict=True):
        assert float((ours - truth).norm() / truth.norm()) < 0.005
    assert not torch.equal(multiplied[0], exact[0])


def test_larger_maps_stay_with_torch(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_maps.MatrixConvolution, "apply", lambda *_: pytest.fail("called"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nn.Conv2d(3, 4, 3, bias=False)(torch.rand(1, 3, 7, 7))
        nn.Conv2d(3, 4, 3, groups=1, bias=True)(torch.rand(1, 3, 5, 5))
    nn.Conv2d(3, 4, 3, bias=False)(torch.rand(1, 3, 5, 5))


def test_as_exact_as_fused_attention(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(64, 8)
    nn.init.ones_(layer.gamma)
    images = torch.randn(4, 64, 21, 21)
    exact = passes(layer, images, autocast=False)
    by_step = passes(layer, images, autocast=True)
    small_maps.uninstall()
    fused = passes(layer, images, autocast=True)
    small_maps.install()
    assert not torch.equal(by_step[0], fused[0])
    for ours, own, truth in zip(by_step, fused, exact, strict=True):
        # a key's bias moves all weights of a query alike, so its gradient is 0 but for rounding
        error, own_error = float((ours - truth).norm()), float((own - truth).norm())
        assert error < max(1.5 * own_error, 0.01 * float(truth.norm()))
    monkeypatch.setattr(small_maps.torch, "bmm", lambda *_: pytest.fail("called"))
    passes(layer, torch.randn(1, 64, 25, 25), autocast=True)
    passes(layer, images, autocast=False)
