"""A source to a data set: names, keys, the one pass over its images (``survey.py``), the cache, and the splits."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice, tee
from os.path import normpath
from pathlib import Path
from typing import Any, cast

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, Subset, as_channel_set
from anychannel.data.batches.images import Images, OnDemandImages, Rows
from anychannel.data.batches.split import Split
from anychannel.data.batches.stream import Counted, Stream
from anychannel.data.content import BandFiles
from anychannel.data.dataset import ImageDataset
from anychannel.data.errors import DataError, ImageError, Problems
from anychannel.data.files.names import RGB, channels_from_file, check_names
from anychannel.data.files.read import read
from anychannel.data.prepare.cache import FORMAT, Cached, FileDigests, open_or_build, resolve_cache_dir
from anychannel.data.prepare.statistics import Statistics, with_statistics
from anychannel.data.prepare.survey import Item, Labels, Survey, find_twins, walk
from anychannel.data.sources.reader import Reader, Template, learn_planes
from anychannel.data.sources.source import (
    SPLITS,
    AnySample,
    Label,
    Listed,
    Listing,
    Request,
    Sample,
    Shards,
    Source,
    array_of_labels,
    each_label,
)
from anychannel.utils.checksums import dump_signed, load_signed
from anychannel.utils.files import write_text
from anychannel.utils.packed_strings import PackedStrings
from anychannel.utils.plurals import few, plural
from anychannel.utils.processes import share

KEY_FORMAT = 1
"""Raised whenever the same files and settings give other pixels; it is part of a data set's fingerprint."""
ALL_DIFFERENT = 20
"""More images than this, each with a label of its own, have no classes."""
PEEKED = 100
"""Samples of shards that are tried for the channels' names."""
SAMPLED = 10_000
"""Images that statistics rest on if the shards are not read whole."""

Build = Callable[[Path | None], tuple[dict[str, Any], dict[str, np.ndarray]]]


def prepare(source: Source, request: Request) -> ImageDataset:
    """Read a source: see ``load_dataset``."""
    return Preparation(source, request).run()


