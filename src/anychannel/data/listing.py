"""Which images a folder holds: what every source of files hands to the decoder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anychannel.data.content import Content, read_content
from anychannel.data.dataset import SPLITS
from anychannel.data.problems import DataError, Problems


@dataclass(frozen=True)
class Entry:
    """One image of a split.

    Args:
        path: as listed, relative to the data folder.
        label: position in the listing's ``classes``.
        where: where it is listed, for messages (``"train.txt line 3"``), or the path itself.
        channels: what its planes are, in the file's order, where that is told of the single image.
        told: where that is told, for messages, if not where it is listed.
    """

    path: str
    label: int
    where: str
    channels: tuple[str, ...] | None = None
    told: str = ""

    @property
    def source(self) -> str:
        """Where its channels are told, for messages."""
        return self.told or self.where

    @property
    def place(self) -> str:
        """The path and where it is listed, for messages."""
        return self.path if self.where == self.path else f"{self.path} ({self.where})"


@dataclass(frozen=True)
class Listing:
    """The images of the three splits, their classes, and the channels' names where the folder tells them."""

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Entry, ...]]
    channels: tuple[str, ...] | None = None

    @property
    def entries(self) -> list[tuple[str, Entry]]:
        """(split, entry) of every image: train, val, test, each in its order."""
        return [(split, entry) for split in SPLITS for entry in self.splits[split]]

    def read(self, entry: Entry) -> Content:
        """An image's bytes.

        Raises:
            OSError: it cannot be read.
        """
        return read_content(self.root / entry.path)


def split_channels(text: str) -> tuple[str, ...]:
    """Names from ``"R,G"`` or ``"R;G"``; a separator at the end is allowed, so that ``"4;"`` is the channel 4."""
    return tuple(name.strip() for name in text.split("," if "," in text else ";") if name.strip())


def choose_classes(known: Sequence[str], classes: int | Sequence[str] | None) -> tuple[str, ...]:
    """The classes to keep, in the order of their new labels.

    Args:
        known: all classes.
        classes: how many of the first ones, or names; None keeps all.

    Raises:
        ValueError: the number is out of range, a name is unknown (the message lists the valid ones) or repeats.
    """
    if classes is None:
        return tuple(known)
    if isinstance(classes, int):
        if not 2 <= classes <= len(known):
            raise ValueError(
                f"classes={classes} is out of range; the data has {len(known)} classes, take 2 or more of them"
            )
        return tuple(known[:classes])
    chosen = tuple(classes.split(",") if isinstance(classes, str) else classes)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"unknown class {unknown[0]!r}; the classes are {', '.join(known)}")
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise ValueError(f"classes needs two or more names, each once, got {', '.join(chosen)}")
    return chosen


def select_classes(listing: Listing, classes: int | Sequence[str] | None) -> Listing:
    """Keep only some classes, relabelled 0, 1, ...; see ``choose_classes``.

    Raises:
        DataError: the data has fewer than two classes.
    """
    if len(listing.classes) < 2:
        raise DataError(f"{listing.root} has {len(listing.classes)} class; classification needs two or more")
    chosen = choose_classes(listing.classes, classes)
    label_of = {listing.classes.index(name): label for label, name in enumerate(chosen)}
    splits = {
        split: tuple(replace(entry, label=label_of[entry.label]) for entry in entries if entry.label in label_of)
        for split, entries in listing.splits.items()
    }
    return replace(listing, classes=chosen, splits=splits)


def check_splits(listing: Listing, problems: Problems) -> None:
    """Note empty splits, and paths that are in two splits or carry two labels."""
    for split in SPLITS:
        if not listing.splits[split]:
            problems.add(split, "this split has no image", "train, val and test all need some")
    seen: dict[str, tuple[str, Entry]] = {}
    for split, entry in listing.entries:
        first_split, first = seen.setdefault(os.path.normpath(entry.path), (split, entry))
        if first_split != split:
            problems.add(
                entry.place,
                f"the same file is in two splits (leakage): {split}, and {first_split} as {first.place}",
                "keep it in one of them",
            )
        elif first.label != entry.label:
            names = [listing.classes[label] for label in (first.label, entry.label)]
            problems.add(
                entry.place,
                f"the same file has two labels: {names[1]}, and {names[0]} in {first.where}",
                "keep one of them",
            )


def check_contents(listing: Listing, digests: Mapping[str, str], problems: Problems) -> None:
    """Note files of one content in two splits; ``digests`` gives the content of each path that could be read."""
    seen: dict[str, tuple[str, Entry]] = {}
    for split, entry in listing.entries:
        digest = digests.get(entry.path)
        if digest is None:
            continue
        first_split, first = seen.setdefault(digest, (split, entry))
        if first_split != split and os.path.normpath(first.path) != os.path.normpath(entry.path):
            problems.add(
                entry.place,
                f"its content is in two splits (leakage): {split}, and {first_split} as {first.place}",
                "keep one of them",
            )


def warn_of_absent_classes(listing: Listing) -> None:
    """Say which classes have no training image, which is legitimate but rarely meant.

    Warns:
        UserWarning: names up to five of them, and how many more there are.
    """
    present = {entry.label for entry in listing.splits["train"]}
    absent = [name for label, name in enumerate(listing.classes) if label not in present]
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        warnings.warn(
            f"{listing.root} has no training image of class {shown}; a model cannot learn it (labels count from 0)",
            UserWarning,
            stacklevel=3,
        )
