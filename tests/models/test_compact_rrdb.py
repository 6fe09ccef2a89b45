"""Our compact network: its budget, its recursion, against the same written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anychannel.models.compact_rrdb import Bottleneck, CompactRRDB, ResidualInResidual


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_it_stays_within_task_iis_budget_of_parameters_and_layers():
    network = CompactRRDB(3, 50)
    assert count(network) == 211_475 <= 213_000
    assert 1 + len(network.blocks) == 4
    assert network(torch.randn(2, 3, 84, 84)).shape == (2, 50)


def test_repeating_adds_batch_norms_and_no_convolutions():
    once, twice = CompactRRDB(repeats=1), CompactRRDB(repeats=2)
    kinds = [
        {
            kind: sum(p.numel() for m in network.modules() if isinstance(m, kind) for p in m.parameters())
            for kind in (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
        }
        for network in (once, twice)
    ]
    assert kinds[0][nn.Conv2d] == kinds[1][nn.Conv2d]
    assert kinds[0][nn.Linear] == kinds[1][nn.Linear]
    assert kinds[0][nn.BatchNorm2d] < kinds[1][nn.BatchNorm2d]


def test_a_block_equals_its_bottlenecks_written_out():
    block = ResidualInResidual(8, 16, stride=2, depth=2, expansion=2, repeats=2, attention=True).double().eval()
    nn.init.constant_(block.attention.gamma, 0.7)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)

    def bottleneck(layer: Bottleneck, x: torch.Tensor, time: int) -> torch.Tensor:
        norms = list(layer.norms[time])
        inner = nn.functional.silu(norms[0](layer.expand(x)))
        inner = layer.excitation(nn.functional.silu(norms[1](layer.depthwise(inner))))
        return norms[2](layer.project(inner))

    x = torch.randn(2, 8, 10, 12, dtype=torch.float64)
    start = bottleneck(block.down, x, 0)
    y = start
    for layer, time in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y = y + bottleneck(block.chain[layer], y, time)
    expected = start + block.attention(y)
    assert expected.shape == (2, 16, 5, 6)
    torch.testing.assert_close(block(x), expected)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"one width more, got depths \[1, 1\], strides \[1, 2, 2\]"):
        CompactRRDB(depths=(1, 1))
