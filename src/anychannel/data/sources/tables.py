"""CSV tables beside the images: columns that describe each image, and the source ``table``, which they list alone.

    file,label,plot,fold
    images/a.tif,oak,7,0
    images/b.tif,pine,8,1

The first line names the columns. One column holds the paths, relative to the folder, and is called as in ``PATHS``.
Commas, semicolons or tabs separate the columns. The source ``table`` also needs a column with the label, called as in
``LABELS``: numbers from 0 or names of classes. A column ``split`` (``train``, ``val``, ``test``) gives the splits;
without it, each class is split 80 / 10 / 10 by the seed.

Images with several labels have ``|`` or ``;`` between them; if one line has several, all images may, and an empty cell
is an image without any. Or the table has a column for each label, with 1 for the images that have it and 0 for others:

    file,label                    file,forest,river,road
    images/a.tif,forest|river     images/a.tif,1,1,0
    images/b.tif,                 images/b.tif,0,0,0

Without a column called as in ``LABELS``, the labels are the columns of which more than half of the cells are 0 or 1,
other than ``split`` and those of ``split_by`` and ``fold_by``; ``classes`` names them if that is not so. A data set's
``describe_split`` says which columns are labels and which are not.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from anychannel.data.content import BandFiles
from anychannel.data.errors import DataError, Problems
from anychannel.data.sources.band_files import Scenes
from anychannel.data.sources.source import (
    BETWEEN_LABELS,
    SPLIT_NAMES,
    SPLITS,
    Label,
    Listing,
    OneLabel,
    Request,
    Sample,
    parse_label,
)
from anychannel.data.sources.splitting import split_rows_of
from anychannel.utils.folders import find_file, path_inside
from anychannel.utils.names import normal
from anychannel.utils.plurals import few

PATHS = ("file", "path", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file")
"""What a column of paths may be called, in any case."""
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""What says in a column for each label whether an image has it."""
LABELS = (
    "label", "labels", "class", "classes", "class_name", "category", "categories", "target", "targets", "tag", "tags"
)  # fmt: skip
"""What a column of labels may be called, in any case."""
FEW = 3
"""Paths that a message names; the others are counted."""
CHANNELS = "channels.csv"
"""The table of channels, which has another form."""


@dataclass(frozen=True)
class Table:
    """A table: its file, its columns, the one that holds the paths, and its rows by column."""

    file: Path
    columns: tuple[str, ...]
    paths: str
    rows: tuple[dict[str, str], ...]

    def find(self, names: Iterable[str]) -> str | None:
        """The first column that is called like one of these, in any case; None if there is none."""
        known = {column.casefold(): column for column in reversed(self.columns)}
        return next((known[name.casefold()] for name in names if name.casefold() in known), None)

    def values(self, column: str, samples: Sequence[Sample]) -> list[str]:
        """The values of a column for these samples, which the table names by path, by file name or by its stem.

        Of an image whose bands lie in separate files, the table may name any of these by path.

        Raises DataError if the table lacks a sample, says two things of it, or leaves its cell empty.
        """
        ways = (os.path.normpath, lambda path: PurePosixPath(path).name, lambda path: PurePosixPath(path).stem)
        lacking: list[str] = []
        scene_of = {
            normal(file.relative_to(self.file.parent).as_posix()): sample.path
            for sample in samples
            if isinstance(sample.image, BandFiles)
            for file in sample.image.files.values()
        }
        for way in ways:
            asked = [str(way(normal(sample.path))) for sample in samples]
            if way is not ways[0] and len(set(asked)) < len({sample.path for sample in samples}):
                continue  # several images have this name
            known: dict[str, str] = {}
            unsure: set[str] = set()
            for row in self.rows:
                path = os.path.normpath(row[self.paths])
                key, value = str(way(scene_of.get(path, path))), row[column]
                if known.setdefault(key, value) != value:
                    if way is ways[0]:
                        raise DataError(
                            f"{self.file}: {row[self.paths]} is there twice, with {column} {known[key]!r} and "
                            f"{value!r}; keep one of them, or write paths with their folders"
                        )
                    unsure.add(key)
            sure = known.keys() - unsure
            missing = [sample.path for sample, key in zip(samples, asked, strict=True) if key not in sure]
            if not missing:
                found = [known[key] for key in asked]
                empty = [sample.path for sample, value in zip(samples, found, strict=True) if not value]
                if empty:
                    raise DataError(
                        f"{self.file}: the column {column!r} is empty for {few(empty, FEW)}; fill it in for each image"
                    )
                return found
            lacking = lacking or missing
        first = f" (the first is {self.rows[0][self.paths]})" if self.rows else ""
        raise DataError(
            f"{self.file} has no line for {few(lacking, FEW)}, so that their {column!r} is not known; add the lines, "
            f"with the path in the column {self.paths!r}{first}"
        )


