"""Predictions in a file, one row an image: CSV or JSON lines. Rows are whole whenever the program ends.

Of several labels an image, ``labels``, those that pass their thresholds, take the place of class and probability; in a
CSV file ``|`` stands between them, as in the tables that training reads.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

Row = Mapping[str, Any]
Write = Callable[[Row], None]

COLUMNS = ("file", "channels", "class", "probability", "unlike", "dead", "notes", "error")
LABEL_COLUMNS = ("file", "channels", "labels", "unlike", "dead", "notes", "error")
PREFIX = "p_"
"""Stands before a class's name in the header of its column."""


def csv_rows(file: TextIO, classes: Sequence[str], *, several: bool = False) -> Write:
    """A table: ``COLUMNS``, and for each class its probability. A file that failed has its name and the error.

    Of ``several`` labels an image, ``LABEL_COLUMNS`` take the place of ``COLUMNS``.
    """
    table = csv.writer(file)
    columns = LABEL_COLUMNS if several else COLUMNS
    table.writerow([*columns, *(PREFIX + name for name in classes)])

    def write(row: Row) -> None:
        if "error" in row:
            table.writerow([row["path"], *[""] * (len(columns) - 2), row["error"], *[""] * len(classes)])
            return
        shares = [f"{share:.6g}" for share in row["probabilities"].values()]
        answer = ["|".join(row["labels"])] if several else [row["class"], f"{row['probability']:.6g}"]
        found = [row["path"], ",".join(row["channels"]), *answer, row["unlike"] or "", ",".join(row["dead"])]
        table.writerow([*found, " ".join(row["notes"]), "", *shares])

    return write


def json_lines(file: TextIO, classes: Sequence[str], *, several: bool = False) -> Write:  # noqa: ARG001
    """One JSON object a line."""
    return lambda row: print(json.dumps(row, allow_nan=False), file=file)


FORMATS: dict[str, Callable[..., Write]] = {".csv": csv_rows, ".jsonl": json_lines}


def check_format(path: Path) -> None:
    """Refuse a file whose ending is none of ``FORMATS``, or whose folder does not exist."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"predictions are written as {' or '.join(FORMATS)}, got {path.name!r}; name it so")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"the folder {path.absolute().parent} for {path.name} does not exist; make it first")


@contextmanager
def open_rows(path: Path, classes: Sequence[str], *, several: bool = False) -> Iterator[Write]:
    """Start a file of predictions, in place of any of this name; yield the function that writes a row to it.

    ``several`` says whether an image may have several labels.
    """
    check_format(path)
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="", buffering=1) as file:
        yield FORMATS[path.suffix.lower()](file, classes, several=several)
