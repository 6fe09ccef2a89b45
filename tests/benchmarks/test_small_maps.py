"""A small map's convolution and attention as matrix products are as exact as torch's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from benchmarks.measure import small_maps
from torch import Tensor, nn

from anychannel.models.attention import SelfAttention


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


def attend(layer: SelfAttention, tensors: list[Tensor], autocast: bool) -> list[Tensor]:
    """What attention gives, and the gradients of queries, keys and values."""
    given = [tensor.clone().requires_grad_() for tensor in tensors]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = layer.attend(*(tensor.bfloat16() if autocast else tensor for tensor in given)).float()
    (result * torch.sin(torch.arange(result.numel()).view(result.shape))).sum().backward()
    gradients = [tensor.grad for tensor in given]
    assert all(gradient is not None for gradient in gradients)
    return [result.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize(("images", "offset"), [(3, 0.0), (2, 5.0)])
def test_attention_is_as_exact_as_the_fused_kernel(installed: None, images: int, offset: float) -> None:
    """Also where all keys and all values lie far from zero, which a softmax's gradient must not feel."""
    torch.manual_seed(0)
    layer = SelfAttention(64, 8)
    tensors = [torch.randn(images, 100, width).bfloat16().float() for width in (8, 8, 64)]
    tensors = [tensors[0], tensors[1] + offset, tensors[2] + offset]
    multiplied = attend(layer, tensors, autocast=True)
    small_maps.uninstall()
    exact, fused = attend(layer, tensors, autocast=False), attend(layer, tensors, autocast=True)
    for ours, theirs, truth in zip(multiplied, fused, exact, strict=True):
        assert float((ours - truth).norm()) < 1.5 * float((theirs - truth).norm())
    assert not torch.equal(multiplied[0], fused[0])


def test_attention_over_many_positions_or_without_gradients_stays_with_torch(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_maps.MatrixAttention, "apply", lambda *_: pytest.fail("called"))
    layer = SelfAttention(16, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.rand(1, 16, 23, 23))
        with torch.no_grad():
            layer(torch.rand(1, 16, 8, 8))
    layer(torch.rand(1, 16, 8, 8))
