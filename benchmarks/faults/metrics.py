"""Metrics against scikit-learn, against plain loops, and against figures worked out by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference

from anychannel.evaluation.compare import bootstrap_mean, compare_correct, mcnemar
from anychannel.results.metrics import MetricError, compute_metrics
from benchmarks.faults.case import Case

AGREES = "Every figure of an evaluation is the one that scikit-learn or a plain loop computes."
BY_HAND = "Every figure is the one that is worked out by hand, also where rates are not defined."
REFUSED = "Labels and probabilities that are none are refused, and the message names the image."
PAIRED = "Paired comparisons give McNemar's exact probability and the counts of a plain loop."

SHAPES = ("even", "skewed", "one class only", "classes without images", "ties", "certain", "uniform", "half precision")


def draw(shape: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and probabilities (N, K) of one kind."""
    random = np.random.default_rng([seed, SHAPES.index(shape)])
    count, classes = int(random.integers(1, 200)), int(random.integers(2, 30))
    labels = random.integers(0, classes, count)
    if shape == "skewed":
        labels = np.minimum(random.geometric(0.4, count) - 1, classes - 1)
    elif shape == "one class only":
        labels[:] = classes - 1
    elif shape == "classes without images":
        labels = labels // 3
    scale = {"certain": 60.0, "uniform": 0.0}.get(shape, float(random.uniform(0.1, 6)))
    scores = scale * random.normal(size=(count, classes))
    scores[np.arange(count), labels] += scale * random.uniform(0, 1.5)
    if shape == "ties":
        scores = scores.round()
    table = np.exp(scores - scores.max(axis=1, keepdims=True))
    table /= table.sum(axis=1, keepdims=True)
    return labels, table.astype(np.float16 if shape == "half precision" else np.float32)


def close(mine: Any, theirs: Any, tolerance: float = 1e-6) -> None:
    assert np.allclose(mine, theirs, rtol=tolerance, atol=tolerance), f"{mine} is not {theirs}"


def agrees(shape: str, seed: int, _: Path) -> None:
    """All figures of one drawn table."""
    labels, table = draw(shape, seed)
    found = compute_metrics(labels, table)
    exact = table.astype(np.float64)
    every, predicted = list(range(table.shape[1])), table.argmax(axis=1)
    assert found["n"] == len(labels)
    close(found["accuracy"], reference.accuracy_score(labels, predicted))
    assert found["confusion"] == reference.confusion_matrix(labels, predicted, labels=every).tolist()
    for kind, score in (
        ("precision", reference.precision_score),
        ("recall", reference.recall_score),
        ("f1", reference.f1_score),
    ):
        rates = score(labels, predicted, labels=every, average=None, zero_division=0)
        close([row[kind] for row in found["per_class"]], rates)
        close(found["macro"][kind], np.mean(rates))
    assert [row["support"] for row in found["per_class"]] == np.bincount(labels, minlength=len(every)).tolist()
    own = [row[label] for row, label in zip(exact.tolist(), labels.tolist(), strict=True)]
    close(found["loss"], sum(-math.log(max(value, np.finfo(np.float32).tiny)) for value in own) / len(own))
    if shape != "half precision" and min(own) > 1e-15:  # scikit-learn takes no smaller one
        close(found["loss"], reference.log_loss(labels, exact / exact.sum(axis=1, keepdims=True), labels=every), 1e-5)
    distinct = all(len(set(row)) == len(row) for row in exact.tolist())  # scikit-learn ranks ties the other way round
    if distinct and table.shape[1] > 5:
        close(found["top5"], reference.top_k_accuracy_score(labels, exact, k=5, labels=every))
    close(found["top5"], top_k_by_loop(labels, exact, 5))
    close(found["ece"], calibration_by_loop(labels, exact, 15))


def top_k_by_loop(labels: np.ndarray, table: np.ndarray, k: int) -> float:
    right = 0
    for label, row in zip(labels.tolist(), table.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda number: (-row[number], number))
        right += label in order[:k]
    return right / len(labels)


def calibration_by_loop(labels: np.ndarray, table: np.ndarray, bins: int) -> float:
    total = 0.0
    rows = [
        (max(row), row.index(max(row)) == label) for row, label in zip(table.tolist(), labels.tolist(), strict=True)
    ]
    for number in range(bins):
        inside = [
            (confidence, right)
            for confidence, right in rows
            if min(max(math.ceil(confidence * bins) - 1, 0), bins - 1) == number
        ]
        if inside:
            confidences, rights = zip(*inside, strict=True)
            total += len(inside) / len(rows) * abs(sum(rights) / len(inside) - sum(confidences) / len(inside))
    return total


