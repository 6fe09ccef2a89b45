"""Splits at random: each class or label by itself, or with groups of images kept whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anychannel.data.errors import DataError
from anychannel.data.sources.source import Label, each_label
from anychannel.utils.plurals import plural

HELD_OUT = 0.1
"""Part of each class that goes to validation, and again to test."""
SHARES = {"train": 1 - 2 * HELD_OUT, "val": HELD_OUT, "test": HELD_OUT}
"""Part of the images that each split gets, as closely as whole groups allow."""


def cut(name: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Split the ``count`` images of class ``name`` 80 / 10 / 10 by the seed and the name: numbers by split."""
    held_out = max(1, round(HELD_OUT * count))
    order = np.random.default_rng([seed, *name.encode()]).permutation(count)
    cuts = {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
    return {split: np.sort(rows) for split, rows in cuts.items()}


def split_rows(numbers: np.ndarray, names: tuple[str, ...], seed: int) -> np.ndarray:
    """(N,) names of splits, each class cut as class folders are. Raises DataError if a class has one or two images.

    ``numbers`` are (N,) positions in ``names``; or (N, L) booleans, see ``split_groups``.
    """
    if numbers.ndim == 2:
        return split_groups(numbers, np.arange(len(numbers)), SHARES, seed)
    where = np.empty(len(numbers), dtype="U5")
    for number, name in enumerate(names):
        mine = np.flatnonzero(numbers == number)
        if 0 < len(mine) < 3:
            raise DataError(f"class {name!r} has {len(mine)} images, too few to split; give splits, or 3 or more")
        for split, chosen in cut(name, len(mine), seed).items():
            where[mine[chosen]] = split
    return where


def split_rows_of(labels: Sequence[Label], seed: int) -> list[str]:
    """Names of splits for images with these labels; see ``split_rows``."""
    names = np.unique([str(label) for label in labels])
    found: list[str] = split_rows(encode_labels(labels), tuple(names.tolist()), seed).tolist()
    return found


def encode_labels(labels: Sequence[Label]) -> np.ndarray:
    """(N,) numbers of the different labels, in alphabetical order; (N, L) booleans if images have several labels."""
    if not any(isinstance(label, tuple) for label in labels):
        return np.unique([str(label) for label in labels], return_inverse=True)[1].reshape(-1)
    sets = [set(map(str, each_label(label))) for label in labels]
    return np.array([[name in held for name in sorted(set().union(*sets))] for held in sets], dtype=bool)


def split_groups(
    labels: np.ndarray, groups: np.ndarray, shares: dict[str, float], seed: int, what: str = "groups"
) -> np.ndarray:
    """(N,) names of splits: groups are whole, and each class has about the same shares of its images in each split.

    Groups are taken in random order, those first whose classes are most uneven, and each goes to the split that brings
    the classes' shares closest to ``shares``, as scikit-learn's ``StratifiedGroupKFold`` does. Both arrays are (N,). Of
    several labels an image, ``labels`` are (N, L) booleans; having none, and being an image, are two labels more.
    Raises DataError if there are fewer groups than splits.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    group_of = group_of.reshape(-1)
    if len(names) < len(shares):
        raise DataError(
            f"{what} has {plural(len(names), 'group')}, too few for {' and '.join(shares)}; each split "
            "needs one of its own"
        )
    if labels.ndim == 2:
        rows = np.column_stack([labels, ~labels.any(axis=1), np.ones(len(labels), bool)])
        counts = np.zeros((len(names), rows.shape[1]))
        np.add.at(counts, group_of, rows)
    else:
        counts = np.zeros((len(names), int(labels.max()) + 1))
        np.add.at(counts, (group_of, labels), 1)
    totals = counts.sum(axis=0)
    counts /= np.where(totals, totals, 1)
    order = np.random.default_rng([seed, 4]).permutation(len(names))
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]
    wanted = np.array(list(shares.values()))
    held, members = np.zeros((len(wanted), len(totals))), np.zeros(len(wanted), int)
    of_group = np.empty(len(names), int)
    for place, group in enumerate(order.tolist()):
        # what the squared error of the shares, each relative to what is wanted, gains in each split
        gain = (((2 * held + counts[group]) * counts[group]).sum(axis=1)) / wanted
        empty = members == 0
        if empty.sum() >= len(order) - place:  # the last groups go where there is none
            gain = np.where(empty, gain, np.inf)
        chosen = int(gain.argmin())
        of_group[group] = chosen
        held[chosen] += counts[group]
        members[chosen] += 1
    found: np.ndarray = np.array(list(shares))[of_group[group_of]]
    return found
