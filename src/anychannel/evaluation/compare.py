"""Paired comparisons on the same images: of two classifiers, of two subsets, of one network with dedicated ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from math import exp, fsum, lgamma, log
from typing import Any

import numpy as np

from anychannel.evaluation.evaluate import evaluate
from anychannel.results.evaluation import Evaluation
from anychannel.results.gap import GapTable, SubsetGap
from anychannel.results.metrics import compute_metrics
from anychannel.utils.several_labels import label_figures, resample_precision

CONFIDENCE = 0.95
"""Level of the bootstrap intervals."""
RESAMPLES = 10_000


@dataclass(frozen=True)
class Comparison:
    """A second classifier against a first on the same ``n`` images; accuracies are fractions.

    ``difference`` is second minus first, with its bootstrap interval ``low`` to ``high``. ``only_first`` and
    ``only_second`` count the images that only one of them gets right; ``p_value`` is McNemar's exact test, two-sided.
    ``balanced_accuracy`` and ``macro_f1`` hold those of the first and of the second; None if only the correct images
    are known.

    If images may have several labels, mean average precision takes the place of accuracy and ``micro_f1`` that of
    balanced accuracy. McNemar's test and its counts are then None: an image is not simply right or wrong.
    """

    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    confidence: float
    only_first: int | None
    only_second: int | None
    p_value: float | None
    balanced_accuracy: tuple[float, float] | None = None
    macro_f1: tuple[float, float] | None = None
    micro_f1: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if (name, value) != ("micro_f1", None)}


def compare(
    first: Any,
    second: Any,
    data: Any = None,
    *,
    subset: str | None = None,
    second_subset: str | None = None,
    channels: Any = None,
    **options: Any,
) -> Comparison:
    """Compare the predictions of two evaluations, or of two models, on the images that have the channels for both.

    Args:
        first, second: what ``evaluate`` returned; or models, if ``data`` are given. One twice, with two subsets,
            compares these.
        data: images for the models: a split, or a PyTorch ``Dataset`` or ``DataLoader``; see ``evaluate``.
        subset: of the first, as ``"R,G"`` or, of groups, ``"camera+lidar"``; None uses its full set.
        second_subset: of the second; None uses the first's.
        channels: names of the planes of a ``Dataset`` or ``DataLoader``; see ``evaluate``.
        options: further options of ``evaluate``, if ``data`` are given: ``batch_size``, ``device``, ...

    Raises:
        TypeError: evaluations are given with data, or models without.
        ValueError: the images are not the same (by path, label and, if known, content), no image has the channels for
            both, or an evaluation lacks the subset.
    """
    evaluated = [isinstance(each, Evaluation) for each in (first, second)]
    if data is None:
        if not all(evaluated):
            raise TypeError("compare takes two evaluations (of evaluate), or two models and data to compare them on")
        if channels is not None or options:
            raise TypeError(f"{', '.join(['channels', *options])} are about reading data; give data too")
    else:
        if any(evaluated):
            raise TypeError("evaluations have their images already; leave data out, or give two models")
        first_key = subset or first.channels.key(first.channels.full)
        keys = (first_key, second_subset or first_key)
        first, second = (
            evaluate(model, data, channels=channels, subsets=key, **options)
            for model, key in zip((first, second), keys, strict=True)
        )
    key = subset or first.full
    pair = pair_rows(first, second, key, second_subset or key)
    if first.thresholds is not None:
        return compare_labels(pair, first, second)
    balanced, macro = zip(*(class_figures(*one) for one in pair), strict=True)
    return replace(compare_correct(*map(is_correct, pair)), balanced_accuracy=balanced, macro_f1=macro)


def compare_correct(first: np.ndarray, second: np.ndarray, *, confidence: float = CONFIDENCE) -> Comparison:
    """Compare which images two classifiers get right: (N,) booleans each, N > 0, by bootstrap and McNemar's test."""
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"expected two records of the same images, got shapes {first.shape} and {second.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    n = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = bootstrap_mean(second.astype(float) - first, confidence)
    return Comparison(
        n=n,
        first=float(first.mean()),
        second=float(second.mean()),
        difference=(only_second - only_first) / n,
        low=low,
        high=high,
        confidence=confidence,
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar(only_first, only_second),
    )


