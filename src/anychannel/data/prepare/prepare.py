"""A source to a data set: names, keys, the one pass over its images (``survey.py``), the cache, and the splits."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from os.path import normpath
from pathlib import Path
from typing import Any, cast

import numpy as np

from anychannel.channels import ChannelSet, Subset, as_channel_set
from anychannel.data.batches.on_demand import OnDemandImages, Rows
from anychannel.data.batches.stream import Counted, Stream
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.errors import DataError, ImageError
from anychannel.data.files.names import RGB, channels_from_file, check_names
from anychannel.data.files.read import read
from anychannel.data.planes import Images
from anychannel.data.prepare.cache import Cached, open_or_build, resolve_cache_dir
from anychannel.data.prepare.digests import FileDigests
from anychannel.data.prepare.labels import Labels
from anychannel.data.prepare.statistics import Statistics, with_statistics
from anychannel.data.prepare.survey import Item, Survey, Walk
from anychannel.data.sources.reader import Reader, placed
from anychannel.data.sources.source import AnySample, Listed, PlaneFields, Request, Sample, Shards, Source
from anychannel.data.sources.template import Template
from anychannel.utils.files import write_text
from anychannel.utils.processes import share

CACHE_FORMAT = 3
"""Raised whenever the same sources and settings give another index or other pixels."""
KEY_FORMAT = 1
"""Raised whenever the same files and settings give other pixels; it is part of a data set's fingerprint."""
SAMPLED = 10_000
"""Images that statistics rest on if the shards are not read whole."""


def prepare(source: Source, request: Request) -> ImageDataset:
    """Read a source: see ``load_dataset``.

    Raises:
        DataError: lists the samples that cannot be used.
        ChannelError: the channels' names cannot be used.
        ValueError: a setting is out of range.

    Warns:
        UserWarning: see ``load_dataset``.
    """
    return Preparation(source, request).run()


