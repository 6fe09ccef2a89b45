"""The gap table against figures worked out by hand and the paired tests it is made of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anychannel.evaluation import Evaluation, compare, compare_with_dedicated

LABELS = np.array([0, 1] * 40)
PATHS = tuple(f"{i}.png" for i in range(len(LABELS)))


def make(full, wrong, paths=PATHS):
    """An evaluation in which the first ``wrong[key]`` images of each subset are answered wrongly."""
    answers = {key: np.where(np.arange(len(LABELS)) < count, 1 - LABELS, LABELS) for key, count in wrong.items()}
    return Evaluation(
        split="test",
        classes=("x", "y"),
        full=full,
        subsets={key: {} for key in wrong},
        sampled=False,
        note="",
        paths=paths,
        labels=LABELS,
        probabilities={key: np.eye(2)[answer] for key, answer in answers.items()},
    )


def test_rows_hold_each_seeds_accuracies_and_their_mean_difference():
    adaptive = [make("R,G", {"R,G": 8, "R": 20}), make("R,G", {"R,G": 16, "R": 24})]
    dedicated = {"R,G": [make("R,G", {"R,G": 8}), make("R,G", {"R,G": 8})], "R": [make("R", {"R": 28})] * 2}
    table = compare_with_dedicated(adaptive, dedicated)
    both, red = table.rows
    assert (both.subset, both.adaptive, both.dedicated) == ("R,G", (0.9, 0.8), (0.9, 0.9))
    assert both.difference == pytest.approx(-0.05)
    assert red.difference == pytest.approx((0.1 + 0.05) / 2)
    assert table.mean == pytest.approx((both.difference + red.difference) / 2)
    assert table.worst is both
    assert table.n == len(LABELS)
    assert json.loads(json.dumps(table.to_dict()))["worst"]["subset"] == "R,G"


def test_one_seed_says_what_the_paired_comparison_says():
    one, other = make("R,G", {"R,G": 8, "R": 20}), make("R", {"R": 31})
    row = compare_with_dedicated([one], {"R": [other]}).rows[0]
    pair = compare(other, one, subset="R")
    assert (row.difference, row.low, row.high) == (pytest.approx(pair.difference), pair.low, pair.high)
    assert row.p_values == (pair.p_value,)


def test_seeds_that_disagree_on_the_same_images_narrow_the_interval_over_images():
    low, high = make("R", {"R": 10}), make("R", {"R": 30})
    row = compare_with_dedicated([low, high], {"R": [high, low]}).rows[0]
    assert row.difference == row.low == row.high == 0
    assert max(row.p_values) < 0.01


@pytest.mark.parametrize(
    ("adaptive", "dedicated", "message"),
    [
        ([], {"R": []}, "at least one adaptive evaluation"),
        ([make("R", {"R": 1})], {}, "at least one adaptive evaluation"),
        ([make("R", {"R": 1})] * 2, {"R": [make("R", {"R": 1})]}, "2 seeds of the adaptive network, but 1 dedicated"),
        ([make("R", {"R": 1})], {"G": [make("G", {"G": 1})]}, "no predictions for the subset 'G'; this evaluation has"),
        ([make("R", {"R": 1})], {"R": [make("R", {"R": 1}, PATHS[::-1])]}, "not of the same images"),
        (
            [make("R", {"R": 1}), make("R", {"R": 1}, PATHS[::-1])],
            {"R": [make("R", {"R": 1}), make("R", {"R": 1}, PATHS[::-1])]},
            "not of the same images",
        ),
    ],
)
def test_what_cannot_be_paired_is_refused(adaptive, dedicated, message):
    with pytest.raises(ValueError, match=message):
        compare_with_dedicated(adaptive, dedicated)
