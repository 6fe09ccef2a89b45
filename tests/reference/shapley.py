"""Shapley values by their other definition: what each player adds, averaged over all orders, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import permutations


def shapley_by_orders(players: Sequence[str], values: Mapping[frozenset[str], float]) -> dict[str, float]:
    """Mean gain of each player over all n! orders, without rounding."""
    orders = list(permutations(players))
    gains = dict.fromkeys(players, Fraction(0))
    for order in orders:
        for place, name in enumerate(order):
            before, after = frozenset(order[:place]), frozenset(order[: place + 1])
            gains[name] += Fraction(values[after]) - Fraction(values[before])
    return {name: float(gain / len(orders)) for name, gain in gains.items()}