class Preparation:
    """The steps from a source to a data set, and what they share."""

    def __init__(self, source: Source, request: Request) -> None:
        self.source = source
        self.request = request
        self.place = source.place or source.name
        self.problems = source.problems
        self.problems.skip = request.skip_bad
        self.cache_dir = resolve_cache_dir(request.cache_dir)
        self.labels = Labels(source.classes, request.classes, self.place)
        self.files: FileDigests | None = None
        self.listing: Listing | None = None
        self.shards: dict[str, Shards] = {}
        self.planes: dict[str, list[Subset]] = {}
        listed = [found for found in source.splits.values() if isinstance(found, Sequence)]
        self.several = any(isinstance(one.label, tuple) for found in listed for one in found)
        self.in_memory = bool(listed) and not any(one.is_file for found in listed for one in found)

        def wants(sample: Sample) -> bool:
            with self.problems.noting(sample.place):
                return self.labels.wants(each_label(sample.label) if self.several else sample.label)
            return False

        if listed:
            self.keep({split: list(filter(wants, source.splits[split])) for split in SPLITS})  # type: ignore[arg-type]
        else:
            self.shards = {split: cast("Shards", source.splits[split]) for split in SPLITS}
        self.counted, self.sampled = True, None
        if source.stream is not None:
            self.counted, self.sampled = source.stream.epoch_images is None, source.stream.statistics_images
        if not self.counted:
            self.sampled = self.sampled or SAMPLED
            if request.skip_bad:
                raise DataError("with epoch_images the shards are not read whole, so skip_bad cannot be; leave one out")
            if source.classes is None:
                raise DataError(
                    f"with epoch_images the shards of {self.place} are not read whole, so their classes are not known: "
                    "give class_names=['first', 'second', ...] in the labels' order"
                )

    def keep(self, listing: Listing) -> None:
        """Go on with these of the listed samples."""
        self.listing = listing
        self.shards = {
            split: Listed(samples, "memory" if self.in_memory else "disk") for split, samples in listing.items()
        }

    def run(self) -> ImageDataset:
        """See ``prepare``."""
        if self.listing is not None:
            check_repeats(self.listing, self.labels.names or (), self.problems)
            if not self.in_memory:  # files that are missing or empty are noted and left out
                files, forget = all_samples(self.listing), self.request.verify
                self.files = FileDigests(self.cache_dir, self.place, files, self.problems, forget=forget)
                there = self.files.stamps.keys()
                self.keep({split: [one for one in found if one.path in there] for split, found in self.listing.items()})
        walks = {split: self.walk(split) for split in SPLITS}
        opened: dict[str, Any] = {}
        named = self.name_channels(walks, opened)
        named = self.group_channels(named)
        fields = self.source.channels
        if isinstance(fields, tuple) and self.listing is None and len(fields) != len(named):
            raise DataError(
                f"image names {len(fields)} fields ({', '.join(fields)}), but there are {len(named)} channels "
                f"({', '.join(named.names)}); name a field for each, in their order"
            )
        if self.request.settings.convert is not None and len(named) != len(RGB):
            raise DataError(f"convert='rgb' makes images of 3 channels, but {plural(len(named), 'channel')} are named")
        reader = Reader(named, self.request.settings.naming(named))
        if self.listing is not None:
            listing, self.planes = find_planes(self.listing, reader, self.problems)
            self.keep(listing)
            walks = {split: self.walk(split) for split in SPLITS}
        stamps = {} if self.files is None else self.files.stamps
        survey = Survey(reader, self.problems, self.request.progress, stamps, opened)
        in_bands = [one for one in all_samples(self.listing or {}) if isinstance(one.image, BandFiles)]

        def build(folder: Path | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            if in_bands:
                survey.reader = learn_planes(in_bands, reader)
            stream, sampled = self.source.stream is not None, self.sampled is not None
            index, images = survey.run(walks, self.shards, folder, stream=stream, sampled=sampled)
            self.problems.raise_if_any(self.place)
            check_skipped(self.place, self.problems.skipped, index.get("total", 0))
            if not index:
                raise DataError(f"{self.place} holds no training image of the classes asked for")
            if stream and self.counted and not index["several"]:
                check_labels(self.place, sum(n for s in index["counts"]["images"] for _, n in s), index["distinct"])
            if index["several"] and self.labels.has_single and self.request.classes is not None and not self.listing:
                raise DataError(
                    f"some samples of {self.place} have several labels and others one, so that classes would leave out "
                    "images; give each sample a list of its labels, or leave classes out"
                )
            index |= {"labels": sorted(self.labels.seen, key=str), "counts": index["counts"] if self.counted else None}
            check_seen(named, Statistics.from_dict(index["statistics"]), index["counts"], self.sampled)
            return index, images

        if self.problems:
            build(None)
        cached = self.open(reader, build)
        if self.listing is not None and reader.settings.check_names:
            kept = [self.listing[split][i] for split in SPLITS for i in cached.index["splits"][split]["numbers"]]
            check_cached_names(cached.index["names"], kept, named, self.problems)
            self.problems.raise_if_any(self.place)
        return self.assemble(reader, cached)

    def group_channels(self, named: ChannelSet) -> ChannelSet:
        """The channels with the groups asked for, else those of the source, else as they are."""
        if self.request.groups is not None:
            return named.with_groups(self.request.groups)
        try:
            return named if self.source.groups is None else named.with_groups(self.source.groups)
        except ChannelError as error:
            raise ChannelError(f"{self.place}/groups.txt: {error}") from error

    def walk(self, split: str) -> Iterator[Item]:
        """The samples of a split."""
        limits = (self.sampled, self.counted, self.request.seed) if split == "train" else ()
        return walk(self.shards[split], self.labels, self.problems, *limits)

    def name_channels(self, walks: dict[str, Iterator[Item]], opened: dict[str, Any]) -> ChannelSet:
        """The channels' names: those given, else the source's, else the first image's own, else R, G, B if it is RGB.

        ``walks`` stay whole; ``opened`` gets what was read, by the sample's place. Raises DataError if nothing names
        the channels.
        """
        given = self.source.channels if self.request.channels is None else self.request.channels
        if given is not None:
            return as_channel_set(given)
        samples = all_samples(self.listing or {})
        whole: Sequence[AnySample] = [sample for sample in samples if sample.channels is None]
        if samples and not whole:
            raise DataError(
                f"every image of {self.place} names its own channels, but nothing names them all and their order; give "
                "channels='first,second,...', or write the names to channels.txt, one a line"
            )
        memory = self.find_names_file(whole)
        if memory is not None and memory.is_file() and not self.request.verify:
            with suppress(OSError, ValueError):  # damaged
                return ChannelSet(tuple(load_signed(memory.read_text(encoding="utf-8"))["names"]))
        named, sample = RGB, None
        walks["train"], ahead = tee(walks["train"])
        for sample in whole if self.listing is not None else (item.sample for item in islice(ahead, PEEKED)):
            try:
                loaded = sample.load()
                found = read(loaded, self.request.settings)  # type: ignore[arg-type]  # planes' fields name the channels
            except (ImageError, OSError):
                continue
            named = channels_from_file(found, self.place, sample.path, file=self.files is not None)
            opened[sample.place] = loaded
            if memory is not None:
                with suppress(OSError):  # they are read again then
                    write_text(memory, dump_signed({"names": named.names}))
            break
        if self.listing is None and sample is None:
            self.problems.raise_if_any(self.place)
            raise DataError(f"the training shards of {self.place} hold no sample")
        return named

    def find_names_file(self, whole: Sequence[AnySample]) -> Path | None:
        """Where the first image's own names are kept; None if they are not."""
        if self.files is not None:
            if not whole or not self.files.is_settled(whole[0].path):
                return None
            known: list[Any] = [self.place, whole[0].path, *self.files.stamps[whole[0].path]]
        elif self.in_memory:
            return None
        else:
            known = [self.shards["train"].stamps(), asdict(self.shards["train"].fields)]
        return self.cache_dir / "names" / f"{digest_of([FORMAT, known, repr(self.request.settings)])}.json"

    def open(self, reader: Reader, build: Build) -> Cached:
        """The images and what is known of them: from the cache, or by the pass."""
        settings = reader.settings
        shaping = settings.beyond_size() | {"size": settings.size, "layout": settings.layout}
        if self.in_memory:
            index, images = build(None)
            pixels = hashlib.blake2b(digest_size=16)
            for split in images:
                present = spread(index["splits"][split]["positions"], len(reader.channels))
                images[split].flags.writeable = False
                pixels.update(images[split].data)
                pixels.update(b"" if present.all() else np.packbits(present).tobytes())
            return Cached(images, index, pixels.hexdigest())
        if self.files is not None and self.listing is not None:
            return self.open_by_content(self.files, self.listing, reader.channels, shaping, build)
        asked = None if self.request.classes is None else self.labels.resolve()[0]
        stamps = [[shards.stamps(), asdict(shards.fields)] for shards in self.shards.values()]
        seed, skip = None if self.sampled is None else self.request.seed, bool(self.problems.skip)
        known = [self.sampled, seed, self.counted, skip]
        names = [reader.channels.names, settings.check_names, self.source.classes, asked]
        sketch = digest_of([FORMAT, stamps, names, shaping, known])
        if self.request.verify and share().is_main:
            shutil.rmtree(self.cache_dir / "images" / f"{sketch}-all", ignore_errors=True)
        return open_or_build(self.cache_dir, sketch, lambda: "all", lambda folder: ("all", build(folder)[0]))

    def open_by_content(
        self, files: FileDigests, listing: Listing, channels: ChannelSet, shaping: dict[str, object], build: Build
    ) -> Cached:
        """As ``open``, of files, whose content is the key."""
        shaping = shaping | {"channels": len(channels)}
        if any(held != channels.full for split in SPLITS for held in self.planes[split]):
            shaping |= {"planes": self.planes}
        paths = {split: [sample.path for sample in listing[split]] for split in SPLITS}
        shaping |= {"skip_bad": paths} if self.problems.skip else {}

        def key_of(digests: Mapping[str, Sequence[str]]) -> str:
            return digest_of([KEY_FORMAT, digests, shaping], sort_keys=True)

        def find_key() -> str:
            known = files.read_unknown(self.problems, progress=self.request.progress)
            self.problems.raise_if_any(self.place)
            return key_of({split: [known.get(path, "") for path in paths[split]] for split in SPLITS})

        def build_and_remember(folder: Path) -> tuple[str, dict[str, Any]]:
            index, _ = build(folder)
            for split, known in index["splits"].items():
                kept = [paths[split][number] for number in known["numbers"]]
                files.known.update(zip(kept, index["digests"][split], strict=True))
            files.remember()
            return find_key(), index

        sizes = {split: [files.stamps[path][0] for path in paths[split]] for split in SPLITS}
        return open_or_build(self.cache_dir, digest_of([FORMAT, sizes, shaping]), find_key, build_and_remember)

    def assemble(self, reader: Reader, cached: Cached) -> ImageDataset:
        """Splits, names and statistics to a data set."""
        index, stream = cached.index, self.source.stream
        if self.listing is None:
            self.labels.seen.update(index["labels"])
        self.several = self.several or index.get("several", False)
        classes, label_of = self.labels.resolve()
        template = Template.from_dict(index["template"])
        key = cached.key if self.listing is not None else index["digest"]
        kept = SPLITS if stream is None else SPLITS[1:]
        splits = {split: self.make_split(split, reader, cached, label_of, template) for split in kept}
        labels = [splits[split].labels.tolist() if split in splits else [] for split in SPLITS]
        if stream is None and not self.several:
            check_labels(self.place, len(labels[0]), len(set(labels[0])))
            check_labels(self.place, sum(map(len, labels)), len(set().union(*labels)))
        twins = [f"{a} and {b}" for a, b in index["twins"]]
        for split, numbers in zip(SPLITS, labels, strict=True):
            texts = [describe_label(one, classes) for one in numbers]
            alike = np.unique(texts, return_inverse=True)[1].tolist() if self.several else numbers
            pairs = find_twins(np.array(index["digests"][split], np.bytes_), alike) if numbers else []
            twins += [" and ".join(f"{splits[split].paths[i]} ({texts[i]})" for i in pair) for pair in pairs]
        warn_of(twins, f"{self.place} has the same picture under two classes: {{few}}; keep it under the right one")
        bad = self.problems.skipped | index["skipped"]
        skipped = tuple(f"{place}: {what}" for place, what in bad.items())
        images = plural(len(skipped), "image")
        warn_of(skipped, f"{self.place} has {images} that cannot be used, left out by skip_bad: {{few}}")
        train: Split | Stream
        if stream is None:
            train = splits["train"]
            counts = splits["train"].count_labels(len(classes)).tolist()
            absent = [name for name, count in zip(classes, counts, strict=True) if not count]
            warn_of(
                absent,
                f"{self.place} has no training image of class {{few}}; a model cannot learn it (labels count from 0)",
            )
            if self.several:
                constant = [name for name, count in zip(classes, counts, strict=True) if count == len(train)]
                check_constant(self.place, constant, classes)
        else:
            key = digest_of([key, [shards.stamps() for shards in self.shards.values()]])
            counted = None if index["counts"] is None else Counted.from_dict(index["counts"])
            known: dict[str, Any] = {"has_several": self.several, "skipped": frozenset(bad)}
            train = Stream(self.shards["train"], reader, label_of, template, stream, counted, **known)
        return ImageDataset(
            name=self.source.name,
            channels=with_statistics(reader.channels, Statistics.from_dict(index["statistics"])),
            classes=classes,
            train=train,
            val=splits["val"],
            test=splits["test"],
            fingerprint=digest_of([key, labels, classes, reader.channels.names]),
            skipped=skipped,
            converted=index["converted"],
            how=self.source.how,
            other_columns=self.source.other_columns,
        )

    def make_split(
        self, split: str, reader: Reader, cached: Cached, label_of: Mapping[Label, int], template: Template
    ) -> Split:
        """A split whose images are in the cache, in memory, or rows that are read when needed."""
        images, digests, known = cast("Images", cached.images.get(split)), None, cached.index["splits"][split]
        if self.listing is not None:
            samples = [self.listing[split][number] for number in known["numbers"]]
            labels, paths = [sample.label for sample in samples], [sample.path for sample in samples]
            if self.files is not None or (samples and samples[0].digest is not None):
                digests = cached.index["digests"][split]
        else:
            labels, paths = known["labels"], known["paths"]
            if self.shards[split].storage == "source":
                images = OnDemandImages(cast("Rows", self.shards[split]), np.array(known["numbers"]), reader, template)
        if images is None:  # there is no test image
            images = np.zeros((0, len(reader.channels), *template.size), template.dtype)
        numbers = array_of_labels(labels, label_of, several=self.several)
        present = spread(known["positions"], len(reader.channels))
        return Split(images, numbers, PackedStrings(paths), present, digests and PackedStrings(digests))


def spread(held: Sequence[Sequence[int] | None], channels: int) -> np.ndarray:
    """(N, C) booleans, which channels each image has; None stands for all."""
    present = np.ones((len(held), channels), dtype=bool)
    for row, positions in enumerate(held):
        if positions is not None:
            present[row] = np.isin(range(channels), positions)
    return present


def digest_of(values: Any, *, sort_keys: bool = False) -> str:
    """Digest of plain values."""
    return hashlib.blake2b(json.dumps(values, sort_keys=sort_keys).encode(), digest_size=16).hexdigest()


def check_seen(
    channels: ChannelSet, statistics: Statistics, counts: Mapping[str, Any] | None, sampled: int | None
) -> None:
    """Raise DataError for channels that no image has on which the statistics rest.

    ``counts`` is known of all training images, if only some (``sampled``) were measured.
    """
    unmet = [i for i, j in statistics.apart if i == j]
    have = {i for shard in (counts or {}).get("images", ()) for held, _ in shard for i in held}
    unseen = [channels.names[i] for i in unmet if sampled is None or (counts is not None and i not in have)]
    if unseen:
        raise DataError(f"no training image has the channel {', '.join(unseen)}; leave it out, or add images that do")
    if unmet:
        raise DataError(
            f"none of the images that the statistics rest on has the channel "
            f"{', '.join(channels.names[i] for i in unmet)}; raise statistics_images, which is {sampled}, or leave the "
            "channel out"
        )


def all_samples(splits: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    """The samples of all splits, in their order."""
    return [sample for samples in splits.values() for sample in samples]


def check_repeats(splits: Listing, classes: Sequence[str], problems: Problems) -> None:
    """Note empty splits, and paths that are in two splits or have two labels."""
    seen: dict[str, tuple[str, Sample]] = {}
    for split, samples in splits.items():
        if not samples and split != "test":
            problems.add(split, "this split has no image", "train and val both need some")
        for sample in samples:
            other, first = seen.setdefault(normpath(sample.path), (split, sample))
            if other != split:
                what = f"the same file is in two splits (leakage): {split}, and {other} as {first.place}"
                problems.add(sample.place, what, "keep it in one of them")
            elif first.label != sample.label:
                both = (sample.label, first.label)
                mine, theirs = (
                    ", ".join(classes[one] if isinstance(one, int) else one for one in each_label(label)) or "none"
                    for label in both
                )
                what = f"the same file has two labels: {mine}, and {theirs} in {first.where}"
                problems.add(sample.place, what, "keep one of them")


def find_planes(splits: Listing, reader: Reader, problems: Problems) -> tuple[Listing, dict[str, list[Subset]]]:
    """The samples whose channels are known, and the positions of their planes, by split; others are noted."""
    known: Listing = {split: [] for split in splits}
    planes: dict[str, list[Subset]] = {split: [] for split in splits}
    for split, samples in splits.items():
        for sample in samples:
            with problems.noting(sample.channels_from or sample.where):
                planes[split].append(reader.positions(sample))
                known[split].append(sample)
    return known, planes


def check_cached_names(
    names: Sequence[tuple[Subset, Sequence[str | None], Sequence[int]]],
    samples: Sequence[Sample],
    named: ChannelSet,
    problems: Problems,
) -> None:
    """Note files whose own names contradict those given, by what the cache keeps of files decoded under other names.

    ``names`` holds what files call their planes: positions, names, and which of the samples (of all splits).
    """
    for held, own, rows in names:
        given = named.select([named.names[position] for position in held])
        try:
            check_names(own, given.names, given.kinds)
        except ImageError as error:
            for row in rows:
                problems.add(samples[row].place, error.what, error.fix)


def describe_label(label: int | Sequence[float], classes: Sequence[str]) -> str:
    """The names of an image's class or labels."""
    if isinstance(label, int):
        return classes[label]
    return ", ".join(name for name, has in zip(classes, label, strict=True) if has) or "no label"


def warn_of(found: Sequence[str], text: str) -> None:
    """Warn of what is legitimate but rarely meant; the text has a place for the first few."""
    if found:
        warnings.warn(text.replace("{few}", few(found, 5)), stacklevel=6)


def check_labels(place: str, images: int, labels: int) -> None:
    """Raise DataError if more than ``ALL_DIFFERENT`` images have a label each of its own."""
    if images == labels and images > ALL_DIFFERENT:
        raise DataError(
            f"{place}: each of {images:,} images has a label of its own, so that these are no classes; give the field, "
            "word or folder that names the class"
        )


def check_constant(place: str, constant: Sequence[str], labels: Sequence[str]) -> None:
    """Warn of labels that every training image has, as of a class's name that was split; refuse if all are so."""
    if len(constant) == len(labels):
        raise DataError(
            f"{place}: every image has all of the labels {', '.join(labels)}; a list of labels holds the numbers or "
            "names of those that the image has, not 1 or 0 for each label"
        )
    warn_of(
        constant,
        f"{place}: every training image has the label {{few}}, so that nothing is learned of it; if | or ; belongs to "
        "the names of classes, name the classes",
    )


def check_skipped(place: str, skipped: Mapping[str, str], kept: int) -> None:
    """Raise DataError if more images cannot be used than can."""
    if len(skipped) > kept:
        raise DataError(
            f"{place}: {len(skipped):,} images cannot be used and {kept:,} can, too many to skip; the first may "
            "be unlike all others:" + "".join(f"\n  - {one}: {what}" for one, what in islice(skipped.items(), 5))
        )
