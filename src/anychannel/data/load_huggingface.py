"""``load_dataset("hf:...")``: Hugging Face data sets, read from Arrow files in any order or streamed in shards."""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.arrays import number_labels, split_rows
from anychannel.data.assemble import assemble
from anychannel.data.build import Template
from anychannel.data.cache import open_or_build, resolve_cache_dir
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.files.read import ReadSettings
from anychannel.data.huggingface import (
    class_names_of,
    find_fields,
    library,
    name_splits,
    open_source,
    stamp_local,
)
from anychannel.data.labels import Labels
from anychannel.data.load_stream import (
    INDEX,
    Request,
    check_met,
    load_shards,
    make_key,
    name_channels,
    read_scalings,
)
from anychannel.data.problems import DataError, Problems
from anychannel.data.samples import Reader, placed
from anychannel.data.statistics import RunningMoments, Statistics
from anychannel.data.survey import GrowingArray, Seen, Survey, find_leaks, keep_all
from anychannel.data.table_rows import RowShards, Table, TableShards
from anychannel.data.workers import count_workers
from anychannel.utils.processes import share


def load_hf(
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
) -> ImageDataset:
    """A Hugging Face data set on disk or on the hub.

    Args:
        spec: see ``data.huggingface``.
        request: the options that all sources take.
        val, test: what the data set calls these splits, or their files where ``spec`` names files. A split that is
            not there is cut from the training rows, 10 % of each class by the seed, unless ``streaming``.
        image, label, held: columns, see ``find_fields``.
        class_names: in the labels' order; None takes those that the label column declares, else what the labels say.
        streaming: read training rows in the order of the files, as they are asked for: ``dataset.train`` is a
            ``Stream``, and nothing is fetched or converted beforehand but val and test.
        epoch_images, statistics_images, buffer, lanes, workers: as ``load_wds``, with ``streaming`` alone.

    Raises:
        DataError: lists the rows that cannot be used.
        ValueError: an argument is out of range.
    """
    name, found = open_source(spec, val=val, test=test, streaming=streaming, progress=request.progress)
    if not streaming:
        given = {"epoch_images": epoch_images, "statistics_images": statistics_images, "lanes": lanes}
        wrong = [option for option, value in given.items() if value is not None]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} are about streamed rows; add streaming=True, or leave them out")
        return load_tables(name, found, request, image=image, label=label, held=held, class_names=class_names)
    absent = [split for split in SPLITS if split not in found]
    if absent:
        raise DataError(f"hf:{spec} has no split for {' and '.join(absent)}; name it by {absent[0]}='NAME'")
    rows = {split: as_rows(found[split]) for split in SPLITS}
    features = rows["train"].features
    if features is None:
        raise DataError(f"hf:{spec} does not declare its columns; load it without streaming")
    fields = find_fields(features, image, label, held)
    names = tuple(class_names) if class_names is not None else class_names_of(features[fields.label])
    files = {"train": stamp_local(spec)} | {s: stamp_local(told) for s, told in (("val", val), ("test", test)) if told}
    shards = {split: RowShards(rows[split], fields, f"hf:{spec}", split, files.get(split, ())) for split in SPLITS}
    options = {"epoch_images": epoch_images, "statistics_images": statistics_images, "lanes": lanes}
    return load_shards(name, shards, request, fields, names, buffer=buffer, workers=workers, **options)


def as_rows(found: Any) -> Any:
    """A ``Dataset`` as rows in the order of its files; what is so already stays."""
    return found.to_iterable_dataset() if hasattr(found, "to_iterable_dataset") else found


def dataset_from_huggingface(
    source: Any,
    *,
    channels: ChannelSet | str | Sequence[str] | None = None,
    image: str | Sequence[str] | None = None,
    label: str | None = None,
    held: str | None = None,
    val: str | None = None,
    test: str | None = None,
    class_names: Sequence[str] | None = None,
    size: int | None = None,
    classes: int | Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
    name: str = "huggingface",
) -> ImageDataset:
    """Make a data set of a ``datasets.Dataset`` or ``DatasetDict``; images are decoded when they are read.

    Args:
        source: with splits, or for training alone.
        channels, size, classes, cache_dir, seed, progress: as ``load_dataset``.
        image, label, held, val, test, class_names: as ``load_hf``.
        name: of the data set.

    Raises:
        DataError: lists the rows that cannot be used; or ``source`` is streamed or no data set of that library.
        ChannelError, ValueError: as ``load_dataset``.
    """
    request = Request(channels, classes, cache_dir, seed, progress, False, ReadSettings(size=size))
    found = name_splits(source, val, test, name)
    for split, table in found.items():
        check_table(table, split)
    return load_tables(name, found, request, image=image, label=label, held=held, class_names=class_names)


def check_table(table: Any, split: str) -> None:
    """Refuse what has no rows that can be read in any order.

    Raises:
        DataError: says what was given, and what to give.
    """
    if isinstance(table, library().Dataset):
        return
    hint = "a datasets.Dataset or a datasets.DatasetDict"
    if isinstance(table, library().IterableDataset):
        hint += ", or stream rows in order: load_dataset('hf:NAME', streaming=True)"
    raise DataError(f"the split for {split} is of the type {type(table).__name__}; give {hint}")


