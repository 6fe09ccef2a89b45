"""Rows of Hugging Face data sets as samples.

Encoded images are taken as they are stored and decoded as files are, so that no mode is converted on the way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.data.huggingface import first_line, library
from anychannel.data.problems import DataError, ImageError
from anychannel.data.samples import Fields, Sample
from anychannel.data.shards import ShardError

ARRAYS = re.compile(r"Array[2-5]D|List|LargeList|Sequence")
"""Kinds of column whose values are arrays."""
READ_AT_ONCE = 32
"""Rows in memory at a time."""


def columns_of(fields: Fields) -> list[str]:
    """The columns to read."""
    images = fields.image if isinstance(fields.image, tuple) else (fields.image,)
    return [name for name in (*images, fields.label, fields.held) if name is not None]


def as_stored(table: Any, fields: Fields) -> Any:
    """The columns to read, images as they are stored."""
    table = table.select_columns(columns_of(fields))
    for name, feature in dict(table.features).items():
        if type(feature).__name__ == "Image":
            table = table.cast_column(name, library().Image(decode=False))
    return table


def array_type(feature: Any) -> np.dtype[Any] | None:
    """Type of the numbers in a column of arrays, None for other columns."""
    if not ARRAYS.match(type(feature).__name__):
        return None
    while not isinstance(getattr(feature, "dtype", None), str):
        feature = getattr(feature, "feature", None)
        if feature is None:
            return None
    try:
        kind: np.dtype[Any] = np.dtype(feature.dtype)
        return kind
    except TypeError:  # a list of names
        return None


def unwrap(value: Any, kind: np.dtype[Any] | None) -> Any:
    """A stored image's bytes, an array in its column's type, or anything else as it is.

    Raises:
        ImageError: an image is stored as a path to a file that cannot be read.
    """
    if value is None:
        return None
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
        if value["bytes"] is not None:
            return value["bytes"]
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise ImageError(f"its file {value['path']} cannot be read ({error.strerror})", "restore it") from error
    if kind is not None:
        try:
            return np.asarray(value).astype(kind)
        except ValueError as error:
            raise ImageError("its image is a list of rows that differ in length", "store a whole array") from error
    return value


class Unread(Mapping[str, Any]):
    """A row whose images are opened when they are asked for, so that a missing file is an error of its sample.

    Args:
        row: values by column.
        kinds: see ``array_type``, by column.
    """

    def __init__(self, row: Mapping[str, Any], kinds: Mapping[str, np.dtype[Any] | None]) -> None:
        self.row = row
        self.kinds = kinds

    def __getitem__(self, name: str) -> Any:
        return unwrap(self.row[name], self.kinds.get(name))

    def get(self, name: str, default: Any = None) -> Any:
        """The value, without opening a file where there is none."""
        return self[name] if self.row.get(name) is not None else default

    def items(self) -> Any:
        """Names and values as they are stored."""
        return self.row.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)


class Table:
    """Rows of a ``datasets.Dataset``, which lie in Arrow files that are mapped into memory and read in any order.

    Args:
        table: the data set.
        fields: the columns to read.
        split: for messages.
    """

    def __init__(self, table: Any, fields: Fields, split: str) -> None:
        self.table = as_stored(table, fields)
        self.fields = fields
        self.split = split
        self.kinds = {name: array_type(feature) for name, feature in self.table.features.items()}
        self.arrays = [name for name, kind in self.kinds.items() if kind is not None]
        self.plain = self.table.with_format("numpy", columns=self.arrays, output_all_columns=True, dtype=None)
        self.raw = self.table.with_format("arrow", columns=self.arrays) if self.arrays else None

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: Sequence[int]) -> list[Sample]:
        """Rows by their numbers, which have to be whole numbers in range."""
        found = self.plain[list(rows)] if self.arrays else self.table[list(rows)]
        valid = {}
        if self.raw is not None:  # NumPy has no null: it says nan
            stored = self.raw[list(rows)]
            valid = {name: stored.column(name).is_valid().to_pylist() for name in self.arrays}
        return [
            Sample(
                f"{self.split} row {row}",
                Unread(
                    {
                        name: values[i] if valid.get(name, [True] * len(rows))[i] else None
                        for name, values in found.items()
                    },
                    self.kinds,
                ),
            )
            for i, row in enumerate(rows)
        ]


@dataclass(frozen=True)
class TableShards:
    """A table's rows from the first to the last, as ``Shards`` of ``step`` rows."""

    table: Table
    rows: np.ndarray
    step: int = 256

    @property
    def names(self) -> Sequence[str]:
        """As ``Shards.names``."""
        return [f"{self.table.split} rows {start} ..." for start in range(0, max(1, len(self.rows)), self.step)]

    def stamps(self) -> list[Any]:
        """The library's own digest of the table, its files, and the rows."""
        files = [Path(file["filename"]) for file in self.table.table.cache_files]
        known = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        rows = hashlib.blake2b(self.rows.astype(np.int64).tobytes(), digest_size=16).hexdigest()
        return [self.table.table._fingerprint, known, rows]

    def read(self, shard: int) -> Iterator[Sample]:
        """As ``Shards.read``."""
        chosen = self.rows[shard * self.step : (shard + 1) * self.step].tolist()
        for start in range(0, len(chosen), READ_AT_ONCE):
            yield from self.table.read(chosen[start : start + READ_AT_ONCE])


class RowShards:
    """Rows of a ``datasets.IterableDataset``, in the shards that it has.

    Args:
        rows: the data set.
        fields: the columns to read.
        source, split: for messages, and to know it again.
        files: what changes with its files, where these are local.
    """

    def __init__(self, rows: Any, fields: Fields, source: str, split: str, files: Sequence[Any] = ()) -> None:
        self.rows = as_stored(rows, fields)
        self.source = source
        self.split = split
        self.files = list(files)
        self.kinds = {name: array_type(feature) for name, feature in self.rows.features.items()}
        self.count = int(self.rows.num_shards)

    @property
    def names(self) -> Sequence[str]:
        """As ``Shards.names``."""
        return [f"{self.split} shard {i + 1} of {self.count}" for i in range(self.count)]

    def stamps(self) -> list[Any]:
        """The source's name, its number of shards, and what is known of its files."""
        info = self.rows.info
        return [self.source, self.split, self.count, str(info.version), info.dataset_size, self.files]

    def read(self, shard: int) -> Iterator[Sample]:
        """As ``Shards.read``."""
        row, name = 0, self.names[shard]
        try:
            # by iter(1), as the library would divide what it yields otherwise once more in a data loader's process
            for row, found in enumerate(self.rows.shard(self.count, shard).iter(1), start=1):
                yield Sample(
                    f"{name} row {row - 1}", Unread({key: value[0] for key, value in found.items()}, self.kinds)
                )
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, DataError):
                raise
            what = f"it cannot be read after {row} rows ({first_line(error)})"
            raise ShardError(f"{self.source}: {name}", what, "replace the shard, or leave it out") from error
