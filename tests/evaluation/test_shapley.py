"""Which channels matter: against a case worked out by hand and a brute-force twin."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest

from anychannel.channels import ChannelSet
from anychannel.results.evaluation import Evaluation, Scores, load_evaluation
from anychannel.results.metrics import compute_metrics
from anychannel.results.shapley import draw_orders, exact_values, rank, rank_channels, sampled_values
from tests.reference.shapley import shapley_by_orders


def powerset(players):
    return [frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size)]


def evaluation(right: dict[str, int], labels=(0, 0, 0, 0, 0, 0, 1, 1, 1, 1), present=None, groups=None) -> Evaluation:
    """Two classes; from each subset the first so many of its images are answered rightly, the others wrongly."""
    labels = np.array(labels)
    full = max(right, key=len)
    blank = Evaluation("test", ("a", "b"), full, {}, False, "", (), labels, {}, present, groups=groups or {})
    tables = {}
    for key, count in right.items():
        own = labels[blank.rows(key)]
        answers = np.where(np.arange(len(own)) < count, own, 1 - own)
        tables[key] = np.eye(2, dtype=np.float32)[answers]
    subsets = {key: compute_metrics(labels[blank.rows(key)], table, ("a", "b")) for key, table in tables.items()}
    paths = tuple(map(str, range(len(labels))))
    return Evaluation("test", ("a", "b"), full, subsets, False, "", paths, labels, tables, present, groups=groups or {})


def test_two_channels_by_hand():
    """v(none) = 0.6, v(A) = 0.7, v(B) = 0.6, v(A,B) = 0.9: A adds 0.1 to none and 0.3 to B; B adds 0 and 0.2."""
    found = evaluation({"A,B": 9, "A": 7, "B": 6}).to_dict()["shapley"]
    assert list(found) == ["channels"]
    assert (found["channels"]["exact"], found["channels"]["n"]) == (True, 10)
    ranking = found["channels"]["accuracy"]
    assert (ranking["empty"], ranking["full"]) == (0.6, 0.9)
    a, b = ranking["values"]["A"], ranking["values"]["B"]
    assert a == pytest.approx({"shapley": 0.2, "standard_error": None, "adds": 0.3, "alone": 0.7})
    assert b == pytest.approx({"shapley": 0.1, "standard_error": None, "adds": 0.2, "alone": 0.6})
    assert [tuple(best.values()) for best in ranking["best"]] == [(1, "A", 0.7), (2, "A,B", 0.9)]
    assert ranking["smallest"]["subset"] == "A,B"
    assert found["channels"]["macro_f1"]["empty"] == pytest.approx((2 * 0.6 / 1.6) / 2)  # recall 1, precision 0.6


@pytest.mark.parametrize("count", range(1, 6))
def test_the_exact_values_are_those_of_all_orders(count):
    random = np.random.default_rng(count)
    players = [f"c{i}" for i in range(count)]
    values = {subset: float(random.random()) for subset in powerset(players)}
    found = {name: value for name, (value, _) in exact_values(players, values).items()}
    assert found == pytest.approx(shapley_by_orders(players, values))


def test_sampled_values_are_near_the_exact_ones_by_their_standard_errors():
    players = [f"c{i}" for i in range(7)]
    weights = np.random.default_rng(0).random(7)
    values = {
        subset: 1 - float(np.exp(-sum(weights[players.index(name)] for name in subset))) for subset in powerset(players)
    }
    orders = [[players[i] for i in order] for order in draw_orders(7)]
    sampled, exact = sampled_values(orders, values), exact_values(players, values)
    assert sum(value for value, _ in sampled.values()) == pytest.approx(values[frozenset(players)])
    for name in players:
        value, error = sampled[name]
        assert 0 < error < 0.1
        assert abs(value - exact[name][0]) < 3.5 * error  # t of 7 degrees of freedom, 7 times: about 7 in 1000


def test_a_figure_to_which_each_channel_adds_the_same_everywhere_is_sampled_without_error():
    players = [f"c{i}" for i in range(8)]
    values = {subset: sum(players.index(name) for name in subset) / 100 for subset in powerset(players)}
    orders = [[players[i] for i in order] for order in draw_orders(8)]
    for name, (value, error) in sampled_values(orders, values).items():
        assert (value, error) == pytest.approx((players.index(name) / 100, 0))


def test_the_smallest_subset_within_one_point_is_the_best_of_its_size():
    values = dict.fromkeys(powerset("ABC"), 0.5) | {frozenset(s): v for s, v in (("ABC", 0.9), ("AB", 0.889))}
    assert rank("ABC", values, []).smallest.size == 3
    values |= {frozenset("AC"): 0.89, frozenset("BC"): 0.91}
    found = rank("ABC", values, [])
    assert (found.smallest.size, found.smallest.subset, found.smallest.value) == (2, "B,C", 0.91)
    assert [best.subset for best in found.best] == ["A", "B,C", "A,B,C"]


def test_only_images_that_have_every_channel_count():
    present = np.array([[1, 1]] * 6 + [[1, 0]] * 4, dtype=bool)
    labels = (0, 0, 0, 1, 1, 1, 0, 1, 0, 1)
    found = evaluation({"A,B": 5, "A": 10, "B": 3}, labels, present).shapley["channels"]
    assert found["n"] == 6
    assert found["accuracy"]["empty"] == 0.5
    assert found["accuracy"]["values"]["A"] == pytest.approx(
        {"shapley": (0.5 + 2 / 6) / 2, "standard_error": None, "adds": 2 / 6, "alone": 1.0}
    )


def test_groups_have_values_of_their_own_and_channels_too_where_they_were_evaluated(tmp_path):
    groups = {"camera": ("R", "G"), "lidar": ("H",)}
    whole = {"R,G,H": 9, "R,G": 8, "H": 7}
    found = evaluation(whole, groups=groups)
    assert list(found.shapley) == ["groups"]
    values = found.shapley["groups"]["accuracy"]["values"]
    assert {name: value["shapley"] for name, value in values.items()} == pytest.approx({"camera": 0.2, "lidar": 0.1})
    assert found.shapley["groups"]["accuracy"]["best"][1]["subset"] == "camera+lidar"
    both = evaluation(whole | {"R,H": 8, "G,H": 8, "R": 6, "G": 6}, groups=groups)
    assert list(both.shapley) == ["channels", "groups"]
    assert both.shapley["groups"] == found.shapley["groups"]
    both.save(tmp_path)
    loaded = load_evaluation(tmp_path)
    assert loaded.to_dict() == both.to_dict()
    assert loaded.own_key("lidar+camera") == "R,G,H"
    read = Scores.from_dict(both.to_dict())
    assert read.shapley["groups"].accuracy.values["camera"].shapley == pytest.approx(0.2)
    assert read.groups == groups


def test_too_few_subsets_give_no_values():
    assert evaluation({"A,B": 9, "A": 7}).shapley == {}
    assert replace(evaluation({"A,B": 7}), probabilities={}).shapley == {}
    assert evaluation({"A,B": 7}).shapley == {}


def test_a_single_channel_has_all_of_the_value():
    assert evaluation({"A": 9}).shapley["channels"]["accuracy"]["values"]["A"]["shapley"] == pytest.approx(0.3)


def test_orders_count_only_if_all_are_complete():
    channels = ChannelSet(tuple(f"c{i}" for i in range(7)))
    keys = {channels.key(order[:size]) for order in draw_orders(7) for size in range(1, 8)}
    figures = {key: {"accuracy": 0.5, "macro_f1": 0.5} for key in keys}
    assert rank_channels(channels, figures, [1, 1])["channels"]["orders"] == 8
    del figures[min(figures)]
    assert rank_channels(channels, figures, [1, 1]) == {}
    assert all(one != other for one, other in pairwise(draw_orders(7)))