EIGHTHS = [[0.75, 0.25], [0.25, 0.75], [0.75, 0.25], [0.5, 0.5]]
WORKED: dict[str, tuple[list[int], list[list[float]], dict[str, Any]]] = {
    "all right": ([0, 1], [[1, 0], [0, 1]], {"accuracy": 1, "loss": 0, "ece": 0, "top5": 1}),
    "all wrong": ([1, 0], [[1, 0], [0, 1]], {"accuracy": 0, "ece": 1, "top5": 1}),
    "a certain mistake": ([1], [[1, 0]], {"loss": -math.log(np.finfo(np.float32).tiny)}),
    "one image": ([0], [[0.5, 0.5]], {"accuracy": 1, "loss": math.log(2), "ece": 0.5}),
    "a tie goes to the first class": ([1], [[0.5, 0.5]], {"accuracy": 0, "ece": 0.5}),
    "three of four": ([0, 1, 0, 1], EIGHTHS, {"accuracy": 0.75, "loss": (3 * math.log(4 / 3) + math.log(2)) / 4}),
    "calibration of three of four": ([0, 1, 0, 1], EIGHTHS, {"ece": 0.75 * 0.25 + 0.25 * 0.5}),
    "a uniform guess": ([0, 1, 2, 3], [[0.25] * 4] * 4, {"accuracy": 0.25, "loss": math.log(4), "ece": 0}),
    "fewer than five classes": ([2], [[0.6, 0.3, 0.1]], {"top5": 1, "accuracy": 0}),
    "sixth of six": ([5], [[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]], {"top5": 0}),
    "fifth of six by its number": ([4], [[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]], {"top5": 1}),
    "a class without images": (
        [0, 0],
        [[1, 0, 0], [0, 1, 0]],
        {"macro": {"precision": 1 / 3, "recall": 1 / 6, "f1": 2 / 9}, "accuracy": 0.5},
    ),
    "a class that is never predicted": (
        [0, 1, 1, 0],
        [[1, 0]] * 4,
        {"macro": {"precision": 0.25, "recall": 0.5, "f1": 1 / 3}, "confusion": [[2, 0], [2, 0]]},
    ),
    "precision and recall of three classes": (
        [0, 0, 1, 2],
        [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]],
        {
            "confusion": [[1, 1, 0], [0, 1, 0], [0, 1, 0]],
            "macro": {"precision": (1 + 1 / 3) / 3, "recall": 0.5, "f1": (2 / 3 + 0.5) / 3},
        },
    ),
}


def worked(labels: list[int], table: list[list[float]], expected: dict[str, Any], _: Path) -> None:
    found = compute_metrics(np.array(labels), np.array(table, dtype=np.float32))
    for name, value in expected.items():
        if isinstance(value, dict):
            for kind, rate in value.items():
                close(found[name][kind], rate)
        else:
            close(found[name], value)


GOOD = [[0.5, 0.5], [0.5, 0.5]]
WRONG: dict[str, tuple[Any, Any, str]] = {
    "a row that sums to 3": ([0, 1], [[0.5, 0.5], [1.0, 1.0]], "image 1 sums to 2"),
    "a row of zeros": ([0, 1], [[0.0, 0.0], [0.5, 0.5]], "image 0 sums to 0"),
    "a row that sums to 0.9": ([0, 1], [[0.4, 0.5], [0.5, 0.5]], "image 0 sums to 0.9"),
    "a negative probability": ([0, 1], [[1.2, -0.2], [0.5, 0.5]], "image 0 has -0.2"),
    "NaN": ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "image 1"),
    "infinity": ([0, 1], [[np.inf, 0], [0.5, 0.5]], "image 0"),
    "logits": ([0, 1], [[3.0, -1.0], [2.0, 7.0]], "softmax"),
    "a label too large": ([0, 2], GOOD, "label 2 of image 1"),
    "a negative label": ([0, -1], GOOD, "label -1 of image 1"),
    "no images": ([], np.zeros((0, 2)), "N > 0"),
    "too few labels": ([0], GOOD, "expected labels"),
    "a matrix of labels": ([[0, 1]], GOOD, "expected labels"),
    "one list of probabilities": ([0, 1], [0.5, 0.5], "expected labels"),
}


def refused(labels: Any, table: Any, words: str, _: Path) -> None:
    with pytest.raises(MetricError, match=re.escape(words)):
        compute_metrics(np.array(labels, dtype=np.int64), np.array(table, dtype=np.float32))


def paired(seed: int, _: Path) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 300))
    first, second = random.random(count) < 0.7, random.random(count) < random.uniform(0.4, 0.95)
    found = compare_correct(first, second)
    ours = sum(1 for a, b in zip(first.tolist(), second.tolist(), strict=True) if b and not a)
    theirs = sum(1 for a, b in zip(first.tolist(), second.tolist(), strict=True) if a and not b)
    assert (found.only_second, found.only_first) == (ours, theirs)
    close(found.difference, second.mean() - first.mean())
    total, smaller = ours + theirs, min(ours, theirs)
    exact = min(1.0, 2 * sum(math.comb(total, k) for k in range(smaller + 1)) / 2**total)
    close(mcnemar(theirs, ours), exact, 1e-9)
    assert found.low <= found.difference <= found.high
    assert (found.low, found.high) == bootstrap_mean(second.astype(float) - first)


def cases() -> list[Case]:
    found = [
        Case(AGREES, f"{shape}, seed {seed}", partial(agrees, shape, seed), short=seed == 0)
        for shape in SHAPES
        for seed in range(125)
    ]
    checks: dict[str, tuple[str, Callable[..., None], dict[str, Any]]] = {
        "worked": (BY_HAND, worked, WORKED),
        "refused": (REFUSED, refused, WRONG),
    }
    for promise, check, table in checks.values():
        found += [Case(promise, name, partial(check, *each), short=True) for name, each in table.items()]
    return found + [Case(PAIRED, f"seed {seed}", partial(paired, seed), short=seed == 0) for seed in range(50)]
