"""Metrics against cases worked out by hand, literal twins and scikit-learn."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, top_k_accuracy_score

from anychannel.results.metrics import (
    MetricError,
    balanced_accuracy,
    compute_metrics,
    expected_calibration_error,
    top_k_accuracy,
)
from tests.reference import metrics as literal

# truth 0 0 1 1; predictions 0 1 1 1; class 2 is absent and never predicted
LABELS = np.array([0, 0, 1, 1])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.25, 0.5, 0.25], [0.1, 0.9, 0.0]])


def random_case(seed, n=200, k=7, ties=False):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(k, 0.3), size=n)
    if ties:
        probabilities = np.round(probabilities, 1)
    return generator.integers(k, size=n), probabilities


def test_a_case_worked_out_by_hand():
    metrics = compute_metrics(LABELS, PROBABILITIES, ["ant", "bee", "cat"])
    assert metrics["n"] == 4
    assert metrics["accuracy"] == metrics["balanced_accuracy"] == 0.75
    assert metrics["top5"] == 1.0
    assert metrics["loss"] == pytest.approx(-np.log([0.8, 0.3, 0.5, 0.9]).mean())
    assert metrics["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    ant, bee, cat = metrics["per_class"]
    assert ant == {"class": "ant", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert bee == {"class": "bee", "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8, "support": 2}
    assert cat == {"class": "cat", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert metrics["macro"]["precision"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics["macro"]["recall"] == pytest.approx(0.5)
    assert metrics["macro"]["f1"] == pytest.approx((2 / 3 + 0.8) / 3)
    # every image has a bin of its own: |1 - 0.8| + |0 - 0.6| + |1 - 0.5| + |1 - 0.9|, over 4
    assert metrics["ece"] == pytest.approx(1.4 / 4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("absent", [False, True])
def test_balanced_accuracy_and_macro_f1_are_scikit_learns(seed, absent):
    labels, probabilities = random_case(seed)
    labels = np.where(labels > 3, 0, labels) if absent else np.where(labels > 4, labels % 2, labels)
    answers = probabilities.argmax(1)
    metrics = compute_metrics(labels, probabilities)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without images
        expected = balanced_accuracy_score(labels, answers)
    assert metrics["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert balanced_accuracy(metrics) == pytest.approx(expected, abs=1e-12)  # of runs of earlier versions
    macro = f1_score(labels, answers, labels=range(7), average="macro", zero_division=0)
    assert metrics["macro"]["f1"] == pytest.approx(macro, abs=1e-12)


def test_metrics_are_plain_json():
    metrics = compute_metrics(*random_case(0))
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert [row["class"] for row in metrics["per_class"]] == list("0123456")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_its_literal_twin(seed, bins):
    labels, probabilities = random_case(seed)
    expected = literal.expected_calibration_error(labels, probabilities, bins)
    assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_takes_certainty_and_bin_edges():
    labels = np.array([0, 1])
    assert expected_calibration_error(labels, np.array([[1.0, 0.0], [1.0, 0.0]])) == 0.5
    # 0.5 is the end of the first of two bins, not the start of the second: |1 - 0.5| and |0 - 0.9|, half each
    assert expected_calibration_error(labels, np.array([[0.5, 0.5], [0.9, 0.1]]), 2) == pytest.approx(0.7)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_equals_its_literal_twin(k, ties):
    labels, probabilities = random_case(1, ties=ties)
    assert top_k_accuracy(labels, probabilities, k) == literal.top_k_accuracy(labels, probabilities, k)


def test_loss_and_top_5_equal_scikit_learns():
    labels, probabilities = random_case(2, n=500)
    metrics = compute_metrics(labels, probabilities)
    assert metrics["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(7)), rel=1e-9)
    assert metrics["top5"] == top_k_accuracy_score(labels, probabilities, k=5, labels=range(7))


def test_a_probability_that_underflowed_gives_a_finite_loss():
    assert compute_metrics(np.array([1]), np.array([[1.0, 0.0]]))["loss"] == pytest.approx(87.3365, abs=1e-3)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (
            [0, 1],
            [[0.5, 0.5]],
            r"expected labels \(N,\) and probabilities \(N, K\) with N > 0, got \(2,\) and \(1, 2\)",
        ),
        ([], np.empty((0, 2)), r"with N > 0"),
        ([0, 1], [[0.5, 0.5], [1.0, 1.0]], "each row .* must sum to 1, but that of image 1 sums to 2; give softmax"),
        ([0, 1], [[0.45, 0.5], [0.5, 0.5]], r"image 0 sums to 0\.95"),
        ([0, 1], [[0.0, 0.0], [0.5, 0.5]], "image 0 sums to 0"),
        ([0, 1], [[1.2, -0.2], [0.5, 0.5]], "between 0 and 1"),
        ([0, 2], [[0.5, 0.5]] * 2, r"label 2 of image 1 is outside 0\.\.1"),
        ([0, -1], [[0.5, 0.5]] * 2, r"label -1 of image 1"),
        ([0, 0], [[0.5, 0.5], [np.nan, 0.5]], r"finite and between 0 and 1, but image 1"),
        ([0, 0], [[3.0, -3.0], [0.5, 0.5]], r"image 0 has -3 to 3; give softmax outputs"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, probabilities, message):
    with pytest.raises(MetricError, match=message):
        compute_metrics(np.asarray(labels, dtype=np.int64), np.asarray(probabilities))


def test_a_wrong_number_of_class_names_is_refused():
    with pytest.raises(MetricError, match="2 class names were given for probabilities over 3 classes"):
        compute_metrics(LABELS, PROBABILITIES, ["ant", "bee"])