def load_tables(
    name: str,
    found: Mapping[str, Any],
    request: Request,
    *,
    image: str | Sequence[str] | None,
    label: str | None,
    held: str | None,
    class_names: Sequence[str] | None,
) -> ImageDataset:
    """A data set of tables whose rows are read in any order; see ``load_hf``.

    All rows are decoded once, for the statistics and to find those that cannot be used; what that finds is remembered.
    """
    features = found["train"].features
    fields = find_fields(features, image, label, held)
    names = tuple(class_names) if class_names is not None else class_names_of(features[fields.label])
    fields = replace(fields, class_names=names)
    shards = cut_tables({split: Table(found[split], fields, split) for split in found}, request.seed, names)
    labels = Labels(names, request.classes)
    cache = resolve_cache_dir(request.cache_dir)
    named = name_channels(name, shards["train"], request, fields)
    reader = Reader(fields, named, request.settings.naming(named))
    key = make_key(shards, reader, names, request, counted=True, sampled=None)
    if request.verify and share().is_main:
        shutil.rmtree(cache / "images" / key, ignore_errors=True)

    def build(folder: Path) -> Statistics:
        survey = Survey(reader, labels, Problems(), request.progress)
        moments: list[RunningMoments] = []
        digests = array("Q")
        index: dict[str, Any] = {}
        for split in SPLITS:
            take = add_to(moments, len(named)) if split == "train" else None
            kept, seen = keep_all(survey, shards[split], take)
            if not kept["labels"]:
                survey.problems.add(split, "this split has no image", "train, val and test all need some")
            find_leaks(digests, split, kept["places"], seen, survey.problems)
            digests += seen
            index[split] = kept
        survey.problems.raise_if_any(name)
        template = survey.template
        if template is None:
            raise DataError(f"{name} holds no image of the classes asked for")
        statistics = moments[0].statistics()
        check_met(named, statistics, None, None)
        for split in SPLITS:
            with GrowingArray(folder / f"{split}.npy", ((len(named), *template.size), template.dtype)):
                pass
        digest = hashlib.blake2b(digests.tobytes(), digest_size=16).hexdigest()
        index |= {"labels": sorted(labels.seen, key=str), "first": template.path, "digest": digest}
        (folder / INDEX).write_text(json.dumps(index | {"scalings": template.scalings}), encoding="utf-8")
        return statistics

    cached = open_or_build(cache, key, None, build)
    index = json.loads((cached.folder / INDEX).read_text(encoding="utf-8"))
    labels.seen.update(index["labels"])
    classes, label_of = labels.settle()
    empty = cached.images["train"]
    template = Template(tuple(empty.shape[2:]), empty.dtype, index["first"], read_scalings(index))
    splits = {}
    for split in SPLITS:
        kept = index[split]
        rows = np.array([int(place.rpartition(" ")[2]) for place in kept["places"]], dtype=np.int64)
        present = np.array([np.isin(np.arange(len(named)), held) for held in kept["positions"]], dtype=bool)
        numbers = np.array([label_of[value] for value in kept["labels"]], dtype=np.int64)
        images = TableImages(shards[split].table, rows, reader, template)
        splits[split] = Split(images, numbers, tuple(kept["places"]), present)
    return assemble(name, named, classes, splits, cached.statistics, index["digest"])


def add_to(moments: list[RunningMoments], channels: int) -> Callable[[Seen], None]:
    """What counts images in, beginning with the first."""

    def take(seen: Seen) -> None:
        if not moments:
            moments.append(RunningMoments((channels, *seen.image.found.pixels.shape[1:])))
        moments[0].add(*seen.ascending())

    return take


def cut_tables(tables: Mapping[str, Table], seed: int, names: tuple[str, ...] | None) -> dict[str, TableShards]:
    """The rows of each split; splits that are not there are cut from the training rows, 10 % of each class.

    Raises:
        DataError: labels are missing or of another kind, or a class has too few rows to be cut.
    """
    rows = {split: np.arange(len(table)) for split, table in tables.items()}
    absent = [split for split in SPLITS if split not in tables]
    if absent:
        train = tables["train"]
        values = train.table.with_format(None)[train.fields.label]
        numbers, known = number_labels(np.asarray(list(values)), names, len(train))
        cut = split_rows(numbers, known, seed)
        rows |= {split: cut[split] for split in absent}
        rows["train"] = np.setdiff1d(rows["train"], np.concatenate([cut[split] for split in absent]))
    return {split: TableShards(tables.get(split, tables["train"]), rows[split]) for split in SPLITS}


class TableImages:
    """A table's images (N, C, H, W), decoded when they are read; nothing is kept.

    Args:
        table: where they lie.
        rows: which of its rows they are.
        reader: turns rows into images.
        template: what all images have to be like.
    """

    ndim = 4

    def __init__(self, table: Table, rows: np.ndarray, reader: Reader, template: Template) -> None:
        self.table = table
        self.rows = rows
        self.reader = reader
        self.template = template

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.rows), len(self.reader.channels), *self.template.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.template.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Images by a number, a slice or an array: (C, H, W) or (n, C, H, W).

        Raises:
            DataError: a row cannot be used any more.
        """
        chosen = self.rows[rows]
        samples = self.table.read(np.atleast_1d(chosen).tolist())
        result = np.empty((len(samples), *self.shape[1:]), dtype=self.dtype)

        def fill(i: int) -> None:
            with placed(samples[i]):
                image = self.reader.read(samples[i])
                self.template.check(image.found, image.positions, scaled=self.reader.settings.scaled)
            result[i] = image.spread(len(self.reader.channels))

        if len(samples) == 1:
            fill(0)
        else:
            with ThreadPoolExecutor(count_workers()) as pool:
                list(pool.map(fill, range(len(samples))))
        return result if np.ndim(chosen) else result[0]
