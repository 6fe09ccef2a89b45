"""A small map's convolution as a matrix product is as exact as oneDNN's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import small_maps


@pytest.fixture
def installed() -> Iterator[None]:
    small_maps.install()
    yield
    small_maps.uninstall()


def passes(convolution: nn.Conv2d, images: Tensor, autocast: bool) -> list[Tensor]:
    """Result and both gradients."""
    convolution.zero_grad()
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = convolution(images).float()
    (result * torch.sin(torch.arange(result.numel()).view(result.shape))).sum().backward()
    assert images.grad is not None
    assert convolution.weight.grad is not None
    return [result.detach(), images.grad, convolution.weight.grad.clone()]


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
