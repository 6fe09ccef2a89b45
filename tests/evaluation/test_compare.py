"""Paired comparison against scipy, a literal bootstrap and cases worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from anychannel.evaluation import Evaluation, compare
from anychannel.evaluation.compare import compare_correct, mcnemar
from tests.reference import metrics as literal


def records(n=400, seed=0, first=0.7, gain=0.1):
    generator = np.random.default_rng(seed)
    a = generator.random(n) < first
    return a, np.where(generator.random(n) < gain, True, a)


def make(probabilities, paths=("a", "b", "c", "d"), labels=(0, 1, 0, 1)):
    return Evaluation(
        split="test",
        classes=("x", "y"),
        full="R,G",
        subsets={key: {} for key in probabilities},
        sampled=False,
        note="",
        paths=tuple(paths),
        labels=np.array(labels),
        probabilities={key: np.eye(2)[list(answers)] for key, answers in probabilities.items()},
    )


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (0, 6), (3, 3), (5, 12), (40, 61), (300, 250)])
def test_mcnemar_equals_the_exact_binomial_test(b, c):
    expected = binomtest(c, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, c) == pytest.approx(literal.mcnemar(b, c), rel=1e-12)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_takes_thousands_of_disagreements():
    assert mcnemar(10_000, 10_000) == 1.0
    assert 0 < mcnemar(10_000, 10_400) < 0.01


def test_counts_and_difference_worked_out_by_hand():
    result = compare_correct(np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 1, 1], bool))
    assert (result.n, result.only_first, result.only_second) == (5, 1, 2)
    assert (result.first, result.second) == (0.6, 0.8)
    assert result.difference == pytest.approx(0.2)
    assert result.low <= result.difference <= result.high
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_equals_that_of_resampled_images(confidence):
    a, b = records()
    result = compare_correct(a, b, confidence=confidence)
    low, high = literal.bootstrap_interval(a, b, confidence, 4_000, seed=1)
    # one image of 400 is 0.0025; the two draws differ by less than two of them
    assert result.low == pytest.approx(low, abs=0.005)
    assert result.high == pytest.approx(high, abs=0.005)


def test_a_comparison_repeats():
    assert compare_correct(*records()) == compare_correct(*records())


def test_equal_classifiers_differ_by_nothing():
    a, _ = records()
    result = compare_correct(a, a)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        (np.ones(3, bool), np.ones(4, bool), {}, r"two records of the same images, got shapes \(3,\) and \(4,\)"),
        (np.ones(0, bool), np.ones(0, bool), {}, "two records of the same images"),
        (np.ones(3, bool), np.ones(3, bool), {"confidence": 95}, r"confidence must be in \(0, 1\)"),
    ],
)
def test_records_that_do_not_pair_are_refused(first, second, options, message):
    with pytest.raises(ValueError, match=message):
        compare_correct(first, second, **options)


def test_evaluations_are_compared_subset_by_subset():
    first = make({"R,G": [0, 1, 0, 0], "R": [0, 0, 0, 0]})
    second = make({"R,G": [0, 1, 0, 1], "R": [1, 1, 1, 1]})
    assert compare(first, second).difference == pytest.approx(0.25)
    assert compare(first, second, subset="R").difference == 0
    assert compare(first, first, subset="R,G", second_subset="R").difference == pytest.approx(-0.25)


def test_evaluations_of_other_images_are_refused():
    with pytest.raises(ValueError, match="not of the same images: 4 of 'test' and 4 of 'test'"):
        compare(make({"R,G": [0, 1, 0, 0]}), make({"R,G": [0, 1, 0, 0]}, paths=("a", "b", "c", "e")))


def test_images_of_the_same_paths_and_other_content_are_refused():
    first = make({"R,G": [0, 1, 0, 0]})
    known, other = (replace(first, digests=tuple(digests)) for digests in ("pqrs", "pqxy"))
    with pytest.raises(
        ValueError, match=r"other images with the same paths: 2 of 4 differ in content, the first .* c;"
    ):
        compare(known, other)
    for pair in ((known, known), (known, first), (first, other)):
        assert compare(*pair).n == 4
    lacking = replace(other, present=np.array([[True, True], [True, True], [False, True], [False, True]]))
    lacking = replace(lacking, probabilities={"R,G": lacking.probabilities["R,G"][:2]})
    assert compare(known, lacking).n == 2
    with pytest.raises(ValueError, match="1 of 2 differ in content, the first being b"):
        compare(known, replace(lacking, digests=tuple("pzxy")))


def test_a_subset_without_predictions_is_refused():
    with pytest.raises(ValueError, match=r"no predictions for the subset 'B'; this evaluation has R,G / R"):
        compare(make({"R,G": [0, 1, 0, 0], "R": [0, 0, 0, 0]}), make({"R,G": [0, 1, 0, 0]}), subset="B")