def read_tables(root: Path) -> list[Table]:
    """The tables of a folder that name images, by their files' names. Raises DataError if one is not UTF-8."""
    return [table for table in map(read_csv, list_csv(root)) if table is not None]


def list_csv(root: Path) -> list[Path]:
    """The CSV files of a folder, without the table of channels."""
    return [file for file in sorted(root.glob("*.csv")) if file.is_file() and file.name != CHANNELS]


def read_csv(file: Path) -> Table | None:
    """Read one table; None if no column is called as in ``PATHS``."""
    try:
        text = normal(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    head = text.partition("\n")[0]
    lines = csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    columns = tuple(name.strip() for name in next(lines, []))
    twice = next((name for name in columns if columns.count(name) > 1 and name), None)
    if twice is not None:
        raise DataError(f"{file}: the column {twice!r} is there twice; rename one of them")
    table = Table(file, columns, "", ())
    paths = table.find(PATHS)
    if paths is None:
        return None
    rows = [
        dict(zip(columns, [cell.strip() for cell in cells] + [""] * len(columns), strict=False))
        for cells in lines
        if any(cell.strip() for cell in cells)
    ]
    for row in rows:
        row[paths] = path_inside(file.parent, row[paths])
    return Table(file, columns, paths, tuple(row for row in rows if row[paths]))


def find_column(root: Path, column: str) -> tuple[Table, str]:
    """The table of a folder that has a column, and the column as it is written there.

    Raises DataError if none or several tables have it; it lists the columns that there are.
    """
    tables = read_tables(root)
    found = [(table, name) for table in tables if (name := table.find([column])) is not None]
    if len(found) == 1:
        return found[0]
    if found:
        files = " and ".join(table.file.name for table, _ in found)
        raise DataError(f"{root} has the column {column!r} in {files}; keep it in one of them")
    if not tables:
        others = ", ".join(file.name for file in list_csv(root))
        others = f" ({others} has no column of paths, which is called {', '.join(PATHS)})" if others else ""
        raise DataError(
            f"{root} has no CSV file with the columns file and {column}{others}; put one beside the images, whose "
            f"first line is file,{column}, and a line for each image"
        )
    known = "; ".join(f"{table.file.name} has {', '.join(table.columns)}" for table in tables)
    raise DataError(f"no CSV file in {root} has a column {column!r}: {known}")


def find_labels(root: Path, request: Request) -> tuple[Table, tuple[str, ...]] | None:
    """The one table of a folder that has labels, and their column or columns; None if there is none or several."""
    tables = read_tables(root)
    found: list[tuple[Table, tuple[str, ...]]] = [
        (table, (name,)) for table in tables if (name := table.find(LABELS)) is not None
    ]
    if not found:
        several = ((table, find_indicators(table, request)) for table in tables)
        found = [(table, columns) for table, columns in several if len(columns) > 1]
    return found[0] if len(found) == 1 else None


def find_indicators(table: Table, request: Request) -> tuple[str, ...]:
    """The columns that say of each image whether it has a label; see the module."""
    asked = request.named_classes
    if asked and set(asked) <= set(table.columns):
        return asked
    return tuple(name for name in candidates(table, request) if 2 * count_flags(table.rows, name) > len(table.rows))


def candidates(table: Table, request: Request) -> list[str]:
    """The columns that may be labels, since nothing else is said of them."""
    others = {"split", *(name.casefold() for name in (request.split_by, request.fold_by) if name is not None)}
    return [name for name in table.columns if name and name != table.paths and name.casefold() not in others]


def count_flags(rows: Iterable[dict[str, str]], column: str) -> int:
    """The cells of a column that say whether an image has a label."""
    return sum(row[column].lower() in FLAGS for row in rows)


def describe_others(table: Table, columns: Sequence[str], request: Request) -> tuple[str, ...]:
    """The columns that are no labels although they may be; with how many cells of them are 0 or 1, if any are."""
    others = {name: count_flags(table.rows, name) for name in candidates(table, request) if name not in columns}
    total = len(table.rows)
    return tuple(
        f"{name} ({count:,} of {total:,} cells are 0 or 1)" if count else name for name, count in others.items()
    )


def list_table(
    root: Path,
    table: Table,
    columns: tuple[str, ...],
    names: Sequence[str],
    seed: int | None,
    problems: Problems,
    scenes: Scenes | None = None,
) -> tuple[Listing, str]:
    """The samples of a table by split, and how they were split; ``seed=None`` leaves all in ``train``.

    ``columns`` are the column of labels, or one for each label; ``names`` are those of the classes, if they are known.
    With ``scenes``, the paths name scenes or their files; a scene of which several files have a line is one sample.
    """
    found: dict[object, Sample] = {}
    place_of = partial("{} line {}".format, table.file.name)
    cells = [row[columns[0]] for row in table.rows]
    clean = ",".join(name for name in columns if count_flags(table.rows, name) == len(table.rows))
    fix = f"name the labels, as classes={clean!r}" if "," in clean else "name those that are, as classes='a,b'"
    several = len(columns) == 1 and any(cell not in names and BETWEEN_LABELS.search(cell) for cell in cells)
    for number, row in enumerate(table.rows, start=2):
        path, label = row[table.paths], row[columns[0]]
        if len(columns) > 1:
            wrong = [name for name in columns if row[name].lower() not in FLAGS]
            for name in wrong:
                what = f"the label {name!r} of {path} is {row[name]!r}, neither 0 nor 1"
                problems.add(place_of(number), what, f"correct it; if the column is no label, {fix}")
            if wrong:
                continue
            value: Label = tuple(name for name in columns if FLAGS[row[name].lower()])
        elif not label and not several:
            problems.add(place_of(number), f"no label for {path}", f"fill in its {columns[0]!r}, or remove the line")
            continue
        else:
            value = parse_label(label, names, read_number) if label else ()
        key, image = path, cast("Path | BandFiles", find_file(root / path))
        if scenes is not None:
            key = scenes.find(path) or ""
            if not key:
                scenes.note_unknown(path, place_of(number), problems)
                continue
            image = BandFiles(scenes.found[key].files)
        sample = Sample(key, value, image, None, f"{key} ({place_of(number)})")
        found.setdefault(number if scenes is None else (key, value), sample)
    samples = list(found.values())
    if seed is None:
        return {"train": samples, "val": [], "test": []}, ""
    named = table.find(["split"])
    if named is None:
        with problems.first(root):
            where = split_rows_of([sample.label for sample in samples], seed)
        how = "split at random"
    else:
        split_of = {name: split for split, names in SPLIT_NAMES.items() for name in names}
        given = table.values(named, samples)
        unknown = sorted({value for value in given if value.casefold() not in split_of})
        if unknown:
            raise DataError(f"{table.file}: {named} {unknown[0]!r} is no split; write train, val or test")
        where, how = [split_of[value.casefold()] for value in given], f"split as {table.file.name} says"
    return {split: [one for one, of in zip(samples, where, strict=True) if of == split] for split in SPLITS}, how


def read_number(text: str) -> OneLabel:
    """A number of up to 18 digits as such, other text as it is."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else text
