"""What a source of images provides: three splits of samples, and the names of classes and channels if it knows them.

A source lists its samples (``Sample``), or yields them from shards that are read in order (``Shards``). Everything else
is done once for all sources: ``anychannel.data.prepare``. Errors about a sample are raised when they are found, so that
all can be reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from anychannel.channels import ChannelSet, Groups
from anychannel.data.content import BandFiles, Content, Stamp, digest_content, read_content, stamp_content
from anychannel.data.errors import DataError, ImageError, Problems
from anychannel.data.files.decoded import Decoded
from anychannel.data.files.read import ReadSettings
from anychannel.data.files.registry import image_suffixes
from anychannel.utils.names import normal
from anychannel.utils.options import coerce_option

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What splits are called, in any case: the keywords by which Hugging Face's ``datasets`` knows them."""
OneLabel = int | str
Label = OneLabel | tuple[OneLabel, ...]
"""A position in the source's classes, or the name of a class; or all labels of an image that may have several."""
Loaded = Content | np.ndarray | Decoded
"""The content of an image file, an array whose channel axis is to be found, or pixels (C, H, W)."""


class PlaneFields(dict[str, Loaded]):
    """Images of one plane each, by the names of the fields or bands that hold them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image that a source lists.

    ``image`` is a file to read (or an OME-Zarr folder), a file for each of ``channels`` in their order, or pixels
    (C, H, W). Files are decoded into a cache on disk. Of many files give names as text, which takes less memory.
    ``label`` is a position in the source's classes, or the name of a class; of an image that may have several labels, a
    tuple. ``channels`` names the image's planes in
    their order; None means all channels of the data set. Messages use ``place`` (where the image lies), ``where``
    (where it is listed) and ``channels_from`` (where its channels are given), by default the path. ``digest`` is the
    hexadecimal digest of the content; None computes it.
    """

    path: str
    label: Label
    image: Path | str | BandFiles | np.ndarray
    channels: tuple[str, ...] | None = None
    place: str = ""
    where: str = ""
    channels_from: str = ""
    digest: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", self.place or self.path)
        object.__setattr__(self, "where", self.where or self.path)

    @property
    def is_file(self) -> bool:
        """Whether the image has to be read."""
        return not isinstance(self.image, np.ndarray)

    def load(self) -> Loaded | PlaneFields:
        """Read the image. Raises OSError if its file cannot be read."""
        if isinstance(self.image, BandFiles):
            return PlaneFields(self.image.load())
        return Decoded(self.image) if isinstance(self.image, np.ndarray) else read_content(Path(self.image))

    def describe_plane(self, name: str) -> str:
        """A band and its file, for messages."""
        file = f" ({self.image.files[name].name})" if isinstance(self.image, BandFiles) else ""
        return f"its band {name!r}{file}"

    def stamp(self) -> Stamp | None:
        """Size and time of change of the image's file; None if it has none. Raises OSError, ValueError."""
        if isinstance(self.image, np.ndarray):
            return None
        return stamp_content(self.image if isinstance(self.image, BandFiles) else Path(self.image))

    def find_digest(self, loaded: Loaded | PlaneFields) -> str | None:
        """Return the digest given, else that of a file's content."""
        return digest_content(loaded) if self.is_file else self.digest  # type: ignore[arg-type]


Listing = dict[str, list[Sample]]
"""Samples by split: train, val, test, each in its order."""


@dataclass(frozen=True)
class Fields:
    """Which fields hold what.

    Args:
        image: the field with the image, a file's bytes or an array; or several, each with one plane, in the channels'
            order: a sample that lacks one of them lacks this channel. None: the one field that is named like an image
            file (``png``, ``tif``, ``npy`` ...).
        label: the field with the label, a number from 0 or a class's name, or all labels of an image, as a list or as
            ``3|5``; ``json.class`` is the entry ``class`` of a field that holds a table as JSON.
        held: the field that names the channels of the image (``R,G`` or a list of names), in its planes' order; a
            sample without it has all. None: all images have all.
        class_names: the classes' names if they are given. Text is a number only if it is none of them.
    """

    image: str | tuple[str, ...] | None = None
    label: str = "label"
    held: str | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.held is not None and isinstance(self.image, tuple):
            raise ValueError(
                "held names the channels of images in one field; with a field for each channel, leave out those that a "
                "sample lacks"
            )

    def split_label(self, names: Container[str]) -> tuple[str, list[str]]:
        """The one of these fields that holds the label, and the path of entries in it."""
        parts = self.label.split(".")
        held = next((count for count in range(len(parts), 0, -1) if ".".join(parts[:count]) in names), 1)
        return ".".join(parts[:held]), parts[held:]

    @property
    def planes(self) -> tuple[str, ...] | None:
        """Names of the fields with one plane each, which name the channels too."""
        return self.image if isinstance(self.image, tuple) else None

    @property
    def may_lack(self) -> bool:
        """Whether samples can lack channels."""
        return self.held is not None or self.planes is not None


