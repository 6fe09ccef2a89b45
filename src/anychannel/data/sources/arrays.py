"""Source: arrays in memory or memory maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data.errors import DataError
from anychannel.data.sources.source import (
    SPLITS,
    Label,
    Sample,
    Source,
    each_label,
    number_classes,
    parse_label,
    sort_names,
)
from anychannel.data.sources.splitting import SHARES, split_groups, split_rows


def open_arrays(
    images: np.ndarray,
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    *,
    channels: ChannelSet | str | Sequence[str],
    splits: Sequence[str] | np.ndarray | None,
    split_by: Sequence[int] | Sequence[str] | np.ndarray | None,
    present: np.ndarray | None,
    classes: Sequence[str] | None,
    seed: int,
    name: str,
) -> Source:
    """List the images; see ``dataset_from_arrays``."""
    known = as_channel_set(channels)
    images = np.asanyarray(images)
    if images.ndim != 4 or images.shape[1] != len(known):
        last = images.ndim == 4 and images.shape[3] == len(known)
        fix = "; the channels seem to be last: give np.moveaxis(images, -1, 1)" if last else ""
        raise DataError(
            f"images have shape {images.shape}, but (N, {len(known)}, height, width) is expected for the channels "
            f"{', '.join(known.names)}{fix}"
        )
    have = np.ones(images.shape[:2], dtype=bool) if present is None else np.asarray(present)
    if have.shape != images.shape[:2] or have.dtype != bool:
        raise DataError(
            f"present has shape {have.shape} of {have.dtype.name}, but booleans of shape {images.shape[:2]} are "
            f"expected, for each image whether it has {', '.join(known.names)}"
        )
    empty = np.flatnonzero(~have.any(axis=1))
    if len(empty):
        raise DataError(f"image {empty[0]} ({len(empty)} in all) has no channel; leave it out")
    several: list[Any] = (
        [] if isinstance(labels, np.ndarray) else [x for x in labels if isinstance(x, list | tuple | set)]
    )
    if len(set(map(len, several))) > 1 or any(isinstance(name, str) for label in several for name in label):
        raise DataError(
            "several labels an image are an array (N, L), 1 for each that an image has and 0 for the others, with the "
            "L names as classes, or texts as 'forest|river'; got lists of names or of different lengths"
        )
    numbers, names = number_labels(np.asarray(labels), classes, len(images))
    if len(set(names)) < max(len(names), 2):
        raise DataError(f"classes needs two or more names, each once, got {', '.join(names)}")
    if split_by is not None and splits is not None:
        raise DataError("splits says which split each image belongs to, so that split_by has no effect; leave one out")
    if split_by is not None:
        groups = np.asarray(split_by)
        if groups.shape != (len(images),):
            raise DataError(f"split_by has shape {groups.shape}, not one group for each of {len(images)} images")
        where = split_groups(numbers, groups.astype(np.str_), SHARES, seed, "split_by")
    else:
        where = split_rows(numbers, names, seed) if splits is None else np.asarray(splits)
    if where.shape != (len(images),) or not set(where.tolist()) <= set(SPLITS):
        raise DataError(f"splits needs one of {', '.join(SPLITS)} for each of the {len(images)} images")

    def sample(row: int) -> Sample:
        whole, place = bool(have[row].all()), f"image {row}"
        pixels = np.asarray(images[row] if whole else images[row][have[row]])
        held = None if whole else tuple(np.array(known.names)[have[row]].tolist())
        label: Label = tuple(np.flatnonzero(numbers[row]).tolist()) if numbers.ndim == 2 else int(numbers[row])
        return Sample(str(row), label, pixels, held, place, place)

    rows = {split: np.flatnonzero(where == split).tolist() for split in SPLITS}
    listing = {split: [sample(row) for row in rows[split]] for split in SPLITS}
    how = "split as given" if splits is not None else f"split at random{' by group' * (split_by is not None)}"
    return Source(name, listing, names, known, how=how)


def number_labels(labels: np.ndarray, classes: Sequence[str] | None, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) int64 positions or (N, L) booleans, and the classes' names; raises as ``dataset_from_arrays``."""
    if labels.ndim == 2 and len(labels) == count and labels.shape[1] > 1:
        return read_indicators(labels, classes)
    if labels.shape != (count,):
        raise DataError(f"labels have shape {labels.shape}, but one label for each of the {count} images is needed")
    if labels.dtype == object and all(isinstance(label, str) for label in labels):  # a column of pandas
        labels = labels.astype(np.str_)
    if labels.dtype.kind in "US":
        texts = labels.tolist()
        parsed = [parse_label(text, classes or (), str) for text in texts]
        several = any(isinstance(label, tuple) for label in parsed)
        held = [{str(one) for one in each_label(label) if one or not several} for label in parsed]
        names = tuple(classes or sort_names(set().union(*held), "classes"))
        unknown = sorted(set().union(*held) - set(names))
        if unknown:
            raise DataError(f"label {unknown[0]!r} is none of the classes {', '.join(names)}")
        if several:
            return np.array([[name in mine for name in names] for mine in held], dtype=bool), names
        return np.array([names.index(text) for text in texts], dtype=np.int64), names
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are whole numbers from 0 or names of classes, got {labels.dtype.name}")
    highest = int(labels.max(initial=-1))
    names = tuple(classes or number_classes(highest))
    if int(labels.min(initial=0)) < 0 or highest >= len(names):
        raise DataError(f"labels go from {labels.min()} to {highest}, but there are {len(names)} classes, from 0")
    return labels.astype(np.int64), names


def read_indicators(labels: np.ndarray, classes: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Of several labels an image, (N, L) booleans and their names. Raises DataError for a value that is not 0 or 1."""
    names = tuple(classes or number_classes(labels.shape[1] - 1))
    if len(names) != labels.shape[1]:
        raise DataError(
            f"labels have shape {labels.shape}, a column for each label, but {len(names)} classes are named"
        )
    wrong = np.argwhere(~np.isin(labels, (0, 1)))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise DataError(
            f"image {row} has {labels[row, column].item()!r} for the label {names[column]!r}, but 0 or 1 is expected "
            f"({len(wrong):,} such in all); several labels an image are 1 for each that it has"
        )
    return labels.astype(bool), names
