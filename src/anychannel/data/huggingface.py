"""Opening Hugging Face data sets.

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

from anychannel.data.problems import DataError
from anychannel.data.samples import Fields
from anychannel.data.shards import SCHEME
from anychannel.utils.extras import need

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}
"""What a data set's splits may be called."""
FORMATS = {".parquet": "parquet", ".arrow": "arrow"}


def library() -> Any:
    """The ``datasets`` library.

    Raises:
        MissingExtraError: it is not installed.
    """
    return need("datasets", "hf", "a Hugging Face data set")


def open_source(
    spec: str, *, val: str | None, test: str | None, streaming: bool, progress: bool
) -> tuple[str, dict[str, Any]]:
    """What a source's name stands for.

    Args:
        spec: what follows ``hf:``.
        val, test: files of these splits, where ``spec`` names files; else the splits' names.
        streaming: read rows as they are asked for, from the hub too, instead of fetching and converting all first.
        progress: let the library show its bars.

    Returns:
        What to call it, and its ``datasets.Dataset`` or ``IterableDataset`` by our splits' names, those that there are.

    Raises:
        DataError: there is no such data set, or it has no training split.
    """
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
            reason = first_line(error)
            raise DataError(
                f"hf:{spec} cannot be opened ({reason}); give a folder that save_to_disk wrote, Parquet or Arrow "
                "files, or the name of a data set on the hub"
            ) from error
    return Path(name).name, name_splits(found, val, test, spec)


@contextmanager
def bars(*, shown: bool) -> Iterator[None]:
    """Whether the library shows progress inside; afterwards it is as it was."""
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
    """The splits by our names for them.

    Args:
        found: a mapping of data sets, or a single one, which is for training.
        val, test: what ``found`` calls these; None looks for their usual names.
        source: for messages.

    Raises:
        DataError: a split is not there; it lists those that are.
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
    features: Mapping[str, Any], image: str | Sequence[str] | None, label: str | None, held: str | None
) -> Fields:
    """Which columns hold what.

    Args:
        features: the columns' types by name.
        image, held: see ``Fields``; for ``image`` None takes the one column of images, or of arrays.
        label: None takes the one column of class labels, else ``label``.

    Raises:
        DataError: a column is not there, or it cannot be told which is meant; it lists all of them.
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
    fields = Fields(image if isinstance(image, str) else tuple(image), label, held)
    for name in (*([image] if isinstance(image, str) else image), label, held):
        if name is not None and name not in features:
            raise DataError(f"there is no column {name!r}; the columns are {listed}")
    return fields


def describe_type(feature: Any) -> str:
    """A column's type for messages."""
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__


def class_names_of(feature: Any) -> tuple[str, ...] | None:
    """The classes' names that a label column declares, None where it declares none."""
    names = getattr(feature, "names", None)
    return tuple(names) if names else None


def make_absolute(spec: str) -> str:
    """The same source, however a local one is looked at from elsewhere."""
    path = Path(spec).expanduser()
    local = path.is_dir() or (path.suffix in FORMATS and not SCHEME.match(spec))
    return str(Path.cwd() / path) if local else spec


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def stamp_local(spec: str) -> list[Any]:
    """Size and time of change of the files that a source names, [] where it is not a local one."""
    path = Path(spec).expanduser()
    files = path.rglob("*") if path.is_dir() else path.parent.glob(path.name) if path.parent.is_dir() else ()
    found = [(str(file.resolve()), file.stat()) for file in sorted(files) if file.is_file()]
    return [[name, status.st_size, status.st_mtime_ns] for name, status in found]
