"""Which channels matter: Shapley values of channels and groups, from the figures of an evaluation's subsets.

The value v(S) of a subset S is the accuracy, or the macro F1, from its channels alone (of several labels an image, mean
average precision or macro F1). v of the empty set is that of
answering the most frequent class. The Shapley value of channel i of n is what it adds on average to the channels before
it, over all n! orders in which the channels can arrive:

    phi_i = sum over the subsets S without i of |S|! (n - |S| - 1)! / n! * (v(S with i) - v(S))

The values of all channels add up to v(all) - v(empty). Definition: Shapley, "A Value for n-Person Games", 1953. For the
features of a classifier: Strumbelj and Kononenko, Knowledge and Information Systems 41, 2014; Lundberg and Lee,
"A Unified Approach to Interpreting Model Predictions", NeurIPS 2017. Here a missing channel is really missing: nothing
stands in its place.

The sum is exact if all subsets were evaluated. Otherwise phi_i is the mean over random orders (Castro, Gomez and
Tejada, Computers & Operations Research 36, 2009), with the standard error of that mean. It covers the choice of orders,
not the choice of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb, sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet

SEED = 0
MOST_ORDERS = 8
PASSES = 128
"""Subsets that all orders together have about, if there are many channels."""
MOST_PLAYERS = 64
"""With more channels no complete order is evaluated."""
CLOSE = 0.01
"""A subset this close to all channels counts as good enough: one percentage point."""

Values = Mapping[frozenset[str], float]
"""v(S) by the channels of S; the empty set's under ``frozenset()``."""


@dataclass(frozen=True)
class Contribution:
    """What one channel or group contributes to a figure, as fractions.

    ``shapley`` is its Shapley value, with ``standard_error`` if it was sampled. ``adds`` is what it adds to all others:
    v(all) - v(all others). ``alone`` is v of it alone. Both are None if the subset was not evaluated.
    """

    shapley: float
    standard_error: float | None
    adds: float | None
    alone: float | None


@dataclass(frozen=True)
class Choice:
    """A subset of ``size`` channels or groups, by its name, and its value."""

    size: int
    subset: str
    value: float


@dataclass(frozen=True)
class Ranking:
    """Contributions to one figure, and the subsets that do with fewer channels.

    Args:
        empty: v of no channel.
        full: v of all.
        values: contributions by the name of the channel or group.
        smallest: of the evaluated subsets within one point of all, one of the fewest channels or groups; the best one
            of several.
        best: the best evaluated subset of each size, smaller sizes first.
    """

    empty: float
    full: float
    values: dict[str, Contribution]
    smallest: Choice
    best: tuple[Choice, ...]


@dataclass(frozen=True)
class Shapley:
    """Rankings by accuracy and by macro F1 over the same ``n`` images, those that have every channel.

    Of several labels an image, mean average precision takes the place of accuracy.
    ``exact`` says that all subsets were evaluated; otherwise the values rest on ``orders`` random orders.
    """

    n: int
    exact: bool
    orders: int
    macro_f1: Ranking
    accuracy: Ranking | None = None
    mean_average_precision: Ranking | None = None

    @property
    def main(self) -> Ranking:
        """The ranking by accuracy or mean average precision."""
        found = self.accuracy or self.mean_average_precision
        assert found is not None
        return found

    @property
    def headline(self) -> str:
        """What ``main`` is about: ``accuracy`` or ``mean average precision``."""
        return "mean average precision" if self.accuracy is None else "accuracy"


