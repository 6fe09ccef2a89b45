"""Accuracy, balanced accuracy, macro F1, loss, calibration and per-class rates from labels and probabilities.

For images that may have several labels, mean average precision takes the place of accuracy.

Rates are fractions in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from anychannel.utils.several_labels import label_figures, ratio, resample_precision

ECE_BINS = 15
TOLERANCE = 2e-3
"""Largest error of probabilities and of their sum; half precision rounds each by a two-thousandth."""


FIGURES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
LABEL_FIGURES = {
    "mean_average_precision": "mean average precision",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
}
"""The figures that stand for all others, the first before the others: of one class an image, and of several labels."""


def led_by(figures: Mapping[str, str], name: str) -> dict[str, str]:
    """These names of figures with that of ``name`` first; in their order if it is none of them."""
    return {name: figures[name], **figures} if name in figures else dict(figures)


def name_figures(figures: Mapping[str, Any]) -> dict[str, str]:
    """The names of the figures of ``compute_metrics`` that stand for all others."""
    return LABEL_FIGURES if "mean_average_precision" in figures else FIGURES


def main_figures(figures: Mapping[str, Any]) -> dict[str, float]:
    """These figures, of ``compute_metrics`` of any version; NaN if they are not defined."""
    derived = {"balanced_accuracy": balanced_accuracy(figures), "macro_f1": figures["macro"]["f1"]}
    return {name: {**figures, **derived}[name] for name in name_figures(figures)}


def standard_error(
    figure: str,
    score: float,
    n: int,
    supports: Sequence[int],
    recalls: Sequence[float],
    confusion: Sequence[Sequence[int]],
) -> float:
    """Standard error over ``n`` images of a figure: binomial, of balanced accuracy binomial in each class.

    Both are computed with one more correct and one more wrong image (Agresti and Caffo, The American Statistician,
    2000), so that they are not 0 if a few images are all correct, and scaled by (n + 2) / n, since the figure itself is
    not changed. That of macro F1 is the delta method's on the confusion matrix (K, K), at least the binomial one.
    """

    def variance(share: float, count: int) -> float:
        smoothed = (share * count + 1) / (count + 2)
        return smoothed * (1 - smoothed) * (count + 2) / count**2

    binomial = math.sqrt(variance(score, n))
    if figure == "balanced_accuracy" and any(supports):
        parts = [variance(recall, support) for recall, support in zip(recalls, supports, strict=True) if support]
        return math.sqrt(sum(parts)) / len(parts)
    if figure != "macro_f1" or not confusion:
        return binomial
    cells = np.array(confusion, np.float64) / n
    sizes = np.maximum(cells.sum(axis=0) + cells.sum(axis=1), 1e-12)
    f1 = 2 * np.diag(cells) / sizes
    effects = (np.diag(2 / sizes) - (f1 / sizes)[:, None] - (f1 / sizes)[None, :]) / len(cells)
    return max(binomial, math.sqrt((cells * effects**2).sum() / n))


def balanced_accuracy(figures: Mapping[str, Any]) -> float:
    """Mean recall of the classes that have images, of ``compute_metrics`` of any version; NaN if there is none."""
    recalls = [score["recall"] for score in figures["per_class"] if score["support"]]
    return fmean(recalls) if recalls else math.nan


class MetricError(ValueError):
    """Labels and probabilities cannot be scored; the message says why."""


def compute_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
) -> dict[str, Any]:
    """All figures of one channel subset in ``evaluation/test.json``, as plain values.

    From true classes (N,) in 0 .. K-1 and probabilities (N, K), each row a distribution over the K classes: ``n``;
    ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that have images; ``top5`` (top K with fewer
    than 5 classes); ``loss``, the mean of -ln p(true class), of which one that underflows float32 counts 87.3; ``ece``;
    ``per_class``: precision, recall, F1 and support of each class; ``macro``: their unweighted means over all K
    classes; ``confusion``: (K, K) counts, row = truth, column = prediction. Rates that are not defined, for a class
    without images or without predictions, are 0 and count in the means. Raises MetricError if the arguments are not as
    described. Labels (N, L) are several an image: see ``compute_label_metrics``.
    """
    if np.ndim(labels) == 2:
        return compute_label_metrics(labels, probabilities, classes, thresholds)
    labels, probabilities = check(labels, probabilities)
    count = probabilities.shape[1]
    names = [str(number) for number in range(count)] if classes is None else list(classes)
    if len(names) != count:
        raise MetricError(f"{len(names)} class names were given for probabilities over {count} classes")
    predicted, own = probabilities.argmax(axis=1), probabilities[np.arange(len(labels)), labels]
    confusion = np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)
    support, found, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    rates = {"precision": ratio(right, found), "recall": ratio(right, support), "f1": ratio(2 * right, found + support)}
    return {
        "n": len(labels),
        "accuracy": top_k_accuracy(labels, probabilities, 1),
        "balanced_accuracy": float(rates["recall"][support > 0].mean()),
        "top5": top_k_accuracy(labels, probabilities, 5),
        "loss": float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
        "ece": expected_calibration_error(labels, probabilities),
        "macro": {kind: float(np.mean(values)) for kind, values in rates.items()},
        "per_class": [
            {"class": name} | {kind: float(values[k]) for kind, values in rates.items()} | {"support": int(support[k])}
            for k, name in enumerate(names)
        ],
        "confusion": confusion.tolist(),
    }


def compute_label_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
) -> dict[str, Any]:
    """All figures of one channel subset for images that may have several labels, as plain values.

    From labels (N, L) of 0 and 1 and probabilities (N, L): ``n``; ``mean_average_precision`` of the labels that images
    have; ``bootstrap_error``, its standard error over images; ``micro_f1`` and ``exact_match``, the share of images all
    of whose labels are right, at the thresholds (by default 0.5); ``loss``, the mean binary cross-entropy; ``macro``:
    mean precision, recall and F1 of all labels; ``per_class``: these of each label, with average precision (None if no
    image has the label), support and threshold. Raises MetricError if the arguments are not as described.
    """
    labels, probabilities = check_labels(labels, probabilities)
    count = labels.shape[1]
    names = [str(number) for number in range(count)] if classes is None else list(classes)
    limits = np.full(count, 0.5) if thresholds is None else np.asarray(thresholds, np.float64)
    if len(names) != count or limits.shape != (count,):
        raise MetricError(f"{len(names)} names and {len(limits)} thresholds were given for {count} labels")
    found = label_figures(labels, probabilities, limits)
    own = np.where(labels > 0, probabilities, 1 - probabilities)
    kinds = ("precision", "recall", "f1")
    return {
        "n": len(labels),
        "mean_average_precision": found["mean_average_precision"],
        "bootstrap_error": float(resample_precision(labels, probabilities).std(ddof=1)),
        "micro_f1": found["micro_f1"],
        "exact_match": found["exact_match"],
        "loss": float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
        "macro": {kind: float(found[kind].mean()) for kind in kinds},
        "per_class": [
            {"class": name, "average_precision": float(found["average_precision"][k]) if found["support"][k] else None}
            | {kind: float(found[kind][k]) for kind in kinds}
            | {"support": int(found["support"][k]), "threshold": float(limits[k])}
            for k, name in enumerate(names)
        ],
    }


def check_labels(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as booleans and probabilities as float64; raises MetricError as ``compute_label_metrics`` says."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if labels.ndim != 2 or labels.shape != probabilities.shape or not labels.size:
        raise MetricError(f"expected labels and probabilities (N, L), got {labels.shape} and {probabilities.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise MetricError("labels of images with several labels are 0 or 1")
    wrong = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)).all(axis=1))
    if len(wrong):
        raise MetricError(f"probabilities must be finite and between 0 and 1, but those of image {wrong[0]} are not")
    if not labels.any():
        raise MetricError("no image has a label, so that there is nothing to measure")
    return labels > 0, probabilities.astype(np.float64)


def check(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as int64 and probabilities as float64; raises MetricError as ``compute_metrics`` says."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if labels.ndim != 1 or probabilities.ndim != 2 or len(labels) != len(probabilities) or not len(labels):
        raise MetricError(
            f"expected labels (N,) and probabilities (N, K) with N > 0, got {labels.shape} and {probabilities.shape}"
        )
    num_classes = probabilities.shape[1]
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        row = int(outside[0])
        raise MetricError(f"label {labels[row]} of image {row} is outside 0..{num_classes - 1}")
    # NaN fails both comparisons; a softmax may exceed 1 by rounding
    wrong = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1 + TOLERANCE)).all(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise MetricError(
            f"probabilities must be finite and between 0 and 1, but image {row} has {probabilities[row].min():g} to "
            f"{probabilities[row].max():g}; give softmax outputs, and check the network's weights if they are NaN"
        )
    sums = probabilities.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(np.abs(sums - 1) > TOLERANCE)
    if len(wrong):
        row = int(wrong[0])
        raise MetricError(
            f"each row of probabilities must sum to 1, but that of image {row} sums to {sums[row]:g}; give softmax "
            "outputs"
        )
    return labels.astype(np.int64), probabilities.astype(np.float64)


def top_k_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Share of images whose true class is among the ``k`` most probable ones.

    Classes of equal probability rank by their number, as in ``argmax``.
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1)
    return float((ahead < k).mean())


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, K) in float64 that a softmax of the same logits gives if they are divided by a temperature."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny).astype(np.float64)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return found


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS) -> float:
    """Top-label expected calibration error: sum over bins of n_b / N * |accuracy_b - confidence_b|.

    An image's confidence is its highest probability; bin b of B holds the confidences in ((b-1)/B, b/B]. Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, equation 3, with their 15 bins.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    surplus = np.bincount(index, weights=right - confidence, minlength=bins)
    return float(np.abs(surplus).sum() / len(labels))
