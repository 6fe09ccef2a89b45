"""Which channels each image's file holds, where not every file holds all of them.

A line of a list file may end with its image's channels (``tiles/7.tif 2 R,G``), and ``channels.csv`` in the data folder
tells them for single images, for folders, or for all paths that match a pattern:

    path,channels
    drone/*,"R,G,B"
    satellite/2019,R;G;B;NIR
    satellite/2019/7.tif,NIR

``*``, ``?`` and ``[...]`` match any text, slashes too; of several lines that match an image, the last one counts. An
image that nothing is said about holds all channels. A file's planes are exactly the channels named, in that order.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import Path, PurePosixPath

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.dataset import SPLITS
from anychannel.data.files.read import ReadSettings
from anychannel.data.list_files import read_lines
from anychannel.data.listing import Entry, Listing, split_channels
from anychannel.data.problems import DataError, Problems
from anychannel.data.sources import FolderForm
from anychannel.utils.names import unknown_name

TABLE = "channels.csv"
HEADER = ["path", "channels"]

Names = tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A line of ``channels.csv``: its number from 1, whose channels it tells, and which."""

    number: int
    pattern: str
    names: Names

    @property
    def place(self) -> str:
        """For messages."""
        return f"{TABLE} line {self.number}"


@dataclass(frozen=True)
class Holding:
    """What some files hold.

    Args:
        positions: of their planes among the data set's channels, in the files' order.
        settings: how such a file is read.
    """

    positions: tuple[int, ...]
    settings: ReadSettings


Holdings = Mapping[Names | None, Holding]
"""What files hold, by the channels that are told of them; None stands for those of which nothing is told."""


def read_table(root: Path, problems: Problems) -> list[Line]:
    """The lines of a folder's ``channels.csv``, none where there is no such file; wrong ones are noted and left out.

    Raises:
        DataError: its first line is not ``path,channels``.
    """
    path = root / TABLE
    if not path.is_file():
        return []
    rows = list(csv.reader(read_lines(path)))
    if not rows or [cell.strip() for cell in rows[0]] != HEADER:
        found = ",".join(rows[0]) if rows else ""
        raise DataError(f"{path}: the first line is {found!r}; it has to be {','.join(HEADER)!r}")
    lines = []
    for number, cells in enumerate(rows[1:], start=2):
        pattern, names = (cells or [""])[0].strip(), split_channels(",".join(cells[1:]))
        if not any(cell.strip() for cell in cells):
            continue
        if not pattern or not names:
            what = "no channel is named" if pattern else "no path is named"
            problems.add(f"{TABLE} line {number}", what, "write path,channels; channels as R;G")
        else:
            lines.append(Line(number, pattern.rstrip("/"), names))
    return lines


def tell_channels(listing: Listing, problems: Problems) -> Listing:
    """The listing, each entry with the channels that ``channels.csv`` tells of it.

    Args:
        listing: of a folder.
        problems: gets lines that cannot be read or match no image, images of which a list file says something else,
            and files that are listed twice with different channels.
    """
    lines = read_table(listing.root, problems)
    if not lines and all(entry.channels is None for _, entry in listing.entries):
        return listing
    literal = {line.pattern: line for line in lines}  # of equal patterns the last line is kept
    wild = [(re.compile(translate(line.pattern)), line) for line in lines if set("*?[") & set(line.pattern)]
    used: set[int] = set()

    def tell(entry: Entry) -> Entry:
        path = PurePosixPath(os.path.normpath(entry.path))
        places = (str(path), *map(str, path.parents))
        found = [literal[place] for place in places if place in literal]
        found += [line for pattern, line in wild if pattern.match(str(path))]
        used.update(line.number for line in found)
        if not found:
            return entry
        line = max(found, key=lambda line: line.number)
        if entry.channels not in (None, line.names):
            problems.add(
                entry.place,
                f"its line says channels {','.join(entry.channels or ())}, but {line.place} {','.join(line.names)}",
                "keep one of them",
            )
        return replace(entry, channels=line.names, told=line.place)

    splits = {split: tuple(tell(entry) for entry in listing.splits[split]) for split in SPLITS}
    for line in lines:
        if line.number not in used and literal[line.pattern] is line:
            problems.add(line.place, f"no image matches {line.pattern!r}", "correct or remove it")
    told = replace(listing, splits=splits)
    check_repeats(told, problems)
    return told


