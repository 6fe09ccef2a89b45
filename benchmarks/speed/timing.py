"""Time two or more ways to do one thing, in turns, and compare them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BOUNDS = ("at_least", "at_most")


@dataclass(frozen=True)
class Row:
    """One figure: ``ratio``, the median over rounds, its ``spread`` (smallest and largest), and what it should be.

    ``seconds`` has the median of each way.
    """

    key: str
    what: str
    ratio: float
    spread: tuple[float, float]
    bound: str
    mark: float
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "what": self.what,
            "ratio": round(self.ratio, 3),
            self.bound: self.mark,
            "spread": [round(value, 3) for value in self.spread],
            "median_seconds": {name: float(f"{value:.4g}") for name, value in self.seconds.items()},
        }


def take_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; all ways run once in a round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            synchronise()
            start = time.perf_counter()
            run()
            synchronise()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def synchronise() -> None:
    """Wait for a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def faster(key: str, what: str, seconds: dict[str, list[float]], ours: str, theirs: str, mark: float) -> Row:
    """How many times as fast ``ours`` is."""
    return compare(key, what, seconds, [b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)], 0, mark)


def costs(key: str, what: str, seconds: dict[str, list[float]], ours: str, theirs: str, mark: float) -> Row:
    """How many times as long ``ours`` takes."""
    return compare(key, what, seconds, [a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True)], 1, mark)


def compare(key: str, what: str, seconds: dict[str, list[float]], ratios: list[float], bound: int, mark: float) -> Row:
    """A row from the ratio of each round."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return Row(key, what, statistics.median(ratios), (min(ratios), max(ratios)), BOUNDS[bound], mark, middle)


def kept_bytes(network: nn.Module, run: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, parameters excepted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    found = sum(kept.values())
    del result
    return found