class Preparation:
    """What the steps from a source to a data set share.

    Args:
        source: what to read.
        request: what was asked for.
    """

    def __init__(self, source: Source, request: Request) -> None:
        self.source = source
        self.request = request
        self.place = source.place or source.name
        self.problems = source.problems
        self.labels = Labels(source.classes, request.classes, self.place)
        self.splits: dict[str, Shards] = {}
        for split in SPLITS:
            found = source.splits[split]
            self.splits[split] = Listed(list(filter(self.wants, found))) if isinstance(found, Sequence) else found
        self.listed = all(isinstance(shards, Listed) for shards in self.splits.values())
        self.in_memory = all(shards.storage == "memory" for shards in self.splits.values())
        self.cache_dir = resolve_cache_dir(request.cache_dir)
        self.files: FileDigests | None = None
        self.counted, self.sampled = self.check_stream()

    def wants(self, sample: Sample) -> bool:
        """Whether the class of a listed sample is asked for."""
        with placed(sample):
            return self.labels.wants(sample.label)

    def check_stream(self) -> tuple[bool, int | None]:
        """Whether a stream's training images are counted, and how many are measured, None for all.

        Raises:
            DataError: they are not counted, and nothing names the classes.
            ValueError: a setting is out of range.
        """
        stream = self.source.stream
        if stream is None:
            return True, None
        for name in ("epoch_images", "statistics_images"):
            value = getattr(stream, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is a number of images, at least 1, or left out, got {value}")
        if stream.epoch_images is None:
            return True, stream.statistics_images
        if self.source.classes is None:
            raise DataError(
                f"with epoch_images the shards of {self.place} are not read whole, so their classes have to be told: "
                "give class_names, in the labels' order"
            )
        return False, stream.statistics_images or SAMPLED

    def run(self) -> ImageDataset:
        """See ``prepare``."""
        if self.listed:
            self.check_listed()
        walks = {split: self.walk(split) for split in SPLITS}
        opened: dict[str, Any] = {}
        named = self.name_channels(walks, opened)
        fields = self.source.channels
        if isinstance(fields, tuple) and not self.listed and len(fields) != len(named):
            raise DataError(
                f"image names {len(fields)} fields ({', '.join(fields)}), but there are {len(named)} channels "
                f"({', '.join(named.names)}); name a field for each, in their order"
            )
        reader = Reader(named, self.request.settings.naming(named))
        planes = self.find_planes(reader)
        if self.listed:
            walks = {split: self.walk(split) for split in SPLITS}
        stamps = {} if self.files is None else self.files.stamps
        survey = Survey(reader, self.problems, self.request.progress, stamps, opened)

        def build(folder: Path | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            stream, sampled = self.source.stream is not None, self.sampled is not None
            index, images = survey.run(walks, self.splits, folder, stream=stream, sampled=sampled)
            self.problems.raise_if_any(self.place)
            if not index:
                raise DataError(f"{self.place} holds no training image of the classes asked for")
            index |= {"labels": sorted(self.labels.seen, key=str), "counts": index["counts"] if self.counted else None}
            check_seen(named, Statistics.from_dict(index["statistics"]), index["counts"], self.sampled)
            return index, images

        if self.problems:
            build(None)
        cached = self.open(reader, planes, build)
        if self.listed and reader.settings.check_names:
            self.check_cached_names(cached.index["names"], named)
        return self.assemble(reader, cached, planes)

    def walk(self, split: str) -> Iterator[Item]:
        """The samples of a split."""
        if split == "train":
            train = self.splits[split]
            return Walk(train, self.labels, self.problems, self.sampled, self.counted, self.request.seed).items()
        return Walk(self.splits[split], self.labels, self.problems).items()

    def samples(self) -> Iterator[tuple[str, Sample]]:
        """Split and sample, of a source that lists them: train, val, test, each in its order."""
        for split, shards in self.splits.items():
            if isinstance(shards, Listed):
                for sample in shards.samples:
                    yield split, sample

    def check_listed(self) -> None:
        """Note empty splits, files in two splits or with two labels, and files that cannot be read."""
        for split, shards in self.splits.items():
            if not shards.names:
                self.problems.add(split, "this split has no image", "train, val and test all need some")
        if self.in_memory:
            return
        seen: dict[str, tuple[str, Sample]] = {}
        names = self.labels.names or ()
        for split, sample in self.samples():
            other, first = seen.setdefault(normpath(sample.path), (split, sample))
            if other != split:
                what = f"the same file is in two splits (leakage): {split}, and {other} as {first.place}"
                self.problems.add(sample.place, what, "keep it in one of them")
            elif first.label != sample.label:
                mine, theirs = (
                    names[one.label] if isinstance(one.label, int) else one.label for one in (sample, first)
                )
                what = f"the same file has two labels: {mine}, and {theirs} in {first.where}"
                self.problems.add(sample.place, what, "keep one of them")
        files = [sample for _, sample in self.samples()]
        self.files = FileDigests(self.cache_dir, self.place, files, self.problems, forget=self.request.verify)
        for split, shards in self.splits.items():
            assert isinstance(shards, Listed)
            self.splits[split] = Listed([sample for sample in shards.samples if sample.path in self.files.stamps])

    def find_planes(self, reader: Reader) -> dict[str, list[Subset]]:
        """Channels of each listed sample's planes, by split; samples that name unknown ones are noted and left out."""
        planes: dict[str, list[Subset]] = {}
        for split, shards in self.splits.items():
            if not isinstance(shards, Listed):
                continue
            planes[split], usable = [], []
            for sample in shards.samples:
                try:
                    planes[split].append(reader.positions(sample))
                    usable.append(sample)
                except ImageError as error:
                    self.problems.add(sample.channels_place, error.what, error.fix)
            self.splits[split] = Listed(usable)
        return planes

    def name_channels(self, walks: dict[str, Iterator[Item]], opened: dict[str, Any]) -> ChannelSet:
        """The channels' names: those given, else the source's, else the first image's own, else R, G, B if it is RGB.

        Args:
            walks: the samples of each split; what is taken from them is put back.
            opened: gets what was read, by the sample's place.

        Raises:
            DataError: nothing names the channels; it says how many there are, or that the images each name their own.
        """
        given = self.source.channels if self.request.channels is None else self.request.channels
        if given is not None:
            return as_channel_set(given)
        first: Sample | None = None
        if self.listed:
            samples = [sample for _, sample in self.samples()]
            whole = [sample for sample in samples if sample.channels is None]
            if samples and not whole:
                raise DataError(
                    f"every image of {self.place} names its own channels, but nothing names them all and their order; "
                    "give channels='first,second,...', or write the names to channels.txt, one a line"
                )
            first = next(iter(whole), None)
        memory = self.names_memory(first)
        if memory is not None and memory.is_file() and not self.request.verify:
            return ChannelSet(tuple(json.loads(memory.read_text(encoding="utf-8"))))
        taken: list[Item] = []
        candidates: Iterator[AnySample] = iter(whole) if self.listed else peek(walks["train"], taken)
        named, seen = RGB, False
        for sample in candidates:
            seen = True
            try:
                loaded = sample.load()
                assert not isinstance(loaded, PlaneFields)  # then the fields name the channels
                found = read(loaded, self.request.settings)
            except (ImageError, OSError):
                continue
            named = channels_from_file(found, self.place, sample.path, file=self.files is not None)
            opened[sample.place] = loaded
            if memory is not None:
                write_text(memory, json.dumps(named.names))
            break
        walks["train"] = chain(taken, walks["train"])
        if not seen and not self.listed:
            self.problems.raise_if_any(self.place)
            raise DataError(f"the training shards of {self.place} hold no sample")
        return named

    def names_memory(self, first: Sample | None) -> Path | None:
        """Where the first image's own names are kept; None if they are not."""
        if self.files is not None:
            if first is None or not self.files.is_settled(first.path):
                return None
            known: list[Any] = [str(first.image), *self.files.stamps[first.path]]
        elif self.in_memory:
            return None
        else:
            known = self.splits["train"].stamps()
        return self.cache_dir / "names" / f"{digest_of([CACHE_FORMAT, known, repr(self.request.settings)])}.json"

    def open(self, reader: Reader, planes: Mapping[str, list[Subset]], build: Any) -> Cached:
        """The images and what is known of them: from the cache, or by the pass."""
        if self.in_memory:
            index, images = build(None)
            pixels = hashlib.blake2b(digest_size=16)
            for split in SPLITS:
                present = spread(planes[split], len(reader.channels))
                pixels.update(np.ascontiguousarray(images[split]).data)
                pixels.update(b"" if present.all() else np.packbits(present).tobytes())
            return Cached(images, index, pixels.hexdigest())
        settings = reader.settings
        shaping = settings.beyond_size() | {"size": settings.size, "layout": settings.layout}
        if self.files is None:
            asked = self.request.classes
            asked = asked if asked is None or isinstance(asked, int) else list(asked)
            stamps = [self.splits[split].stamps() for split in SPLITS]
            seed = self.request.seed if self.sampled is not None else None
            names = [reader.channels.names, settings.check_names, self.source.classes, asked]
            sketch = digest_of([CACHE_FORMAT, stamps, names, shaping, self.counted, self.sampled, seed])
            if self.request.verify and share().is_main:
                shutil.rmtree(self.cache_dir / "images" / f"{sketch}-{0}", ignore_errors=True)
            return open_or_build(self.cache_dir, sketch, lambda: "0", lambda folder: ("0", build(folder)[0]))

        files, whole = self.files, reader.channels.full
        shaping |= {"channels": len(reader.channels)}
        if any(held != whole for split in SPLITS for held in planes[split]):
            shaping |= {"planes": planes}
        paths = {split: [sample.path for sample in self.splits[split].samples] for split in SPLITS}  # type: ignore[attr-defined]  # they are listed

        def key_of(digests: Mapping[str, Sequence[str]]) -> str:
            text = json.dumps([KEY_FORMAT, digests, shaping], sort_keys=True)
            return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

        def find_key() -> str:
            known = files.read_unknown(self.problems, progress=self.request.progress)
            self.problems.raise_if_any(self.place)
            return key_of({split: [known[path] for path in paths[split]] for split in SPLITS})

        def build_files(folder: Path) -> tuple[str, dict[str, Any]]:
            index, _ = build(folder)
            for split in SPLITS:
                files.remember(dict(zip(paths[split], index["digests"][split], strict=True)))
            return key_of(index["digests"]), index

        sizes = {split: [files.stamps[path][0] for path in paths[split]] for split in SPLITS}
        return open_or_build(self.cache_dir, digest_of([CACHE_FORMAT, sizes, shaping]), find_key, build_files)

    def check_cached_names(self, names: Sequence[Any], named: ChannelSet) -> None:
        """Refuse names that contradict those of files whose images are in the cache, which were decoded under others.

        Raises:
            DataError: lists the files.
        """
        samples = [sample for _, sample in self.samples()]
        for held, own, rows in names:
            given = named.select([named.names[position] for position in held])
            try:
                if len(own) == len(given):
                    check_names(own, given.names, given.kinds)
            except ImageError as error:
                for row in rows:
                    self.problems.add(samples[row].place, error.what, error.fix)
        self.problems.raise_if_any(self.place)

    def assemble(self, reader: Reader, cached: Cached, planes: Mapping[str, list[Subset]]) -> ImageDataset:
        """Splits, names and statistics to a data set."""
        index, named = cached.index, reader.channels
        self.labels.seen.update(index["labels"])
        classes, label_of = self.labels.resolve()
        template = Template.from_dict(index["template"])
        splits: dict[str, Split | Stream] = {}
        for split in SPLITS:
            shards = self.splits[split]
            digests = None
            images: Images | None = cached.images.get(split)
            if split == "train" and self.source.stream is not None:
                stream, counts = self.source.stream, index["counts"]
                counted = None if counts is None else Counted.from_dict(counts)
                given = stream.epoch_images, stream.buffer, stream.lanes, stream.workers
                splits[split] = Stream(shards, reader, label_of, template, counted, *given)
                continue
            if isinstance(shards, Listed):
                labels, paths = ([getattr(one, name) for one in shards.samples] for name in ("label", "path"))
                held = planes[split]
                if self.files is not None or shards.samples[0].digest is not None:
                    digests = index["digests"][split]
            else:
                known = index["splits"][split]
                labels, paths = known["labels"], known["paths"]
                held = [known["patterns"][row] for row in known["rows"]]
                if shards.storage == "source":
                    images = OnDemandImages(cast("Rows", shards), np.array(known["numbers"]), reader, template)
            assert images is not None
            numbers = np.array([label_of[label] for label in labels], dtype=np.int64)
            splits[split] = Split(images, numbers, tuple(paths), spread(held, len(named)), digests)
            if split == "train":
                self.warn_of_absent_classes(classes, numbers)
        key = cached.key if self.listed else index["digest"]
        if self.source.stream is not None:
            key = digest_of([key, [shards.stamps() for shards in self.splits.values()]])
        train, val, test = splits.values()
        assert isinstance(val, Split)
        assert isinstance(test, Split)
        labels = [one.labels.tolist() if isinstance(one, Split) else [] for one in splits.values()]
        return ImageDataset(
            name=self.source.name,
            channels=with_statistics(named, Statistics.from_dict(index["statistics"])),
            classes=classes,
            train=train,
            val=val,
            test=test,
            fingerprint=digest_of([key, labels, classes, named.names]),
        )

    def warn_of_absent_classes(self, classes: Sequence[str], numbers: np.ndarray) -> None:
        """Say which classes have no training image, which is legitimate but rarely meant."""
        absent = [classes[i] for i in sorted(set(range(len(classes))) - set(numbers.tolist()))]
        if absent:
            few = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            warnings.warn(
                f"{self.place} has no training image of class {few}; a model cannot learn it (labels count from 0)",
                UserWarning,
                stacklevel=6,
            )


def peek(walk: Iterator[Item], taken: list[Item]) -> Iterator[AnySample]:
    """The samples of a walk, which are noted in ``taken``."""
    for item in walk:
        taken.append(item)
        yield item.sample


def spread(held: Sequence[Sequence[int]], channels: int) -> np.ndarray:
    """(N, C) booleans, which channels each image has."""
    present = np.zeros((len(held), channels), dtype=bool)
    for row, positions in enumerate(held):
        present[row, list(positions)] = True
    return present


def digest_of(values: Any) -> str:
    """Digest of plain values."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()


def check_seen(
    channels: ChannelSet, statistics: Statistics, counts: Mapping[str, Any] | None, sampled: int | None
) -> None:
    """Refuse channels that no image has on which the statistics rest.

    Args:
        channels: the data set's.
        statistics: of the training images.
        counts: what is known of all training images, if not all were measured.
        sampled: images that the statistics rest on; None: all.

    Raises:
        DataError: names the channels.
    """
    unmet = [i for i, j in statistics.apart if i == j]
    have = {position for pattern in (counts or {}).get("patterns", ()) for position in pattern}
    unseen = [channels.names[i] for i in unmet if sampled is None or (counts is not None and i not in have)]
    if unseen:
        raise DataError(f"no training image has the channel {', '.join(unseen)}; leave it out, or add images that do")
    if unmet:
        raise DataError(
            f"none of the images that the statistics rest on has the channel "
            f"{', '.join(channels.names[i] for i in unmet)}; raise statistics_images, which is {sampled}, or leave the "
            "channel out"
        )
