"""Splits of images that come without: 80 / 10 / 10 of each class."""

from __future__ import annotations

import numpy as np

from anychannel.data.errors import DataError

HELD_OUT = 0.1
"""Part of each class that goes to validation, and again to test."""


def cut(name: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Split the ``count`` images of class ``name`` 80 / 10 / 10 by the seed and the name: numbers by split."""
    held_out = max(1, round(HELD_OUT * count))
    order = np.random.default_rng([seed, *name.encode()]).permutation(count)
    cuts = {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
    return {split: np.sort(rows) for split, rows in cuts.items()}


def split_rows(numbers: np.ndarray, names: tuple[str, ...], seed: int) -> np.ndarray:
    """(N,) names of splits, each class cut as class folders are. Raises DataError if a class has one or two images."""
    where = np.empty(len(numbers), dtype="U5")
    for number, name in enumerate(names):
        mine = np.flatnonzero(numbers == number)
        if 0 < len(mine) < 3:
            raise DataError(f"class {name!r} has {len(mine)} images, too few to split; give splits, or 3 or more")
        for split, chosen in cut(name, len(mine), seed).items():
            where[mine[chosen]] = split
    return where