def told_channels(root: Path, form: FolderForm, *, seed: int = 0) -> dict[str, Names]:
    """The channels that are told of single images in a data folder, by path; what is wrong there is not looked at."""
    problems = Problems()
    listing = tell_channels(form.read(root, problems, seed=seed), problems)
    return {entry.path: entry.channels for _, entry in listing.entries if entry.channels is not None}


def check_repeats(listing: Listing, problems: Problems) -> None:
    """Note files that are listed more than once, with different channels."""
    seen: dict[str, Entry] = {}
    for _, entry in listing.entries:
        first = seen.setdefault(os.path.normpath(entry.path), entry)
        if first.channels != entry.channels:
            problems.add(
                entry.place, f"the same file has other channels in {first.where}", "tell one file's channels once"
            )


def resolve(
    listing: Listing, named: ChannelSet, settings: ReadSettings, problems: Problems
) -> dict[Names | None, Holding]:
    """What the files hold, from what is told of them.

    Args:
        listing: with what is told.
        named: the data set's channels.
        settings: how files of all channels are read.
        problems: gets unknown and repeated names, each line once, and channels that no training image has.

    Returns:
        Without what cannot be used; files of which that is told are not to be read.
    """
    holdings: dict[Names | None, Holding] = {None: Holding(named.full, settings)}
    noted: set[str] = set()
    for _, entry in listing.entries:
        if entry.channels is None or entry.channels in holdings or entry.source in noted:
            continue
        wrong = find_fault(entry.channels, named)
        if wrong is None:
            held = named.select(entry.channels)
            holdings[entry.channels] = Holding(named.positions(entry.channels), settings.naming(held))
        else:
            noted.add(entry.source)
            problems.add(entry.source, *wrong)
    seen = {
        p for entry in listing.splits["train"] if entry.channels in holdings for p in holdings[entry.channels].positions
    }
    if listing.splits["train"] and not noted:
        for position in sorted(set(named.full) - seen):
            problems.add(
                f"channel {named.names[position]!r}",
                "no training image has it",
                "leave it out of the data set's channels, or add training images that have it",
            )
    return holdings


def find_fault(names: Names, named: ChannelSet) -> tuple[str, str] | None:
    """What is wrong with the channels told of a file, and the fix; None where nothing is."""
    for name in names:
        if name not in named.names:
            what, _, valid = unknown_name("channel", name, named.names).partition("; ")
            return what, valid
        if names.count(name) > 1:
            return f"channel {name!r} is named twice", "name each of the file's planes once"
    return None


def find_present(listing: Listing, holdings: Holdings, count: int) -> dict[str, np.ndarray]:
    """(N, C) booleans by split: which of the ``count`` channels each image has."""
    present = {}
    for split in SPLITS:
        table = np.ones((len(listing.splits[split]), count), dtype=bool)
        for row, entry in enumerate(listing.splits[split]):
            if entry.channels is not None:
                table[row] = np.isin(np.arange(count), holdings[entry.channels].positions)
        present[split] = table
    return present


def describe_planes(listing: Listing, holdings: Holdings) -> dict[str, object]:
    """Where each file's planes go, for a cache's key; empty where every file holds all channels in their order."""
    whole = holdings[None].positions
    if all(holdings[entry.channels].positions == whole for _, entry in listing.entries):
        return {}
    return {
        "planes": {split: [holdings[entry.channels].positions for entry in listing.splits[split]] for split in SPLITS}
    }
