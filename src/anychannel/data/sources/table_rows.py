"""Rows of Hugging Face data sets as samples.

Encoded images are taken as they are stored and decoded as files are, so that no mode is converted on the way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anychannel.data.errors import DataError, ImageError, ShardError
from anychannel.data.sources.source import Fields, Record
from anychannel.utils.extras import need

ARRAYS = re.compile(r"Array[2-5]D|List|LargeList|Sequence")
"""Kinds of column whose values are arrays."""
READ_AT_ONCE = 32
"""Rows in memory at a time."""


def library() -> Any:
    """The ``datasets`` library. Raises MissingExtraError if it is not installed."""
    return need("datasets", "hf", "a Hugging Face data set")


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def as_stored(table: Any, fields: Fields) -> Any:
    """The columns to read, images as they are stored."""
    images = fields.image if isinstance(fields.image, tuple) else (fields.image,)
    table = table.select_columns([name for name in (*images, fields.label, fields.held) if name is not None])
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


@dataclass(frozen=True)
class Row(Record):
    """A row. Its images are opened when they are asked for, so that a missing file is an error of its sample.

    ``kinds`` holds the type of each column, see ``array_type``.
    """

    kinds: Mapping[str, np.dtype[Any] | None]

    def open_value(self, name: str) -> Any:
        """A stored image's bytes, an array in its column's type, or anything else as it is."""
        value, kind = self.values.get(name), self.kinds.get(name)
        if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
            if value["bytes"] is not None:
                return value["bytes"]
            try:
                return Path(value["path"]).read_bytes()
            except OSError as error:
                what = f"its file {value['path']} cannot be read ({error.strerror})"
                raise ImageError(what, "restore it") from error
        if value is None or kind is None:
            return value
        try:
            return np.asarray(value).astype(kind)
        except ValueError as error:
            raise ImageError("its image is a list of rows that differ in length", "store a whole array") from error


class TableRows:
    """Rows of a ``datasets.Dataset``, which lie in Arrow files that are mapped into memory and read in any order.

    ``rows`` are those of this split.
    """

    storage: Literal["source"] = "source"

    def __init__(self, table: Any, fields: Fields, split: str, rows: np.ndarray) -> None:
        self.table = as_stored(table, fields)
        self.fields = fields
        self.split = split
        self.rows = rows
        self.kinds = {name: array_type(feature) for name, feature in self.table.features.items()}
        self.arrays = [name for name, kind in self.kinds.items() if kind is not None]
        self.plain = self.table.with_format("numpy", columns=self.arrays, output_all_columns=True, dtype=None)
        self.raw = self.table.with_format("arrow", columns=self.arrays) if self.arrays else None

    def select(self, rows: np.ndarray) -> TableRows:
        """The same table with other rows."""
        return TableRows(self.table, self.fields, self.split, rows)

    @property
    def names(self) -> Sequence[str]:
        """First row of each piece."""
        return [f"{self.split} rows {start} ..." for start in range(0, max(1, len(self.rows)), READ_AT_ONCE)]

    def stamps(self) -> list[Any]:
        """The library's own digest of the table, its files, the rows and the columns."""
        files = [Path(file["filename"]) for file in self.table.cache_files]
        known = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        rows = hashlib.blake2b(self.rows.astype(np.int64).tobytes(), digest_size=16).hexdigest()
        return [self.table._fingerprint, known, rows]

    def read(self, shard: int) -> Generator[Row]:
        """Yield some of the rows."""
        yield from self.take(range(shard * READ_AT_ONCE, min((shard + 1) * READ_AT_ONCE, len(self.rows))))

    def take(self, places: Sequence[int]) -> list[Row]:
        """Rows by their place among this split's."""
        rows = self.rows[np.asarray(places, dtype=np.int64)].tolist()
        found = self.plain[rows] if self.arrays else self.table[rows]
        valid = {}
        if self.raw is not None:  # NumPy has no null: it says nan
            stored = self.raw[rows]
            valid = {name: stored.column(name).is_valid().to_pylist() for name in self.arrays}

        def row(i: int) -> Row:
            values = {name: column[i] for name, column in found.items() if name not in valid or valid[name][i]}
            return Row(f"{self.split} row {rows[i]}", values, self.fields, self.kinds)

        return [row(i) for i in range(len(rows))]


class RowShards:
    """Rows of a ``datasets.IterableDataset``, in its own shards.

    ``source`` names the data set, and ``files`` holds what changes with its files, if these are local.
    """

    storage: Literal["disk"] = "disk"

    def __init__(self, rows: Any, fields: Fields, source: str, split: str, files: Sequence[Any] = ()) -> None:
        self.rows = as_stored(rows, fields)
        self.fields = fields
        self.source = source
        self.split = split
        self.files = list(files)
        self.kinds = {name: array_type(feature) for name, feature in self.rows.features.items()}
        self.count = int(self.rows.num_shards)

    @property
    def names(self) -> Sequence[str]:
        """Number of each shard."""
        return [f"{self.split} shard {i + 1} of {self.count}" for i in range(self.count)]

    def stamps(self) -> list[Any]:
        """The source's name, its number of shards, what is known of its files, and the columns."""
        info = self.rows.info
        return [self.source, self.split, self.count, str(info.version), info.dataset_size, self.files]

    def read(self, shard: int) -> Generator[Row]:
        """Yield a shard's rows."""
        row, name = 0, self.names[shard]
        try:
            # by iter(1), as the library would divide what it yields otherwise once more in a data loader's process
            for row, found in enumerate(self.rows.shard(self.count, shard).iter(1), start=1):
                values = {key: value[0] for key, value in found.items()}
                yield Row(f"{name} row {row - 1}", values, self.fields, self.kinds)
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, DataError):
                raise
            what = f"it cannot be read after {row} rows ({first_line(error)}); replace the shard, or leave it out"
            raise ShardError(f"{self.source}: {name}: {what}") from error
