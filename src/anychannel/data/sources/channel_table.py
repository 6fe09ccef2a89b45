"""``channels.csv``: which channels each image of a folder has, if not every image has all of them.

It names the channels of single images, of folders, or of all paths that match a pattern:

    path,channels
    drone/*,"R,G,B"
    satellite/2019,R;G;B;NIR
    satellite/2019/7.tif,NIR

``*``, ``?`` and ``[...]`` match any text, slashes too. If several lines match an image, the last one counts. Images
that are not listed have all channels. A file's planes are exactly the channels named, in that order.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import Path, PurePosixPath

from anychannel.data.errors import DataError, Problems
from anychannel.data.sources.samples import Sample, split_channels

TABLE = "channels.csv"
HEADER = ["path", "channels"]


@dataclass(frozen=True)
class Line:
    """A line of the table: its number from 1, the images it is about, and their channels."""

    number: int
    pattern: str
    names: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{TABLE} line {self.number}"


def read_lines(path: Path) -> list[str]:
    """A text file's lines. Raises DataError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def read_table(root: Path, problems: Problems) -> list[Line]:
    """The lines of a folder's table, none if there is no table. Wrong lines are noted and left out.

    Raises:
        DataError: the first line is not ``path,channels``.
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


def apply_table(root: Path, splits: Mapping[str, Sequence[Sample]], problems: Problems) -> dict[str, list[Sample]]:
    """Give each sample the channels that the folder's table names for it.

    Args:
        root: the data folder.
        splits: its samples.
        problems: gets lines that cannot be read or match no image, images whose list file says something else, and
            files that are listed twice with different channels.
    """
    lines = read_table(root, problems)
    literal = {line.pattern: line for line in lines}  # of equal patterns the last line is kept
    wild = [(re.compile(translate(line.pattern)), line) for line in lines if set("*?[") & set(line.pattern)]
    used: set[int] = set()
    listed: dict[str, Sample] = {}

    def apply(sample: Sample) -> Sample:
        path = PurePosixPath(os.path.normpath(sample.path))
        places = (str(path), *map(str, path.parents))
        found = [literal[place] for place in places if place in literal]
        found += [line for pattern, line in wild if pattern.match(str(path))]
        used.update(line.number for line in found)
        if found:
            line = max(found, key=lambda line: line.number)
            if sample.channels not in (None, line.names):
                what = f"its line says channels {','.join(sample.channels or ())}, but {line.place} "
                problems.add(sample.place, what + ",".join(line.names), "keep one of them")
            sample = replace(sample, channels=line.names, channels_from=line.place)
        first = listed.setdefault(str(path), sample)
        if first.channels != sample.channels:
            what = f"the same file has other channels in {first.where}"
            problems.add(sample.place, what, "give one file's channels once")
        return sample

    if not lines and all(sample.channels is None for samples in splits.values() for sample in samples):
        return {split: list(samples) for split, samples in splits.items()}
    found = {split: [apply(sample) for sample in samples] for split, samples in splits.items()}
    for line in lines:
        if line.number not in used and literal[line.pattern] is line:
            problems.add(line.place, f"no image matches {line.pattern!r}", "correct or remove it")
    return found
