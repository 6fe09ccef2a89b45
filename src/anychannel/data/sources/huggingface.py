"""Source ``hf``: Hugging Face data sets, read from Arrow files in any order, or streamed.

hf:photos                        a folder that ``save_to_disk`` wrote, or one that ``datasets.load_dataset`` reads
hf:train-*.parquet               Parquet or Arrow files; ``val`` and ``test`` name the others
hf:organisation/name             on the hub; ``hf:organisation/name:configuration``

Encoded images are taken as they are stored and decoded as files are, so that no mode is converted on the way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anychannel.data.content import read_content
from anychannel.data.errors import DataError, ImageError, ShardError
from anychannel.data.sources.arrays import number_labels
from anychannel.data.sources.source import (
    SPLITS,
    Fields,
    Label,
    Record,
    Request,
    Source,
    StreamSettings,
    find_entry,
    match_splits,
    read_label,
)
from anychannel.data.sources.splitting import split_rows, split_rows_of
from anychannel.data.sources.tar_shards import SCHEME
from anychannel.utils.extras import need

FORMATS = {".parquet": "parquet", ".arrow": "arrow"}
ARRAYS = re.compile(r"Array[2-5]D|List|LargeList|Sequence")
"""Kinds of column whose values are arrays."""
READ_AT_ONCE = 32
"""Rows in memory at a time."""


def open_huggingface(
    spec: str,
    request: Request,
    *,
    val: str | None = None,
    test: str | None = None,
    image: str | Sequence[str] | None = None,
    label: str | None = None,
    held: str | None = None,
    class_names: Sequence[str] | None = None,
    streaming: bool = False,
    epoch_images: int | None = None,
    statistics_images: int | None = None,
    buffer: int = 4096,
    lanes: int | None = None,
    workers: int = 0,
) -> Source:
    """Open a data set on disk or on the hub.

    Args:
        spec: the part after ``hf:``; the module's docstring shows the forms.
        request: the options that all sources take.
        val, test: what the data set calls these splits, or their files if ``spec`` names files. A split that is not
            there is cut from the training rows, 10 % of each class by the seed, unless ``streaming``.
        image, label, held: columns, see ``find_fields``.
        class_names: in the labels' order; None takes those that the label column declares, else what the labels say.
        streaming: read training rows in the order of the files, as they are asked for: ``dataset.train`` is a
            ``Stream``, and only val and test are fetched or converted beforehand.
        epoch_images, statistics_images, buffer, lanes, workers: as for ``wds``, only with ``streaming``.
    """
    name, found = find_tables(spec, val=val, test=test, streaming=streaming, progress=request.progress)
    if not streaming:
        given = {"epoch_images": epoch_images, "statistics_images": statistics_images, "lanes": lanes}
        wrong = [option for option, value in given.items() if value is not None]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} are about streamed rows; add streaming=True, or leave them out")
        fields = find_fields(found["train"].features, image, label, held, class_names)
        return open_tables(name, found, fields, request.seed)
    absent = [split for split in SPLITS if split not in found]
    if absent:
        raise DataError(f"hf:{spec} has no split for {' and '.join(absent)}; name it by {absent[0]}='NAME'")
    # a Dataset from disk is read in the order of its files, as an IterableDataset is
    rows = {s: found[s].to_iterable_dataset() if hasattr(found[s], "to_iterable_dataset") else found[s] for s in SPLITS}
    features = rows["train"].features
    if features is None:
        raise DataError(f"hf:{spec} does not declare its columns; load it without streaming")
    fields = find_fields(features, image, label, held, class_names)
    files = {"train": spec, "val": val, "test": test}
    stamps = {split: stamp_local(text) for split, text in files.items() if text}
    splits = {split: RowShards(rows[split], fields, f"hf:{spec}", split, stamps.get(split, ())) for split in SPLITS}
    stream = StreamSettings(epoch_images, statistics_images, buffer, lanes, workers)
    return Source(name, splits, fields.class_names, fields.planes, stream=stream)


def open_tables(name: str, found: Mapping[str, Any], fields: Fields, seed: int) -> Source:
    """Open tables whose rows are read in any order.

    Splits that are not there are cut from the training rows, 10 % of each class. Raises DataError if labels are missing
    or a class has too few rows to be cut.
    """
    tables = {split: TableRows(table, fields, split, np.arange(len(table))) for split, table in found.items()}
    absent = [split for split in SPLITS if split not in tables]
    if absent:
        train = tables["train"]
        name, path = fields.split_label(train.table.features)
        values = [find_entry(value, name, path) for value in train.table.with_format(None)[name]]
        where = split_values(values, fields.class_names, seed)
        tables |= {split: train.select(np.flatnonzero(where == split)) for split in absent}
        tables["train"] = train.select(np.flatnonzero(~np.isin(where, absent)))
    return Source(name, tables, fields.class_names, fields.planes)


def split_values(values: Sequence[Any], class_names: Sequence[str] | None, seed: int) -> np.ndarray:
    """(N,) names of splits for the values of a label column. Raises DataError as ``open_tables``."""
    labels: list[Label] = []
    for value in values:
        try:
            labels.append(read_label(value, class_names or ()))
        except ImageError:  # such a row is named when it is read
            labels.append(())
    if any(isinstance(label, tuple) for label in labels):
        return np.array(split_rows_of(labels, seed))
    return split_rows(*number_labels(np.asarray(values), class_names, len(values)), seed)


def check_tables(tables: Mapping[str, Any]) -> None:
    """Raise DataError for splits whose rows cannot be read in any order."""
    for split, table in tables.items():
        if isinstance(table, library().Dataset):
            continue
        hint = "a datasets.Dataset or a datasets.DatasetDict"
        if isinstance(table, library().IterableDataset):
            hint += ", or stream rows in order: load_dataset('hf:NAME', streaming=True)"
        raise DataError(f"the split for {split} is of the type {type(table).__name__}; give {hint}")


def find_tables(
    spec: str, *, val: str | None, test: str | None, streaming: bool, progress: bool
) -> tuple[str, dict[str, Any]]:
    """Name of the data set, and its tables by our names for the splits. Raises DataError if there are none."""
    path = Path(spec).expanduser()
    hf = library()
    with bars(shown=progress):
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return path.resolve().name, name_splits(hf.load_from_disk(str(path)), val, test, spec)
        try:
            if path.suffix in FORMATS:
                files = {"train": spec} | {
                    key: text for key, text in (("val", val), ("test", test)) if text is not None
                }
                found = hf.load_dataset(FORMATS[path.suffix], data_files=files, streaming=streaming)
                return path.resolve().parent.name, dict(found)
            name, _, configuration = (str(path.resolve()), "", "") if path.is_dir() else spec.partition(":")
            if name.isidentifier() and find_spec(f"datasets.packaged_modules.{name}"):
                raise DataError(f"hf:{spec} is a format of the datasets library; name a folder, files or a data set")
            found = hf.load_dataset(name, configuration or None, streaming=streaming)
        except (OSError, ValueError, RuntimeError, hf.exceptions.DatasetsError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"hf:{spec} cannot be opened ({first_line(error)}); give a folder that save_to_disk wrote, Parquet or "
                "Arrow files, or the name of a data set on the hub"
            ) from error
    return Path(name).name, name_splits(found, val, test, spec)


@contextmanager
def bars(*, shown: bool) -> Iterator[None]:
    """Show or hide the library's progress bars inside; afterwards they are as before."""
    tools = library().utils
    before = tools.are_progress_bars_disabled()
    if not shown:
        tools.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            tools.enable_progress_bars()


