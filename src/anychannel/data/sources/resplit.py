"""Splits by a column of a table: at random with groups kept whole, or by folds.

Images of one patient, scene, plate or plot are alike. If some of them train and others test, the figures say how well a
network knows these patients and not how well it does on others. A column names the group of each image, and all images
of a group go to the same split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anychannel.data.errors import DataError
from anychannel.data.sources.source import SPLITS, Listing, Request, Sample
from anychannel.data.sources.splitting import HELD_OUT, SHARES, encode_labels, split_groups
from anychannel.data.sources.tables import find_column
from anychannel.utils.plurals import plural


def resplit(root: Path, listing: Listing, request: Request) -> tuple[Listing, str]:
    """Split the samples of a folder anew by ``split_by`` or ``fold_by``; also return how, in words.

    Raises DataError: see ``find_column``, ``split_groups`` and ``choose_fold``.
    """
    samples = [sample for split in SPLITS for sample in listing[split]]
    labels = encode_labels([sample.label for sample in samples])
    groups = None if request.split_by is None else read_column(root, request.split_by, samples)
    if request.fold_by is None:
        assert groups is not None
        where = split_groups(labels, groups, SHARES, request.seed, f"the column {request.split_by!r}")
        return arrange(samples, where), f"split at random by {request.split_by}"
    folds = read_column(root, request.fold_by, samples)
    fold, following = choose_fold(request, folds)
    where = np.where(folds == fold, "test", "train")
    what = f"split by {request.fold_by}: {fold} is the test split"
    if groups is None:
        where[folds == following] = "val"
        return arrange(samples, where), f"{what}, {following} validation"
    straddling = sorted(set(groups[folds == fold].tolist()) & set(groups[folds != fold].tolist()))
    if straddling:
        raise DataError(
            f"{request.split_by} {straddling[0]!r} has images in {request.fold_by} {fold} and in others "
            f"({len(straddling)} such in all), so that it is on both sides of the split; correct the column "
            f"{request.fold_by!r}, or leave out split_by"
        )
    rest = folds != fold
    shares = {"train": 1 - HELD_OUT, "val": HELD_OUT}
    where[rest] = split_groups(labels[rest], groups[rest], shares, request.seed, f"the column {request.split_by!r}")
    return arrange(samples, where), f"{what}, validation at random by {request.split_by}"


def read_column(root: Path, column: str, samples: Sequence[Sample]) -> np.ndarray:
    """(N,) values of a column of a table in the folder."""
    table, name = find_column(root, column)
    return np.array(table.values(name, samples), dtype=np.str_)


def arrange(samples: Sequence[Sample], where: np.ndarray) -> Listing:
    """Samples by split, each in the order given."""
    return {split: [samples[row] for row in np.flatnonzero(where == split).tolist()] for split in SPLITS}


def list_folds(values: np.ndarray) -> list[str]:
    """The folds in their order: by number if all are numbers, else by name."""
    names = sorted(set(values.tolist()))
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def choose_fold(request: Request, folds: np.ndarray) -> tuple[str, str]:
    """The fold to test on, and the one after it, which validates.

    Raises DataError if there are fewer than 3 folds, or the one asked for is none of them.
    """
    known = list_folds(folds)
    if len(known) < 3:
        raise DataError(
            f"the column {request.fold_by!r} has {plural(len(known), 'fold')} ({', '.join(known)}); "
            "training, validation and test need 3 or more"
        )
    if str(request.fold) not in known:
        what = "needs the fold of the test images" if request.fold is None else f"has no fold {request.fold!r}"
        few = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        raise DataError(f"the column {request.fold_by!r} {what}; give fold=..., one of {few}")
    place = known.index(str(request.fold))
    return known[place], known[(place + 1) % len(known)]
