"""Paired comparison of two classifiers, or of two channel subsets, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, fsum, lgamma, log
from typing import Any

import numpy as np

from anychannel.evaluation.result import Evaluation


@dataclass(frozen=True)
class Comparison:
    """How a second classifier does against a first on the same N images.

    Args:
        n: number of images N.
        first, second: their accuracies, as fractions.
        difference: second minus first.
        low, high: bootstrap confidence interval of the difference.
        confidence: its level.
        only_first, only_second: images that only the one gets right.
        p_value: McNemar's exact test, two-sided.
    """

    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    confidence: float
    only_first: int
    only_second: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare_correct(
    first: np.ndarray, second: np.ndarray, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two records of which images were classified correctly.

    The interval is ``bootstrap_mean``'s over the images' differences of -1, 0 or 1, the test ``mcnemar``.

    Args:
        first, second: (N,) booleans, the same images in the same order.
        confidence: level of the interval, in (0, 1).
        resamples: number of bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: the records differ in length, are empty, or a number is out of range.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"expected two records of the same images, got shapes {first.shape} and {second.shape}")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence must be in (0, 1) and resamples at least 1, got {confidence} and {resamples}")
    n = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = bootstrap_mean(second.astype(float) - first, confidence=confidence, resamples=resamples, seed=seed)
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


def bootstrap_mean(
    values: np.ndarray, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron, 1979).

    A resample of values that take few levels is one draw from the multinomial distribution of the levels' counts.

    Args:
        values: (N,).
        confidence: level of the interval.
        resamples, seed: number of draws, and their seed.
    """
    levels, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws @ levels / len(values), [tail, 1 - tail])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's test in its exact, two-sided form.

    If two classifiers are equally good, each is the one that is right on half of the images on which they disagree, so
    that the smaller count is binomial with p = 1/2 (McNemar, Psychometrika 1947; Dietterich, Neural Computation 1998).

    Args:
        only_first, only_second: images that only the one, or only the other, gets right.

    Returns:
        The probability of a split as uneven as this or more; 1 where they never disagree.
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    logs = (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(smaller + 1))
    return min(1.0, 2 * fsum(map(exp, logs)))


def compare(
    first: Evaluation,
    second: Evaluation,
    *,
    subset: str | None = None,
    second_subset: str | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations' predictions on the same images, those that both have the channels for.

    Args:
        first, second: evaluations of the same split; for two subsets of one model, the same evaluation twice.
        subset: key of the channel subset (``"R,G"``); None is the first's full set.
        second_subset: key in the second evaluation, where it is another.
        confidence, resamples, seed: see ``compare_correct``.

    Raises:
        ValueError: the images are not the same (by path, label and, where it is known, content), none has the channels
            for both, or an evaluation lacks the subset (the message lists those it has).
    """
    key = subset or first.full
    records = pair_records(first, second, key, second_subset or key)
    return compare_correct(*records, confidence=confidence, resamples=resamples, seed=seed)


def pair_records(
    first: Evaluation, second: Evaluation, subset: str, second_subset: str
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the images that both evaluations answered each gets right: two records of booleans, image by image.

    Raises:
        ValueError: see ``compare``.
    """
    records = first.correct(subset), second.correct(second_subset)
    if first.present is None and second.present is None:
        check_same_images(first, second)
        check_same_content(first, second, np.arange(len(first.labels)), np.arange(len(second.labels)))
        return records
    names = [number_repeats(evaluation.paths) for evaluation in (first, second)]
    rows = first.rows(subset), second.rows(second_subset)
    places = [{names[i][row]: place for place, row in enumerate(rows[i])} for i in (0, 1)]
    common = [name for name in places[0] if name in places[1]]
    if not common:
        raise ValueError(
            f"no image was answered by both, of {len(rows[0])} with {subset} and {len(rows[1])} with {second_subset}; "
            "compare subsets that some images have together, of the same split of the same data"
        )
    mine, theirs = ([found[name] for name in common] for found in places)
    if not np.array_equal(first.labels[rows[0][mine]], second.labels[rows[1][theirs]]):
        raise ValueError("the evaluations have other labels for the same images; evaluate both on the same data")
    check_same_content(first, second, rows[0][mine], rows[1][theirs])
    return records[0][mine], records[1][theirs]


def number_repeats(paths: Sequence[str]) -> list[tuple[str, int]]:
    """Each path with how often it came before, so that an image that is listed twice is two."""
    seen: dict[str, int] = {}
    result = []
    for path in paths:
        result.append((path, seen.get(path, 0)))
        seen[path] = seen.get(path, 0) + 1
    return result


def check_same_images(first: Evaluation, second: Evaluation) -> None:
    """Refuse to pair evaluations of different images.

    Raises:
        ValueError: paths or labels differ.
    """
    if first.paths != second.paths or not np.array_equal(first.labels, second.labels):
        raise ValueError(
            f"the evaluations are not of the same images: {len(first.paths)} of {first.split!r} and "
            f"{len(second.paths)} of {second.split!r}; evaluate both on the same split of the same data"
        )


def check_same_content(first: Evaluation, second: Evaluation, rows: np.ndarray, second_rows: np.ndarray) -> None:
    """Refuse to pair images that have the same paths and were read from something else, as far as both tell.

    Args:
        first, second: the evaluations.
        rows, second_rows: positions of the images to pair, in the one and in the other.

    Raises:
        ValueError: names the first such image and how many there are.
    """
    if first.digests is None or second.digests is None:
        return
    pairs = zip(rows.tolist(), second_rows.tolist(), strict=True)
    other = [row for row, twin in pairs if first.digests[row] != second.digests[twin]]
    if other:
        raise ValueError(
            f"the evaluations are of other images with the same paths: {len(other)} of {len(rows)} differ in content, "
            f"the first being {first.paths[other[0]]}; evaluate both on the same data"
        )