def name_splits(found: Any, val: str | None, test: str | None, source: str) -> dict[str, Any]:
    """The splits by our names for them: of a mapping of data sets, or of a single one, which is for training.

    ``val`` and ``test`` are their names there; None looks for their usual names. Raises DataError if a split is not
    there; it lists those that are.
    """
    if not isinstance(found, Mapping):
        found = {"train": found}
    asked = {split: name for split, name in (("val", val), ("test", test)) if name is not None}
    usual = [name for name in map(str, found) if name not in asked.values()]
    names = match_splits(usual, source, "name the one to use by val='NAME' or test='NAME'") | asked
    for split, name in ({"train": "train"} | names).items():
        if name not in found:
            listed = ", ".join(map(str, found))
            raise DataError(f"{source} has no split {name!r} for {split}; its splits are {listed}")
    return {split: found[names[split]] for split in SPLITS if split in names}


def find_fields(
    features: Mapping[str, Any],
    image: str | Sequence[str] | None,
    label: str | None,
    held: str | None,
    class_names: Sequence[str] | None,
) -> Fields:
    """Which columns hold what: those named, checked, or else those whose types, ``features``, tell.

    For ``image`` None takes the one column of images, or of arrays; for ``label`` the one column of class labels, else
    that of lists of them, which holds all labels of an image, else ``label``; for ``class_names`` those that the label
    column declares. Raises DataError if a column is not there, or several may be meant.
    """
    types = {name: type(feature).__name__ for name, feature in features.items()}
    listed = ", ".join(f"{name} ({features[name].dtype if kind == 'Value' else kind})" for name, kind in types.items())
    if image is None:
        found = [name for name, kind in types.items() if kind == "Image"]
        found = found or [name for name, kind in types.items() if kind in ("Array2D", "Array3D")]
        if len(found) != 1:
            what = f"several columns may be the image ({', '.join(found)})" if found else "no column is an image"
            raise DataError(f"{what}; the columns are {listed}. Give image='NAME', or a name for each channel")
        image = found[0]
    found_names = ((name, getattr(feature, "feature", feature)) for name, feature in features.items())
    classes = {name: tuple(feature.names) for name, feature in found_names if hasattr(feature, "names")}
    if label is None:
        single = [name for name in classes if types[name] == "ClassLabel"] or list(classes)
        label = single[0] if len(single) == 1 else "label"
    fields = Fields(image if isinstance(image, str) else tuple(image), label, held)
    for name in (*([image] if isinstance(image, str) else image), fields.split_label(features)[0], held):
        if name is not None and name not in features:
            raise DataError(f"there is no column {name!r}; the columns are {listed}")
    declared = tuple(class_names or classes.get(label, ())) or None
    return replace(fields, class_names=declared)


def make_absolute(spec: str) -> str:
    """The same source, as seen from any folder."""
    path = Path(spec).expanduser()
    local = path.is_dir() or (path.suffix in FORMATS and not SCHEME.match(spec))
    return str(Path.cwd() / path) if local else spec


def stamp_local(spec: str) -> list[Any]:
    """Size and time of change of the local files that a source names, [] if there are none."""
    path = Path(spec).expanduser()
    files = path.rglob("*") if path.is_dir() else path.parent.glob(path.name) if path.parent.is_dir() else ()
    found = [(str(file.resolve()), file.stat()) for file in sorted(files) if file.is_file()]
    return [[name, status.st_size, status.st_mtime_ns] for name, status in found]


def library() -> Any:
    """The ``datasets`` library. Raises MissingExtraError if it is not installed."""
    return need("datasets", "hf", "a Hugging Face data set")


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def as_stored(table: Any, fields: Fields) -> Any:
    """The columns to read, images as they are stored."""
    images = fields.image if isinstance(fields.image, tuple) else (fields.image,)
    label = fields.split_label(table.features)[0]
    table = table.select_columns([name for name in (*images, label, fields.held) if name is not None])
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
                return read_content(Path(value["path"]))
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
