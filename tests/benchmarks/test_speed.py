"""The speed benchmark compares ways round by round."""

from __future__ import annotations

import pytest
import torch
from benchmarks.speed.timing import costs, faster, kept_bytes, take_turns
from torch import nn

SECONDS = {"ours": [1.0, 2.0, 1.5], "theirs": [2.0, 2.0, 6.0]}


def test_ratios_are_those_of_each_round() -> None:
    row = faster("1a", "work", SECONDS, "ours", "theirs", 1.5)
    assert (row.ratio, row.spread) == (2.0, (1.0, 4.0))
    assert row.to_dict()["at_least"] == 1.5
    row = costs("3a", "work", SECONDS, "ours", "theirs", 1.05)
    assert (row.ratio, row.spread) == (0.5, (0.25, 1.0))
    assert row.to_dict() == {
        "what": "work",
        "ratio": 0.5,
        "at_most": 1.05,
        "spread": [0.25, 1.0],
        "median_seconds": {"ours": 1.5, "theirs": 2.0},
    }


def test_ways_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []
    seconds = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_pass_keeps_is_counted_once_and_without_parameters(times: int) -> None:
    layer, x = nn.Linear(8, 4, bias=False), torch.randn(16, 8, requires_grad=True)
    assert kept_bytes(layer, lambda: sum((layer(x) for _ in range(times)), torch.zeros(()))) == 16 * 8 * 4