@dataclass(frozen=True)
class Record:
    """A sample as named values; ``fields`` says what they hold. Its place, for messages: ``train-003.tar: 000017``."""

    place: str
    values: Mapping[str, Any]
    fields: Fields

    @property
    def path(self) -> str:
        """Name of the image in its split's ``paths``."""
        return self.place

    def open_value(self, name: str) -> Any:
        """The value of a field; None if there is none."""
        return self.values.get(name)

    def has(self, name: str) -> bool:
        """Whether a field holds something."""
        return self.values.get(name) is not None

    def list_fields(self) -> str:
        """Names of the fields that hold something."""
        return ", ".join(filter(self.has, self.values)) or "none"

    @property
    def label(self) -> Label:
        """The label as it is written, see ``read_label``. Raises ImageError if there is none, or it is none."""
        name, path = self.fields.split_label(self.values)
        value = find_entry(self.values.get(name), name, path)
        if value is None:
            what = f"it has no field {self.fields.label!r}, only {self.list_fields()}"
            raise ImageError(what, "give label='NAME'")
        if isinstance(value, dict):
            keys = ", ".join(map(str, value))
            what = f"its field {self.fields.label!r} is a table with the entries {keys or '(none)'}"
            raise ImageError(
                what, f"name the one that is the class, as label='{self.fields.label}.{next(iter(value), '')}'"
            )
        return read_label(value, self.fields.class_names or ())

    @property
    def channels(self) -> tuple[str, ...] | tuple[int, ...] | None:
        """Names of the image's channels, or the positions of the fields that hold one plane each."""
        if isinstance(self.fields.image, tuple):
            found = tuple(i for i, name in enumerate(self.fields.image) if self.has(name))
            if not found:
                raise ImageError(f"it has none of the fields {', '.join(self.fields.image)}", "leave it out")
            return found
        value = None if self.fields.held is None else self.values.get(self.fields.held)
        if value is None:
            return None
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        names = split_channels(value.strip()) if isinstance(value, str) else tuple(str(one).strip() for one in value)
        if not names:
            raise ImageError(f"its field {self.fields.held!r} names no channel", "name those that it holds")
        return names

    def load(self) -> Loaded | PlaneFields:
        """Return the image, or its planes by their fields' names. Raises ImageError if there is none, or several."""
        if isinstance(self.fields.image, tuple):
            return PlaneFields({name: self.open_content(name) for name in self.fields.image if self.has(name)})
        if self.fields.image is not None:
            if not self.has(self.fields.image):
                what = f"it has no field {self.fields.image!r}, only {self.list_fields()}"
                raise ImageError(what, "name the image's field")
            return self.open_content(self.fields.image)
        found = [name for name in self.values if f".{name}" in image_suffixes()]
        if len(found) == 1:
            return self.open_content(found[0])
        what = f"several fields that may be its image ({', '.join(found)})" if found else "no field that is an image"
        raise ImageError(
            f"it has {what}; its fields are {self.list_fields()}", "give image='NAME', or a name for each channel"
        )

    def describe_plane(self, name: str) -> str:
        """A field with one plane, for messages."""
        return f"its field {name!r}"

    def find_digest(self, loaded: Loaded | PlaneFields) -> None:
        """Return None: the same pixels may be stored in several ways, so these are digested."""

    def open_content(self, name: str) -> bytes | np.ndarray:
        """A field's file as bytes, or its array. Raises ImageError if it holds something else."""
        value = self.open_value(name)
        if isinstance(value, bytes):
            return value
        if isinstance(value, np.ndarray | list):
            try:
                pixels = np.asarray(value)
            except ValueError as error:
                raise ImageError("its image is a list of rows that differ in length", "store a whole array") from error
            if pixels.dtype != object:
                return pixels
        raise ImageError(
            f"its image is of type {type(value).__name__}", "store an image file's bytes, or an array of numbers"
        )


