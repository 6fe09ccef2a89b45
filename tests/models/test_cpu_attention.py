"""The attention of small maps in training on a CPU is as exact as PyTorch's fused kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anychannel.models import attention
from anychannel.models.attention import SelfAttention
from anychannel.models.cpu_attention import MOST_POSITIONS


def attend(layer: SelfAttention, tensors: list[Tensor], *, bf16: bool) -> list[Tensor]:
    """What attention gives, and the gradients of queries, keys and values."""
    given = [tensor.clone().requires_grad_() for tensor in tensors]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        result = layer.attend(*(tensor.bfloat16() if bf16 else tensor for tensor in given)).float()
    (result * torch.sin(torch.arange(result.numel()).view(result.shape))).sum().backward()
    gradients = [tensor.grad for tensor in given]
    assert all(gradient is not None for gradient in gradients)
    return [result.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize(("images", "offset"), [(3, 0.0), (2, 5.0), (0, 0.0)])
def test_it_is_as_exact_as_the_fused_kernel(images: int, offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all keys and all values lie far from zero, which a softmax's gradient must not feel."""
    torch.manual_seed(0)
    layer = SelfAttention(64, 8)
    tensors = [torch.randn(images, 100, width).bfloat16().float() for width in (8, 8, 64)]
    tensors = [tensors[0], tensors[1] + offset, tensors[2] + offset]
    kept = attend(layer, tensors, bf16=True)
    monkeypatch.setattr(attention, "applies_to", lambda _: False)
    exact, fused = attend(layer, tensors, bf16=False), attend(layer, tensors, bf16=True)
    for ours, theirs, truth in zip(kept, fused, exact, strict=True):
        assert float((ours - truth).norm()) <= 1.5 * float((theirs - truth).norm())
    assert not images or not torch.equal(kept[0], fused[0])


def test_many_positions_other_formats_and_inference_stay_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention.CPUAttention, "apply", lambda *_: pytest.fail("called"))
    layer, small, side = SelfAttention(16, 2), torch.rand(1, 16, 8, 8), int(MOST_POSITIONS**0.5) + 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.rand(1, 16, side, side))
        with torch.no_grad():
            layer(small)
    layer(small)
    with torch.autocast("cpu", dtype=torch.float16):
        layer(small)
