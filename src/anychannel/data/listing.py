"""Which images a folder holds: what every source of files hands to the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from anychannel.data.dataset import SPLITS
from anychannel.data.problems import Problems


@dataclass(frozen=True)
class Entry:
    """One image of a split.

    Args:
        path: as listed, relative to the data folder.
        label: position in the listing's ``classes``.
        where: where it is listed, for messages (``"train.txt line 3"``), or the path itself.
    """

    path: str
    label: int
    where: str


@dataclass(frozen=True)
class Listing:
    """The images of the three splits, their classes, and the channels' names where the folder tells them."""

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Entry, ...]]
    channels: tuple[str, ...] | None = None


def select_classes(listing: Listing, classes: int | Sequence[str] | None) -> Listing:
    """Keep only some classes, relabelled 0, 1, ... in the order given.

    Args:
        listing: all classes.
        classes: how many of the first ones, or names; None keeps all.

    Raises:
        ValueError: the number is out of range, a name is unknown (the message lists the valid ones) or repeats.
    """
    if classes is None:
        return listing
    known = listing.classes
    if isinstance(classes, int):
        if not 2 <= classes <= len(known):
            raise ValueError(
                f"classes={classes} is out of range; the data has {len(known)} classes, take 2 to {len(known)}"
            )
        chosen = known[:classes]
    else:
        chosen = (classes,) if isinstance(classes, str) else tuple(classes)
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise ValueError(f"unknown class {unknown[0]!r}; the classes are {', '.join(known)}")
        if len(set(chosen)) != len(chosen) or len(chosen) < 2:
            raise ValueError(f"classes needs at least two names, each once, got {list(chosen)}")
    label_of = {known.index(name): label for label, name in enumerate(chosen)}
    splits = {
        split: tuple(replace(entry, label=label_of[entry.label]) for entry in entries if entry.label in label_of)
        for split, entries in listing.splits.items()
    }
    return replace(listing, classes=chosen, splits=splits)


def check_splits(listing: Listing, problems: Problems) -> None:
    """Note empty splits, and paths that are in two splits or carry two labels."""
    seen: dict[PurePath, tuple[str, Entry]] = {}
    for split in SPLITS:
        entries = listing.splits[split]
        if not entries:
            problems.add(split, "this split has no image", "every one of train, val and test needs some")
        for entry in entries:
            first_split, first = seen.setdefault(PurePath(entry.path), (split, entry))
            if first_split != split:
                problems.add(
                    entry.where,
                    f"{entry.path} is in two splits, {first_split} and {split} (leakage)",
                    "keep it in one of them",
                )
            elif first.label != entry.label:
                problems.add(
                    entry.where,
                    f"{entry.path} is listed with two labels, {first.label} ({first.where}) and {entry.label}",
                    "keep the right line",
                )
