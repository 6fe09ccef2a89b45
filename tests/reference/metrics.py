"""Metrics as their sources write them: one image, one bin, one resample at a time."""

from __future__ import annotations

from math import comb

import numpy as np


def expected_calibration_error(labels, probabilities, bins=15):
    """Guo et al. 2017, equations 2 and 3."""
    n = len(labels)
    total = 0.0
    for m in range(1, bins + 1):
        members = []
        for label, row in zip(labels, probabilities, strict=True):
            if (m - 1) / bins < max(row) <= m / bins:
                members.append((label, row))
        if members:
            accuracy = sum(int(np.argmax(row)) == label for label, row in members) / len(members)
            confidence = sum(max(row) for _, row in members) / len(members)
            total += len(members) / n * abs(accuracy - confidence)
    return total


def top_k_accuracy(labels, probabilities, k):
    """Sort each image's classes, the lower number first where two are equal."""
    right = 0
    for label, row in zip(labels, probabilities, strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        right += label in order[:k]
    return right / len(labels)


def bootstrap_interval(first, second, confidence, resamples, seed):
    """Draw images with replacement, pairs kept, and look at the difference of the accuracies each time."""
    generator = np.random.default_rng(seed)
    differences = []
    for _ in range(resamples):
        drawn = generator.integers(len(first), size=len(first))
        differences.append(second[drawn].mean() - first[drawn].mean())
    tail = (1 - confidence) / 2
    return np.quantile(differences, [tail, 1 - tail])


def mcnemar(only_first, only_second):
    """Sum the probabilities of all splits that are no likelier than the one seen."""
    n = only_first + only_second
    seen = comb(n, only_second)
    return sum(comb(n, k) for k in range(n + 1) if comb(n, k) <= seen) / 2**n
