"""Figures of several labels an image, against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    precision_recall_curve,
    precision_recall_fscore_support,
)

from anychannel.evaluation import Evaluation, compare, compare_with_dedicated, load_evaluation
from anychannel.results.evaluation import Scores
from anychannel.results.metrics import MetricError, compute_metrics
from anychannel.utils.several_labels import average_precision, best_thresholds, resample_precision

CLASSES = ("forest", "river", "road", "rare")
LIMITS = (0.3, 0.5, 0.62, 0.5)


def make_answers(count=200, seed=0, digits=2, noise=1.0):
    """Labels and probabilities (N, 4), rounded so that many are equal; no image has the last label."""
    random = np.random.default_rng(seed)
    labels = random.random((count, 4)) < (0.6, 0.3, 0.1, 0.0)
    shares = 1 / (1 + np.exp(-(labels * 1.5 + random.normal(0, noise, labels.shape))))
    return labels, shares.round(digits)


def make_evaluation(answers, thresholds=LIMITS):
    labels = answers["R,G"][0]
    probabilities = {key: table for key, (_, table) in answers.items()}
    subsets = {key: compute_metrics(labels, table, CLASSES, thresholds) for key, table in probabilities.items()}
    paths = tuple(f"{i}.png" for i in range(len(labels)))
    return Evaluation("test", CLASSES, "R,G", subsets, False, "", paths, labels, probabilities, thresholds=thresholds)


def test_the_figures_are_those_of_scikit_learn():
    labels, shares = make_answers()
    figures = compute_metrics(labels, shares, CLASSES, LIMITS)
    given, held = shares >= np.array(LIMITS), [0, 1, 2]
    assert figures["n"] == 200
    assert figures["mean_average_precision"] == pytest.approx(average_precision_score(labels[:, held], shares[:, held]))
    assert figures["micro_f1"] == pytest.approx(f1_score(labels, given, average="micro"))
    assert figures["exact_match"] == pytest.approx(accuracy_score(labels, given))
    assert figures["loss"] == pytest.approx(
        np.mean([log_loss(labels[:, k], shares[:, k], labels=[0, 1]) for k in range(4)])
    )
    rates = precision_recall_fscore_support(labels, given, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), rates, strict=True):
        assert [each[name] for each in figures["per_class"]] == pytest.approx(values.tolist())
        if name != "support":
            assert figures["macro"][name] == pytest.approx(values.mean())
    single = [average_precision_score(labels[:, k], shares[:, k]) for k in held]
    assert [each["average_precision"] for each in figures["per_class"]] == [*map(pytest.approx, single), None]
    assert [each["threshold"] for each in figures["per_class"]] == list(LIMITS)


def test_weights_of_images_are_repeated_images():
    labels, shares = make_answers(60)
    weights = np.random.default_rng(1).integers(0, 4, (5, 60))
    found = average_precision(labels[:, 0], shares[:, 0], weights)
    repeated = [average_precision_score(*(np.repeat(each[:, 0], row) for each in (labels, shares))) for row in weights]
    np.testing.assert_allclose(found, repeated)
    assert resample_precision(labels, shares).std() > 0.005


def test_thresholds_have_the_highest_f1():
    labels, shares = make_answers()
    found = best_thresholds(labels, shares)
    for k in range(3):
        precision, recall, _ = precision_recall_curve(labels[:, k], shares[:, k])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert f1_score(labels[:, k], shares[:, k] >= found[k]) == pytest.approx(best)
        assert found[k] not in shares[:, k]  # between two probabilities
    assert found[3] == 0.5  # no image has it


@pytest.mark.parametrize(
    ("labels", "shares", "text"),
    [
        (np.full((2, 2), 2), np.full((2, 2), 0.5), "0 or 1"),
        (np.ones((2, 2)), np.full((2, 2), np.nan), "finite and between 0 and 1, but those of image 0"),
        (np.ones((2, 2)), np.full((2, 3), 0.5), "expected labels and probabilities"),
        (np.zeros((2, 2)), np.full((2, 2), 0.5), "no image has a label"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, shares, text):
    with pytest.raises(MetricError, match=text):
        compute_metrics(labels, shares)


def test_an_evaluation_is_saved_with_gaps_and_shapley_values(tmp_path):
    labels, whole = make_answers(noise=0.7)
    worse, worst = (make_answers(noise=noise)[1] for noise in (1.2, 2.0))
    evaluation = make_evaluation({"R,G": (labels, whole), "R": (labels, worse), "G": (labels, worst)})
    evaluation.save(tmp_path)
    again = load_evaluation(tmp_path)
    assert again.to_dict() == evaluation.to_dict()
    np.testing.assert_array_equal(again.correct("R"), ((worse >= np.array(LIMITS)) == labels).all(axis=1))
    assert set(evaluation.gap["R"]) == {"mean_average_precision", "micro_f1", "macro_f1"}
    scores = Scores.from_dict(json.loads((tmp_path / "evaluation/test.json").read_text()))
    found = {key: one["mean_average_precision"] for key, one in evaluation.subsets.items()}
    assert {key: result.score for key, result in scores.subsets.items()} == found
    assert scores.headline == "mean average precision"
    ranking = scores.shapley["channels"].main
    assert ranking.empty == pytest.approx(labels[:, :3].mean(axis=0).mean())
    assert ranking.values["R"].shapley == pytest.approx((found["R"] - ranking.empty + found["R,G"] - found["G"]) / 2)
    assert scores.subsets["R"].standard_error > 0


def test_answers_are_compared_by_a_paired_bootstrap():
    labels, shares = make_answers(noise=0.7)
    better, other = make_evaluation({"R,G": (labels, shares)}), make_evaluation({"R,G": make_answers(noise=1.6)})
    found = compare(other, better)
    first, second = (one.subsets["R,G"]["mean_average_precision"] for one in (other, better))
    assert (found.first, found.second) == (first, second)
    assert 0 < found.low < found.difference < found.high
    assert (found.p_value, found.only_first, found.only_second) == (None,) * 3
    assert found.micro_f1 == tuple(one.subsets["R,G"]["micro_f1"] for one in (other, better))
    same = compare(better, better)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    table = compare_with_dedicated([other], {"R,G": [better]})
    assert table.rows[0].difference == pytest.approx(-found.difference)
    assert (table.rows[0].low, table.rows[0].high) == pytest.approx((-found.high, -found.low))
    assert "p_values" not in table.to_dict()["rows"][0]
    single = Evaluation("test", CLASSES, "R,G", {}, False, "", better.paths, np.argmax(labels, 1), {"R,G": shares})
    with pytest.raises(ValueError, match="may have several labels, the other of one class each"):
        compare(better, single)