def find_entry(value: Any, name: str, path: Sequence[str]) -> Any:
    """A field's value, JSON parsed, or an entry of it; None if there is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace").strip()
    if isinstance(value, str) and (name.endswith("json") or value.startswith("{")):
        try:
            value = json.loads(value)
        except ValueError as error:
            if name.endswith("json"):
                raise ImageError(f"its field {name!r} is not JSON ({error})", "correct it, or name another") from error
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def is_position(text: str, names: Container[str]) -> bool:
    """Whether a text is a number and no name."""
    return text.isdecimal() and text not in names


def read_label(value: Any, names: Container[str]) -> Label:
    """The label that a field holds: a number, a text as ``parse_label`` reads it, or a list of all labels of an image.

    A text is a number only if it is none of the ``names``. Raises ImageError if it is something else.
    """
    if isinstance(value, str):
        return parse_label(normal(value), names, lambda text: int(text) if is_position(text, names) else text)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list | tuple) and not any(isinstance(one, list | tuple) for one in value):
        found = [one for part in value for one in each_label(read_label(part, names))]
        if len(set(found)) < len(found):
            what = f"its labels are {value!r}, of which one is there twice"
            raise ImageError(what, "list the numbers or names of those that it has, and not 1 or 0 for each label")
        return tuple(sorted(found, key=str))
    raise ImageError(
        f"its label is {value!r} of type {type(value).__name__}", "labels are whole numbers or classes' names"
    )


AnySample = Sample | Record


BETWEEN_LABELS = re.compile("[|;]")
"""Stands between the labels of an image that has several; alone it means that the image has none."""


def each_label(label: Label | list[OneLabel]) -> tuple[OneLabel, ...]:
    """The labels of an image, which may have one or several; a list is a tuple that JSON has stored."""
    return tuple(label) if isinstance(label, tuple | list) else (label,)


def array_of_labels(labels: Sequence[Any], label_of: Mapping[Label, int], *, several: bool) -> np.ndarray:
    """(N,) int64 positions of the labels, or of ``several`` an image (N, L) float32, 1 for each that it has."""
    if not several:
        return np.array([label_of[label] for label in labels], dtype=np.int64)
    found = np.zeros((len(labels), len(set(label_of.values()))), dtype=np.float32)
    for row, label in zip(found, labels, strict=True):
        row[[label_of[one] for one in each_label(label) if one in label_of]] = 1
    return found


def parse_label(text: str, names: Container[str], parse: Callable[[str], OneLabel]) -> Label:
    """The label that a text names, or all of them if it has ``BETWEEN_LABELS`` and is not itself one of the ``names``.

    ``parse`` makes a number of a text that is one.
    """
    if text in names or BETWEEN_LABELS.search(text) is None:
        return parse(text)
    parts = (part.strip() for part in BETWEEN_LABELS.split(text))
    return tuple(sorted({parse(part) for part in parts if part}, key=str))


def match_splits(names: Iterable[str], place: object, fix: str = "keep one of them") -> dict[str, str]:
    """The names among these that mean a split, by the split. Raises DataError if two mean the same one."""
    found: dict[str, str] = {}
    for name in names:
        split = next((split for split, known in SPLIT_NAMES.items() if name.casefold() in known), None)
        if split in found:
            raise DataError(f"{place} has {found[split]} and {name}, which both may be its {split} split; {fix}")
        if split is not None:
            found[split] = name
    return {split: found[split] for split in SPLITS if split in found}


def split_channels(text: str) -> tuple[str, ...]:
    """Names from ``"R,G"`` or ``"R;G"``; a separator at the end is allowed, so that ``"4;"`` is the channel 4."""
    names = normal(text).split("," if "," in text else ";")
    return tuple(name.strip() for name in names if name.strip())


class Shards(Protocol):
    """The samples of one split, in pieces that are read from the first sample to the last."""

    @property
    def storage(self) -> Literal["disk", "memory", "source"]:
        """Where decoded images are kept: in the cache, in memory, or nowhere, if rows are read again when needed."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each shard, for messages."""

    @property
    def fields(self) -> Fields:
        """Which fields of a sample hold what."""

    def stamps(self) -> list[Any]:
        """Return plain values that change with the shards' content, as far as this is known without reading them."""

    def read(self, shard: int) -> Generator[AnySample]:
        """Yield a shard's samples in its order. Raises ShardError if it cannot be read to its end."""


@dataclass(frozen=True)
class Listed:
    """A list of samples as shards of one sample each."""

    samples: Sequence[Sample]
    storage: Literal["disk", "memory"]
    fields: ClassVar[Fields] = Fields()

    @property
    def names(self) -> Sequence[str]:
        """The samples' paths."""
        return [sample.path for sample in self.samples]

    def stamps(self) -> list[Any]:
        """Nothing: files are known by their content."""
        return []

    def read(self, shard: int) -> Generator[Sample]:
        """Yield the sample."""
        yield self.samples[shard]