def rank_channels(
    channels: ChannelSet,
    figures: Mapping[str, Mapping[str, float]],
    supports: Sequence[int],
    images: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Compute ``Shapley`` of the ``channels`` and, if there are any, of the ``groups``, as plain values for JSON.

    Args:
        channels: the channels that were evaluated, in the network's order.
        figures: ``accuracy`` (or ``mean_average_precision``) and ``macro_f1`` by the subset's key, all of them over the
            same images.
        supports: number of these images in each class.
        images: their number, if each may have several labels.

    Returns:
        ``channels``, ``groups``, or both. One is left out if neither all of its subsets nor all beginnings of the
        random orders were evaluated.
    """
    kinds = {"channels": list(channels.names)} | ({"groups": list(channels.units)} if channels.grouped else {})
    count = sum(supports) if images is None else images
    empty = knows_nothing([support / count for support in supports], several=images is not None)
    found = {}
    for kind, units in kinds.items():
        players = {frozenset[str](): empty}
        for key, one in figures.items():
            subset = channels.subset(key)
            inside = channels.split(subset) if kind == "groups" else [channels.names[i] for i in subset]
            if inside is not None:
                players[frozenset(inside)] = {figure: one[figure] for figure in empty}
        orders = known_orders(units, players)
        exact = len(players) == 2 ** len(units)
        if exact or orders:
            sign = "+" if kind == "groups" else ","
            rankings = {
                figure: rank(units, {subset: one[figure] for subset, one in players.items()}, orders, sign)
                for figure in empty
            }
            known = {"n": count, "exact": exact, "orders": 0 if exact else len(orders)}
            values = {figure: asdict(ranking) for figure, ranking in rankings.items()}
            found[kind] = known | {figure: one | {"best": list(one["best"])} for figure, one in values.items()}
    return found


def knows_nothing(shares: Sequence[float], *, several: bool) -> dict[str, float]:
    """The figures of always giving the same answer, from the share of images that each class or label has.

    The answer is the most frequent class, or each of several labels that more than half of the images have. Average
    precision of equal probabilities is the label's share.
    """
    if several:
        held = [share for share in shares if share]
        given = [2 * share / (1 + share) for share in shares if share > 0.5]
        return {"mean_average_precision": sum(held) / max(len(held), 1), "macro_f1": sum(given) / len(shares)}
    share = max(shares)
    return {"accuracy": share, "macro_f1": 2 * share / (1 + share) / len(shares)}


def rank(players: Sequence[str], values: Values, orders: Sequence[Sequence[str]], sign: str = ",") -> Ranking:
    """The ranking by one figure; names of a subset are joined by ``sign``."""
    everything = frozenset(players)
    shares = exact_values(players, values) if len(values) == 2 ** len(players) else sampled_values(orders, values)
    full = values[everything]

    def choose(candidates: Sequence[frozenset[str]]) -> Choice:
        best = min(candidates, key=lambda subset: (-values[subset], [name not in subset for name in players]))
        return Choice(len(best), sign.join(name for name in players if name in best), values[best])

    sizes = {
        size: group
        for size in range(1, len(players) + 1)
        if (group := [subset for subset in values if len(subset) == size])
    }
    near = [[subset for subset in group if values[subset] >= full - CLOSE - 1e-9] for group in sizes.values()]
    return Ranking(
        empty=values[frozenset()],
        full=full,
        values={
            name: Contribution(
                *shares[name],
                adds=None if (rest := values.get(everything - {name})) is None else full - rest,
                alone=values.get(frozenset({name})),
            )
            for name in players
        },
        smallest=choose(next(group for group in near if group)),
        best=tuple(map(choose, sizes.values())),
    )


def exact_values(players: Sequence[str], values: Values) -> dict[str, tuple[float, float | None]]:
    """Shapley values from the values of all subsets, the empty one too; without a standard error."""
    count = len(players)
    shares: dict[str, tuple[float, float | None]] = {}
    for name in players:
        others = [other for other in players if other != name]
        total = 0.0
        for size in range(count):
            gains = (values[frozenset(s) | {name}] - values[frozenset(s)] for s in combinations(others, size))
            total += sum(gains) / comb(count - 1, size)
        shares[name] = total / count, None
    return shares


def sampled_values(orders: Sequence[Sequence[str]], values: Values) -> dict[str, tuple[float, float | None]]:
    """Means of what each player adds to those before it, over at least two orders, and their standard errors."""
    gains: dict[str, list[float]] = {name: [] for name in orders[0]}
    for order in orders:
        for place, name in enumerate(order):
            gains[name].append(values[frozenset(order[: place + 1])] - values[frozenset(order[:place])])
    return {name: (fmean(found), stdev(found) / sqrt(len(found))) for name, found in gains.items()}


def known_orders(players: Sequence[str], values: Mapping[frozenset[str], object]) -> list[list[str]]:
    """The random orders if all of their beginnings were evaluated, else none: a part of them may be one-sided."""
    orders = [[players[i] for i in order] for order in draw_orders(len(players))]
    beginnings = (frozenset(order[:size]) for order in orders for size in range(len(order) + 1))
    return orders if all(subset in values for subset in beginnings) else []


def draw_orders(count: int) -> list[list[int]]:
    """The random orders of ``count`` channels of which evaluations of many channels take the beginnings.

    They are the same every time: ``MOST_ORDERS``, or fewer for more than 16 channels, so that all beginnings together
    are about ``PASSES``; but none is complete for more than ``MOST_PLAYERS``, and the number is ``MOST_ORDERS`` again.
    """
    generator = np.random.default_rng([SEED, count])
    number = MOST_ORDERS if count > MOST_PLAYERS else min(MOST_ORDERS, PASSES // max(count, 1))
    return [generator.permutation(count).tolist() for _ in range(number)]