def compare_labels(pair: tuple[Answers, Answers], *evaluations: Evaluation) -> Comparison:
    """Compare answers to images that may have several labels by mean average precision, with a paired bootstrap."""
    found = pair_figures(pair, evaluations)
    (first, second), (micro, macro) = (
        [one["mean_average_precision"] for one in found],
        [(found[0][name], found[1][name]) for name in ("micro_f1", "macro_f1")],
    )
    low, high = interval_of(resample_difference(pair), CONFIDENCE)
    return Comparison(
        n=len(pair[0][0]),
        first=first,
        second=second,
        difference=second - first,
        low=low,
        high=high,
        confidence=CONFIDENCE,
        only_first=None,
        only_second=None,
        p_value=None,
        macro_f1=macro,
        micro_f1=micro,
    )


def pair_figures(pair: tuple[Answers, Answers], evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """``label_figures`` of both answers, at the thresholds of their evaluations."""
    return [
        label_figures(labels, table, np.asarray(evaluation.thresholds))
        for (labels, table), evaluation in zip(pair, evaluations, strict=True)
    ]


def resample_difference(pair: tuple[Answers, Answers]) -> np.ndarray:
    """(R,) differences in mean average precision, second minus first, over bootstrap samples of the images."""
    (labels, table), (_, other) = pair
    first, second = resample_precision(labels, table, other, rounds=10)
    differences: np.ndarray = second - first
    return differences


def interval_of(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile interval of bootstrap values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_mean(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of (N,) values (Efron, 1979), from a fixed seed.

    The values take few levels, so that a resample is one multinomial draw of the levels' counts.
    """
    levels, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(values), counts / len(values), size=RESAMPLES)
    return interval_of(draws @ levels / len(values), confidence)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's test in its exact, two-sided form.

    If two classifiers are equally good, each is right on half of the images on which they disagree, so that the
    smaller count is binomial with p = 1/2 (McNemar, Psychometrika 1947; Dietterich, Neural Computation 1998). The
    result is the probability of a split at least as uneven; 1 if they never disagree.
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    logs = (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(smaller + 1))
    return min(1.0, 2 * fsum(map(exp, logs)))


Answers = tuple[np.ndarray, np.ndarray]
"""True classes (n,), or labels (n, K), and probabilities (n, K) of the same images."""


def is_correct(answers: Answers) -> np.ndarray:
    """(n,) booleans, which answers are correct."""
    labels, table = answers
    right: np.ndarray = table.argmax(axis=1) == labels
    return right


def class_figures(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Balanced accuracy and macro F1; see ``compute_metrics``."""
    figures = compute_metrics(labels, probabilities)
    return figures["balanced_accuracy"], figures["macro"]["f1"]


def pair_rows(first: Evaluation, second: Evaluation, subset: str, second_subset: str) -> tuple[Answers, Answers]:
    """The answers of two evaluations to the images that both classified, in one order; raises as ``compare``."""
    if (first.thresholds is None) != (second.thresholds is None):
        raise ValueError("one evaluation is of images that may have several labels, the other of one class each")
    subset, second_subset = first.own_key(subset), second.own_key(second_subset)
    first.correct(subset), second.correct(second_subset)  # raise if there are no predictions
    rows = first.rows(subset), second.rows(second_subset)
    if first.present is None and second.present is None:
        check_same_images(first, second)
    names = [number_repeats(evaluation.paths) for evaluation in (first, second)]
    positions = [{names[i][row]: position for position, row in enumerate(rows[i])} for i in (0, 1)]
    common = [name for name in positions[0] if name in positions[1]]
    if not common:
        raise ValueError(
            f"no image was answered by both, of {len(rows[0])} with {subset} and {len(rows[1])} with {second_subset}; "
            "compare subsets that some images have together, of the same split of the same data"
        )
    mine, theirs = ([found[name] for name in common] for found in positions)
    if not np.array_equal(first.labels[rows[0][mine]], second.labels[rows[1][theirs]]):
        raise ValueError("the evaluations have other labels for the same images; evaluate both on the same data")
    check_same_content(first, second, rows[0][mine], rows[1][theirs])
    labels = first.labels[rows[0][mine]]
    return (labels, first.probabilities[subset][mine]), (labels, second.probabilities[second_subset][theirs])


def number_repeats(paths: Sequence[str]) -> list[tuple[str, int]]:
    """Pair each path with the number of its earlier occurrences, so that an image listed twice counts twice."""
    counters: defaultdict[str, count[int]] = defaultdict(count)
    return [(path, next(counters[path])) for path in paths]


def check_same_images(first: Evaluation, second: Evaluation) -> None:
    """Raise ValueError if the images' paths or labels differ."""
    if first.paths != second.paths or not np.array_equal(first.labels, second.labels):
        raise ValueError(
            f"the evaluations are not of the same images: {len(first.paths)} of {first.split!r} and "
            f"{len(second.paths)} of {second.split!r}; evaluate both on the same split of the same data"
        )


def check_same_content(first: Evaluation, second: Evaluation, rows: np.ndarray, second_rows: np.ndarray) -> None:
    """Raise ValueError if images at paired positions have known and different digests."""
    if first.digests is None or second.digests is None:
        return
    pairs = zip(rows.tolist(), second_rows.tolist(), strict=True)
    other = [row for row, twin in pairs if first.digests[row] != second.digests[twin]]
    if other:
        raise ValueError(
            f"the evaluations are of other images with the same paths: {len(other)} of {len(rows)} differ in content, "
            f"the first being {first.paths[other[0]]}; evaluate both on the same data"
        )


def compare_with_dedicated(adaptive: Sequence[Evaluation], dedicated: Mapping[str, Sequence[Evaluation]]) -> GapTable:
    """Compare a network for every subset with networks dedicated to one subset each, seed by seed.

    Raises ValueError as ``compare``, and if the numbers of seeds or the images of two seeds differ.
    """
    if not adaptive or not dedicated:
        raise ValueError("a gap table needs at least one adaptive evaluation and one dedicated to a subset")
    pairs = {}
    for seeds in (adaptive, *dedicated.values()):
        for other in seeds[1:]:
            check_same_images(seeds[0], other)
    for key, alone in dedicated.items():
        if len(alone) != len(adaptive):
            raise ValueError(f"{len(adaptive)} seeds of the adaptive network, but {len(alone)} dedicated to {key}")
        pairs[key] = [pair_rows(one, other, key, other.full) for one, other in zip(adaptive, alone, strict=True)]
    if adaptive[0].thresholds is not None:
        rows = [gap_of_labels(key, found, adaptive, dedicated[key]) for key, found in pairs.items()]
        return GapTable(max(row.n for row in rows), CONFIDENCE, tuple(rows))
    table = gap_table({key: [(is_correct(a), is_correct(b)) for a, b in found] for key, found in pairs.items()})
    rows = []
    for row in table.rows:
        sides = [[class_figures(*one) for one in side] for side in zip(*pairs[row.subset], strict=True)]
        (balanced, macro), (their_balanced, their_macro) = (tuple(zip(*side, strict=True)) for side in sides)
        rows.append(
            replace(
                row,
                adaptive_balanced_accuracy=balanced,
                dedicated_balanced_accuracy=their_balanced,
                adaptive_macro_f1=macro,
                dedicated_macro_f1=their_macro,
            )
        )
    return replace(table, rows=tuple(rows))


def gap_of_labels(
    key: str,
    pairs: Sequence[tuple[Answers, Answers]],
    adaptive: Sequence[Evaluation],
    dedicated: Sequence[Evaluation],
) -> SubsetGap:
    """One row of the gap table for images that may have several labels, by mean average precision."""
    found = [pair_figures(pair, both) for *both, pair in zip(adaptive, dedicated, pairs, strict=True)]
    ours, theirs = ([each["mean_average_precision"] for each in side] for side in zip(*found, strict=True))
    macro = [[each["macro_f1"] for each in side] for side in zip(*found, strict=True)]
    low, high = interval_of(np.mean([resample_difference((b, a)) for a, b in pairs], axis=0), CONFIDENCE)
    return SubsetGap(
        subset=key,
        adaptive=tuple(ours),
        dedicated=tuple(theirs),
        difference=float(np.mean([a - b for a, b in zip(ours, theirs, strict=True)])),
        low=low,
        high=high,
        p_values=(),
        n=len(pairs[0][0][0]),
        adaptive_macro_f1=tuple(macro[0]),
        dedicated_macro_f1=tuple(macro[1]),
    )


def gap_table(pairs: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> GapTable:
    """Compute the gap table from records of which images the adaptive and the dedicated network get right.

    ``pairs`` holds them for each subset's key, seed by seed: (n,) booleans over the same images in the same order.
    """
    rows = []
    for key, records in pairs.items():
        differences = np.mean([one.astype(float) - other for one, other in records], axis=0)
        low, high = bootstrap_mean(differences)
        rows.append(
            SubsetGap(
                subset=key,
                adaptive=tuple(float(one.mean()) for one, _ in records),
                dedicated=tuple(float(other.mean()) for _, other in records),
                difference=float(differences.mean()),
                low=low,
                high=high,
                p_values=tuple(mcnemar(int((other & ~one).sum()), int((one & ~other).sum())) for one, other in records),
                n=len(differences),
            )
        )
    return GapTable(max(row.n for row in rows), CONFIDENCE, tuple(rows))