@dataclass(frozen=True)
class StreamSettings:
    """How training images are read from shards.

    Args:
        epoch_images: images that an epoch draws; shards are then not counted, and an epoch may visit an image twice or
            not at all. None: an epoch visits each image once, and the images are counted first.
        statistics_images: images that the channels' statistics rest on; None takes all, or 10,000 with
            ``epoch_images``.
        buffer: samples among which the order is shuffled, of all lanes together.
        lanes: shards that are read side by side; see ``anychannel.data.batches.lanes``.
        workers: processes that read and decode; 0 uses threads of this one. The batches are the same.

    Raises:
        ValueError: a number is out of range.
    """

    epoch_images: int | None = None
    statistics_images: int | None = None
    buffer: int = 4096
    lanes: int | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        for name, what in (("epoch_images", " of images"), ("statistics_images", " of images"), ("lanes", "")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is a number{what}, at least 1, or left out, got {value}")
        for name, what in (("buffer", "samples"), ("workers", "processes")):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a number of {what}, 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Source:
    """A data set before it is read.

    ``splits`` holds a list of samples for ``train``, ``val`` and ``test``, or their shards. ``classes`` are names in
    the labels' order; None takes them from the labels. ``channels`` are names in the images' channel order; None takes
    them from the first image that has names. Messages call the data ``place``, by default its name. ``problems`` holds
    what is wrong with single samples, found while listing them. With ``stream``, training images are read from shards
    during training; None reads all images beforehand. ``groups`` are the channels' groups, if the data name any.
    ``how`` says how the images were split, as ``split at random``; empty if it is not known. ``other_columns`` are
    those of a table that are no labels, if it has a column for each label; None: labels are no columns.
    """

    name: str
    splits: Mapping[str, Sequence[Sample] | Shards]
    classes: tuple[str, ...] | None = None
    channels: ChannelSet | tuple[str, ...] | None = None
    place: str = ""
    problems: Problems = field(default_factory=Problems)
    stream: StreamSettings | None = None
    groups: Groups | None = None
    how: str = ""
    other_columns: tuple[str, ...] | None = None


def parse_classes(classes: Any) -> int | tuple[str, ...] | None:
    """``"5"`` -> 5 and ``"oak, pine"`` -> ``("oak", "pine")``. Raises ValueError for one name and other types."""
    if isinstance(classes, str):
        names = [name.strip() for name in classes.split(",")]
        classes = int(classes) if len(names) == 1 and names[0].isdecimal() else list(filter(None, names))
    found: int | tuple[str, ...] | None = coerce_option("classes", classes, int | tuple[str, ...] | None)
    if not isinstance(found, tuple):
        return found
    if len(found) < 2:
        raise ValueError(f"classes needs two or more names, each once, got {', '.join(found) or 'none'}")
    return tuple(map(normal, found))


@dataclass(frozen=True)
class Request:
    """What ``load_dataset`` was asked for, whatever the source."""

    channels: ChannelSet | str | Sequence[str] | None = None
    classes: int | Sequence[str] | None = None
    cache_dir: str | Path | None = None
    seed: int = 0
    progress: bool = False
    verify: bool = False
    skip_bad: bool | None = None
    settings: ReadSettings = field(default_factory=ReadSettings)
    allow_pipe: bool = False
    groups: Groups | None = None
    split_by: str | None = None
    fold_by: str | None = None
    fold: int | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", parse_classes(self.classes))

    @property
    def named_classes(self) -> tuple[str, ...]:
        """The classes asked for, if by name."""
        return self.classes if isinstance(self.classes, tuple) else ()

    @property
    def splits_anew(self) -> bool:
        """Whether the images of all splits are to be split by a column of a table."""
        return self.split_by is not None or self.fold_by is not None


def sort_names(labels: Iterable[OneLabel], fix: str) -> tuple[str, ...]:
    """The classes' names in alphabetical order, of data that do not list them; ``fix`` says where they would.

    Raises DataError if a name is made of other names with commas between them.
    """
    names = tuple(sorted(set(map(str, labels))))
    for name in names:
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and set(parts) <= set(names):
            raise DataError(
                f"the label {name!r} is made of the labels {' and '.join(parts)}; write {'|'.join(parts)!r} for an "
                f"image that has all of them, or list the classes in {fix} if it is one of its own"
            )
    return names


MOST_CLASSES = 100_000
"""A larger number as a label is no position of a class."""


def number_classes(highest: int) -> tuple[str, ...]:
    """Names of classes that are only numbered. Raises DataError if the highest label is no number of a class."""
    if highest >= MOST_CLASSES:
        raise DataError(f"the label {highest} is no number of a class; count the classes from 0, or give their names")
    return tuple(map(str, range(highest + 1)))
