from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from anychannel.models.attention import ResidualBlock, SelfAttention, SqueezeExcitation
from tests.reference import blocks

BLOCKS = {
    "self-attention": (lambda: SelfAttention(16, 2), blocks.self_attention),
    "squeeze-and-excitation": (lambda: SqueezeExcitation(32, 4), blocks.squeeze_excitation),
    "residual block": (lambda: ResidualBlock(16, 2), blocks.residual_block),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_equals_its_literal_twin_in_outputs_and_gradients(name):
    build, twin = BLOCKS[name]
    block = build().double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x = torch.randn(2, 32 if name.startswith("squeeze") else 16, 5, 4, dtype=torch.float64)
    mine, twins = x.clone().requires_grad_(), x.clone().requires_grad_()
    fast, slow = block(mine), twin(block, twins)
    torch.testing.assert_close(fast, slow)
    target = torch.randn_like(fast)
    parameters = list(block.parameters())
    for a, b in zip(
        torch.autograd.grad((fast * target).sum(), [mine, *parameters]),
        torch.autograd.grad((slow * target).sum(), [twins, *parameters]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_attention_starts_as_the_identity():
    x = torch.randn(2, 16, 6, 6)
    torch.testing.assert_close(SelfAttention(16, 2)(x), x)


def test_the_step_by_step_attention_is_the_fused_one():
    block = SelfAttention(16, 2)
    torch.nn.init.ones_(block.gamma)
    x = torch.randn(2, 16, 9, 9)
    fused = block(x)
    block.literal = True
    torch.testing.assert_close(fused, block(x), rtol=1e-4, atol=1e-5)


MEMORY = """
import resource, sys, torch
from anychannel.models.attention import SelfAttention
block, side = SelfAttention(64, 8), int(sys.argv[1])
torch.nn.init.ones_(block.gamma)
x = torch.randn(4, 64, side, side, requires_grad=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
block(x).square().sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_attention_memory_does_not_grow_with_the_square_of_positions():
    def megabytes(side: int) -> float:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(side)], capture_output=True, text=True, check=True, timeout=120
        )
        return float(done.stdout)

    # four images with 64 x 64 positions: one attention matrix each would be 268 MB together, and training keeps several
    assert megabytes(64) < 200
