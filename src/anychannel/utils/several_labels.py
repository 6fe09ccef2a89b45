"""Figures of classifiers that may give an image several labels: average precision, F1 at thresholds, thresholds.

Labels are (N, L) of 0 and 1, and probabilities (N, L), one for each label by itself. A label is given to an image if
its probability is at least the label's threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

UNDECIDED = 0.5
"""The threshold of a label until one is chosen, and of labels that no validation image has."""
RESAMPLES = 100


def label_figures(labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray) -> dict[str, Any]:
    """Figures over all labels, and arrays (L,) with those of each.

    ``mean_average_precision`` is over the labels that an image has, NaN without any. ``micro_f1`` counts the pairs of
    image and label together; ``macro_f1`` is the mean F1 of all labels. ``exact_match`` is the share of images all of
    whose labels are right. ``average_precision`` of a label that no image has is NaN; rates that are not defined are 0.
    """
    truth = np.asarray(labels) > 0
    given = np.asarray(probabilities) >= thresholds
    support, found, right = truth.sum(axis=0), given.sum(axis=0), (truth & given).sum(axis=0)
    f1 = ratio(2 * right, found + support)
    each = np.array([average_precision(*pair)[0] for pair in zip(truth.T, probabilities.T, strict=True)])
    total = int((found + support).sum())
    return {
        "mean_average_precision": float(each[support > 0].mean()) if support.any() else float("nan"),
        "micro_f1": 2 * int(right.sum()) / total if total else 0.0,
        "macro_f1": float(f1.mean()),
        "exact_match": float((truth == given).all(axis=1).mean()),
        "average_precision": each,
        "precision": ratio(right, found),
        "recall": ratio(right, support),
        "f1": f1,
        "support": support,
    }


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part by whole, 0 where the whole is 0."""
    found: np.ndarray = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return found


def average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) sums over the distinct scores of precision times the recall gained there, highest score first.

    ``truth`` and ``scores`` are (N,); ``weights`` (R, N) say how often each image counts, once by default. NaN if no
    image has the label. This is scikit-learn's ``average_precision_score``.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    counts = np.ones((1, len(truth))) if weights is None else weights[:, order]
    hits = np.cumsum(counts * truth[order], axis=1)[:, ends]
    precision = hits / np.maximum(np.cumsum(counts, axis=1)[:, ends], 1)
    gained = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (precision * gained).sum(axis=1) / hits[:, -1]
    return found


def resample_precision(labels: np.ndarray, *tables: np.ndarray, rounds: int = 1) -> np.ndarray:
    """Mean average precision of each table of probabilities (N, L) over bootstrap samples: (tables, R).

    There are ``rounds`` times ``RESAMPLES`` samples. The same images are drawn for all tables, from a fixed seed
    (Efron, "Bootstrap Methods", 1979).
    """
    count, random = len(labels), np.random.default_rng(0)
    truth = np.asarray(labels) > 0
    held = np.flatnonzero(truth.any(axis=0)).tolist()
    means = np.empty((len(tables), rounds, RESAMPLES))
    for number in range(rounds):
        weights = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
        for place, table in enumerate(tables):
            each = np.array([average_precision(truth[:, k], table[:, k], weights) for k in held])
            known = np.isfinite(each)
            means[place, number] = np.where(known, each, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return means.reshape(len(tables), -1)


def best_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, ...]:
    """For each label the threshold of the highest F1, half way to the next lower probability.

    Of several the highest. ``UNDECIDED`` for labels that all or no images have.
    """

    def choose() -> Iterator[float]:
        for truth, scores in zip((np.asarray(labels) > 0).T, np.asarray(probabilities, np.float64).T, strict=True):
            if truth.all() or not truth.any():
                yield UNDECIDED
                continue
            order = np.argsort(-scores, kind="stable")
            ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
            f1 = 2 * np.cumsum(truth[order])[ends] / (ends + 1 + truth.sum())
            best = int(f1.argmax())
            lower = scores[order[ends[best + 1]]] if best + 1 < len(ends) else 0.0
            yield float((scores[order[ends[best]]] + lower) / 2)

    return tuple(choose())
