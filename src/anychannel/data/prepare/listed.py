"""Checks of samples that a source lists, which need no pixels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os.path import normpath
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet, Subset
from anychannel.data.errors import ImageError, Problems
from anychannel.data.files.names import check_names
from anychannel.data.sources.reader import Reader
from anychannel.data.sources.samples import Sample

Listing = dict[str, list[Sample]]
"""Samples by split: train, val, test, each in its order."""


def all_samples(splits: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    """The samples of all splits, in their order."""
    return [sample for samples in splits.values() for sample in samples]


def check_repeats(splits: Listing, classes: Sequence[str], problems: Problems) -> None:
    """Note empty splits, and paths that are in two splits or have two labels."""
    seen: dict[str, tuple[str, Sample]] = {}
    for split, samples in splits.items():
        if not samples:
            problems.add(split, "this split has no image", "train, val and test all need some")
        for sample in samples:
            other, first = seen.setdefault(normpath(sample.path), (split, sample))
            if other != split:
                what = f"the same file is in two splits (leakage): {split}, and {other} as {first.place}"
                problems.add(sample.place, what, "keep it in one of them")
            elif first.label != sample.label:
                both = (sample.label, first.label)
                mine, theirs = (classes[label] if isinstance(label, int) else label for label in both)
                what = f"the same file has two labels: {mine}, and {theirs} in {first.where}"
                problems.add(sample.place, what, "keep one of them")


def find_planes(splits: Listing, reader: Reader, problems: Problems) -> tuple[Listing, dict[str, list[Subset]]]:
    """The samples whose channels are known, and the positions of their planes, by split; others are noted."""
    known: Listing = {split: [] for split in splits}
    planes: dict[str, list[Subset]] = {split: [] for split in splits}
    for split, samples in splits.items():
        for sample in samples:
            try:
                planes[split].append(reader.positions(sample))
                known[split].append(sample)
            except ImageError as error:
                problems.add(sample.channels_place, error.what, error.fix)
    return known, planes


def check_cached_names(
    names: Sequence[tuple[Subset, Sequence[str | None], Sequence[int]]],
    samples: Sequence[Sample],
    named: ChannelSet,
    problems: Problems,
) -> None:
    """Note files whose own names contradict those given, by what the cache keeps of files decoded under other names.

    Args:
        names: what files call their planes: positions, names, and which of the samples.
        samples: of all splits.
        named: the channels given.
        problems: gets the files.
    """
    for held, own, rows in names:
        given = named.select([named.names[position] for position in held])
        try:
            check_names(own, given.names, given.kinds)
        except ImageError as error:
            for row in rows:
                problems.add(samples[row].place, error.what, error.fix)


def warn_of_absent_classes(place: str, classes: Sequence[str], numbers: np.ndarray[Any, Any]) -> None:
    """Warn of classes without a training image, which is legitimate but rarely meant."""
    absent = [classes[i] for i in sorted(set(range(len(classes))) - set(numbers.tolist()))]
    if absent:
        few = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        warnings.warn(
            f"{place} has no training image of class {few}; a model cannot learn it (labels count from 0)",
            UserWarning,
            stacklevel=6,
        )
