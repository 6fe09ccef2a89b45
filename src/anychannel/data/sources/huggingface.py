"""Source ``hf``: Hugging Face data sets, read from Arrow files in any order, or streamed.

hf:photos                        a folder that ``save_to_disk`` wrote, or one that ``datasets.load_dataset`` reads
hf:train-*.parquet               Parquet or Arrow files; ``val`` and ``test`` name the others
hf:organisation/name             on the hub; ``hf:organisation/name:configuration``
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.data.errors import DataError
from anychannel.data.sources.arrays import number_labels
from anychannel.data.sources.source import SPLITS, Fields, Request, Source, StreamSettings, split_rows
from anychannel.data.sources.table_rows import RowShards, TableRows, first_line, library
from anychannel.data.sources.tar_shards import SCHEME

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}
"""What a data set's splits may be called."""
FORMATS = {".parquet": "parquet", ".arrow": "arrow"}


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
    names = None if class_names is None else tuple(class_names)
    if not streaming:
        given = {"epoch_images": epoch_images, "statistics_images": statistics_images, "lanes": lanes}
        wrong = [option for option, value in given.items() if value is not None]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} are about streamed rows; add streaming=True, or leave them out")
        return open_tables(name, found, find_fields(found["train"].features, image, label, held, names), request.seed)
    absent = [split for split in SPLITS if split not in found]
    if absent:
        raise DataError(f"hf:{spec} has no split for {' and '.join(absent)}; name it by {absent[0]}='NAME'")
    # a Dataset from disk is read in the order of its files, as an IterableDataset is
    rows = {s: found[s].to_iterable_dataset() if hasattr(found[s], "to_iterable_dataset") else found[s] for s in SPLITS}
    features = rows["train"].features
    if features is None:
        raise DataError(f"hf:{spec} does not declare its columns; load it without streaming")
    fields = find_fields(features, image, label, held, names)
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
        values = train.table.with_format(None)[fields.label]
        where = split_rows(*number_labels(np.asarray(list(values)), fields.class_names, len(train.rows)), seed)
        tables |= {split: train.select(np.flatnonzero(where == split)) for split in absent}
        tables["train"] = train.select(np.flatnonzero(~np.isin(where, absent)))
    return Source(name, tables, fields.class_names, fields.planes)


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
            found = hf.load_dataset(name, configuration or None, streaming=streaming)
        except (OSError, ValueError, hf.exceptions.DatasetsError) as error:
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
    listed, splits = ", ".join(map(str, found)), {}
    for split, asked in (("train", None), ("val", val), ("test", test)):
        names = SPLIT_NAMES[split] if asked is None else (asked,)
        name = next((name for name in names if name in found), None)
        if name is not None:
            splits[split] = found[name]
        elif asked is not None or split == "train":
            raise DataError(f"{source} has no split {names[0]!r} for {split}; its splits are {listed}")
    return splits


def find_fields(
    features: Mapping[str, Any],
    image: str | Sequence[str] | None,
    label: str | None,
    held: str | None,
    class_names: tuple[str, ...] | None,
) -> Fields:
    """Which columns hold what: those named, checked, or else those whose types, ``features``, tell.

    For ``image`` None takes the one column of images, or of arrays; for ``label`` the one column of class labels, else
    ``label``; for ``class_names`` those that the label column declares. Raises DataError if a column is not there, or
    several may be meant.
    """
    listed = ", ".join(f"{name} ({describe_type(feature)})" for name, feature in features.items())
    if image is None:
        of_images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
        found = of_images or [name for name, kind in features.items() if re.match(r"Array[23]D", type(kind).__name__)]
        if len(found) != 1:
            what = f"several columns may be the image ({', '.join(found)})" if found else "no column is an image"
            raise DataError(f"{what}; the columns are {listed}. Give image='NAME', or a name for each channel")
        image = found[0]
    if label is None:
        classes = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
        label = classes[0] if len(classes) == 1 else "label"
    for name in (*([image] if isinstance(image, str) else image), label, held):
        if name is not None and name not in features:
            raise DataError(f"there is no column {name!r}; the columns are {listed}")
    declared = class_names or tuple(getattr(features[label], "names", None) or ()) or None
    return Fields(image if isinstance(image, str) else tuple(image), label, held, declared)


def describe_type(feature: Any) -> str:
    """A column's type for messages."""
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__


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
