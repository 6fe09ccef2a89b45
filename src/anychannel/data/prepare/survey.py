"""The one pass over a source before training: read, hash, decode, compare, measure, count and keep its images.

What it finds is an index of plain values, kept beside the images in the cache:

    statistics   see ``Statistics``
    template     what all images are like, see ``Template``
    arrays       number of images in each ``<split>.npy``
    digests      hexadecimal content digests by split, of samples that are not streamed
    names        what the files call their planes: [positions, names, rows], rows counted over all splits
    splits       by split, of the samples that are kept: their numbers, the positions of their channels (null where an
                 image has all) and, if the source does not list them, paths and labels
    skipped      what is wrong with the samples that ``skip_bad`` leaves out, by place
    converted    how many images were converted to RGB, by what they were
    total        number of samples that are kept or counted
    distinct     how many different labels the training samples have
    twins        of a stream: pairs of labels that images of equal content have
    counts       images of each training shard by their channels, of a stream
    several      whether a sample may have several labels
    digest       stands for all samples
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from itertools import count
from math import inf
from os.path import normpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anychannel.channels import Subset
from anychannel.data.content import Stamp
from anychannel.data.errors import DataError, ImageError, Problems, ShardError
from anychannel.data.files.tiff import quiet
from anychannel.data.prepare.cache import check_space, unreadable
from anychannel.data.prepare.statistics import RunningMoments
from anychannel.data.sources.reader import Image, Reader, Template
from anychannel.data.sources.source import (
    SPLITS,
    AnySample,
    Label,
    Listed,
    Loaded,
    OneLabel,
    PlaneFields,
    Sample,
    Shards,
    number_classes,
    sort_names,
)
from anychannel.data.workers import count_workers, map_ahead
from anychannel.utils.growing_array import GrowingArray
from anychannel.utils.names import normal
from anychannel.utils.progress import progress_bar

IN_FLIGHT = 32
"""Samples that are decoded at a time."""
MOST_SHARDS = 16
"""Shards that a sample of images is taken from."""


@dataclass
class Labels:
    """Which labels there are, and which of them are asked for.

    ``names`` are those of all classes, in the labels' order; None learns them from the samples. ``classes`` is what was
    asked for, see ``choose_classes``. ``has_single`` says whether a sample had one label and no list of them.
    """

    names: tuple[str, ...] | None
    classes: int | Sequence[str] | None
    place: str
    seen: set[OneLabel] = field(default_factory=set)
    has_single: bool = False

    def __post_init__(self) -> None:
        if self.names is None:
            if self.classes is not None:
                raise DataError("classes chooses among class names, but this data set has none; give class_names")
            return
        self.names = tuple(map(normal, self.names))
        if len(self.names) < 2:
            raise DataError(f"{self.place} has {len(self.names)} class; classification needs two or more")
        if len(set(self.names)) != len(self.names):
            raise DataError(f"class_names needs two or more names, each once, got {', '.join(self.names)}")
        self.numbers = number(self.names, choose_classes(self.names, self.classes))

    def wants(self, label: Label) -> bool:
        """Whether a sample with this label is asked for. Raises ImageError if it is none of the classes.

        Of several labels an image, the image is asked for whichever it has.
        """
        if isinstance(label, tuple):
            for one in label:
                self.wants_one(one)
            return True
        self.has_single = True
        return self.wants_one(label)

    def wants_one(self, label: OneLabel) -> bool:
        """See ``wants``."""
        if self.names is None and isinstance(label, int) and label < 0:
            raise ImageError(f"its label {label} is no class", "correct it; a number counts classes from 0")
        self.seen.add(label)
        if self.names is None or label in self.numbers:
            return True
        if label in self.names or (isinstance(label, int) and 0 <= label < len(self.names)):
            return False
        few = ", ".join(self.names[:5]) + (", ..." if len(self.names) > 5 else "")
        raise ImageError(
            f"its label {label!r} is none of the {len(self.names)} classes ({few})",
            "correct it; a number counts classes from 0",
        )

    def resolve(self) -> tuple[tuple[str, ...], Mapping[Label, int]]:
        """The classes asked for, and each label's position among them.

        Raises DataError if the samples' labels are mixed, or fewer than two.
        """
        if self.names is not None:
            return choose_classes(self.names, self.classes), self.numbers
        sort_names(self.seen, "class_names")  # refuses some
        words = sorted(label for label in self.seen if isinstance(label, str))
        numbers = [label for label in self.seen if isinstance(label, int)]
        if words and numbers:
            raise DataError(
                f"some labels are numbers ({min(numbers)}, say), others names ({words[0]!r}); use one kind, or give "
                "class_names"
            )
        names = tuple(words) or number_classes(max(numbers, default=-1))
        if len(names) < 2:
            raise DataError(f"the samples have {len(names)} class; classification needs two or more")
        return names, number(names, names)


def number(names: Sequence[str], chosen: Sequence[str]) -> dict[Label, int]:
    """Position among the chosen classes by a label, which is a class's position or its name."""
    found: dict[Label, int] = {}
    for place, name in enumerate(names):
        if name in chosen:
            found[place] = found[name] = chosen.index(name)
    return found


def choose_classes(known: Sequence[str], classes: int | Sequence[str] | None) -> tuple[str, ...]:
    """The classes to keep, in the order of their new labels: the first so many, or those named; None keeps all.

    Raises ValueError if the number is out of range, or a name is unknown or repeats.
    """
    if classes is None:
        return tuple(known)
    if isinstance(classes, int):
        if not 2 <= classes <= len(known):
            raise ValueError(
                f"classes={classes} is out of range; the data has {len(known)} classes, take 2 or more of them"
            )
        return tuple(known[:classes])
    chosen = tuple(classes)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"unknown class {unknown[0]!r}; the classes are {', '.join(known)}")
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise ValueError(f"classes needs two or more names, each once, got {', '.join(chosen)}")
    return chosen


class Item(NamedTuple):
    """A sample, its number in its split, that of its shard, and whether it is decoded or only counted."""

    number: int
    shard: int
    sample: AnySample
    decoded: bool = True


def walk(
    shards: Shards, labels: Labels, problems: Problems, measured: int | None = None, counted: bool = True, seed: int = 0
) -> Iterator[Item]:
    """Yield the samples of a split that have the classes asked for, in the shards' order, one in memory at a time.

    Samples without a usable label, and shards that end early, are noted as problems. ``measured`` is the number of
    images to decode, the first of up to ``MOST_SHARDS`` shards drawn by the seed; None decodes all. ``counted`` says
    whether to go through the other images, to count them.
    """
    total, numbers = len(shards.names), count()
    left, each, chosen = inf, inf, list(range(total))
    if measured is not None:
        chosen = sorted(np.random.default_rng([seed, 3]).permutation(total)[:MOST_SHARDS].tolist())
        left, each = measured, -(-measured // len(chosen))
    for shard in range(total) if counted else chosen:
        here = min(each, left) if measured is None or shard in chosen else 0
        try:
            with closing(shards.read(shard)) as samples:
                for sample, number in zip(samples, numbers, strict=False):  # samples first: they end
                    if not here and not counted:
                        break
                    wanted = False
                    with problems.noting(sample.place):
                        wanted = labels.wants(sample.label)
                    if wanted:
                        yield Item(number, shard, sample, here > 0)
                        left, here = left - (here > 0), here - (here > 0)
        except ShardError as error:
            place, _, text = str(error).partition(": ")
            what, _, fix = text.rpartition("; ")
            problems.add(place, what, fix)


@dataclass(frozen=True)
class Seen:
    """What was found of a sample; its image and digest, if these are wanted."""

    item: Item
    label: Label
    positions: Subset
    image: Image | None = None
    digest: bytes = b""


class Kept(NamedTuple):
    """What is kept of a sample; neither its content nor its pixels."""

    place: str
    path: str
    label: Label
    positions: Subset
    number: int
    digest: bytes


@dataclass
class Survey:
    """The pass, which notes samples that cannot be used.

    ``stamps`` holds sizes and times of change of listed files by path, to notice one that changes meanwhile; ``opened``
    the content of samples that were read already, by their place.
    """

    reader: Reader
    problems: Problems
    progress: bool = False
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    opened: dict[str, Loaded | PlaneFields] = field(default_factory=dict)
    template: Template | None = None

    def run(
        self,
        walks: Mapping[str, Iterable[Item]],
        splits: Mapping[str, Shards],
        folder: Path | None,
        *,
        stream: bool,
        sampled: bool,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Go through all splits; return the index (empty if no training image is usable), and images kept in memory.

        ``folder`` gets the arrays of splits that are kept on disk; None keeps none. With ``stream``, training images
        are not kept, as they are read again in training. With ``sampled``, only some of them are decoded; these count
        for nothing in the digest of all.
        """
        kept: dict[str, list[Kept]] = {split: [] for split in SPLITS}
        converted, labels, label_of = Counter[str](), array("Q"), dict[Label, int]()
        counts: list[Counter[Subset]] = [Counter() for _ in splits["train"].names] if stream else []
        names: dict[tuple[Subset, tuple[str | None, ...]], list[int]] = {}
        measured, rows, channels, lacking, moments = array("Q"), count(), len(self.reader.channels), "", None
        several = False
        listed = all(isinstance(shards, Listed) for shards in splits.values())
        total = sum(len(shards.names) for shards in splits.values())
        sinks: dict[str, GrowingArray | list[np.ndarray]] = {}
        with ExitStack() as stack:
            advance = stack.enter_context(progress_bar("decoding", total, show=self.progress))
            advance(0, note=f"{total:,} {'images' if listed else 'shards'}{f' into {folder}' if folder else ''}")
            for split in SPLITS:
                streamed = stream and split == "train"
                if not streamed and splits[split].storage == "memory":
                    sinks[split] = []
                elif not streamed and splits[split].storage == "disk" and folder is not None:
                    sinks[split] = stack.enter_context(GrowingArray(folder / f"{split}.npy"))
                shard = -1
                for seen in self.images(walks[split]):
                    if seen.item.shard != shard:
                        advance()
                        shard = seen.item.shard
                    row = next(rows)
                    several = several or isinstance(seen.label, tuple)
                    if split == "train":
                        label_of.setdefault(seen.label, len(label_of))
                    if streamed:
                        counts[shard][tuple(sorted(seen.positions))] += 1
                        lacking = lacking or (seen.item.sample.place if len(seen.positions) < channels else "")
                    if seen.image is None:
                        continue
                    planes, held = seen.image.spread(channels), tuple(sorted(seen.positions))
                    if split == "train":
                        moments = moments or RunningMoments(planes.shape)
                        moments.add(planes, seen.image.valid(channels))
                    if any(seen.image.found.names):
                        names.setdefault((seen.positions, seen.image.found.names), []).append(row)
                    if seen.image.found.converted:
                        converted[seen.image.found.converted] += 1
                    if split in sinks:
                        if listed and folder is not None and not row:
                            check_space(folder, total * planes.nbytes)
                        sinks[split].append(planes)
                    if streamed:
                        measured.append(short(seen.digest))
                        labels.append(label_of[seen.label])
                    else:
                        sample = seen.item.sample
                        known = seen.label, held, seen.item.number, seen.digest
                        kept[split].append(Kept(sample.place, sample.path, *known))
        self.find_leaks(kept, measured)
        if self.template is None or moments is None:
            return {}, {}
        whole = hashlib.blake2b(b"" if sampled else measured.tobytes(), digest_size=16)
        for split in SPLITS:
            whole.update(b"".join(one.digest for one in kept[split]))
        index = {
            "statistics": asdict(moments.statistics()),
            "template": asdict(self.template),
            "arrays": {split: len(kept[split]) for split in sinks if kept[split]},
            "digests": {split: [one.digest.hex() for one in kept[split]] for split in SPLITS},
            "names": [[held, own, places] for (held, own), places in names.items()],
            "splits": {split: describe_kept(kept[split], channels, listed=listed) for split in SPLITS},
            "skipped": self.problems.skipped,
            "converted": converted,
            "distinct": len(label_of),
            "total": next(rows),
            "twins": [
                [list(label_of)[labels[row]] for row in pair] for pair in find_twins(np.asarray(measured), labels)
            ],
            "counts": {"images": [list(shard.items()) for shard in counts], "lacking": lacking} if stream else None,
            "several": several,
            "digest": whole.hexdigest(),
        }
        return index, {split: np.stack(sink) for split, sink in sinks.items() if isinstance(sink, list) and sink}

    def images(self, items: Iterable[Item]) -> Iterator[Seen]:
        """Decode samples, several at a time, in their order; those that cannot be used are noted and left out."""
        with ThreadPoolExecutor(count_workers()) as pool, quiet():
            for item, found in map_ahead(pool, self.look, items, IN_FLIGHT):
                try:
                    if isinstance(found, ImageError):
                        raise found
                    if found.image is not None:
                        self.compare(item.sample.path, found.image)
                except ImageError as error:
                    self.problems.add_image(item.sample.place, error.what, error.fix)
                else:
                    yield found

    def look(self, item: Item) -> tuple[Item, Seen | ImageError]:
        """Read and decode a sample, or say what is wrong with it."""
        sample = item.sample
        try:
            label, settings = sample.label, self.reader.settings
            if not item.decoded and settings.nodata is None and not self.problems.skip:
                return item, Seen(item, label, self.reader.positions(sample))
            loaded = self.opened.pop(sample.place, None)
            loaded = sample.load() if loaded is None else loaded
            image = self.reader.decode(sample, loaded)
            if not item.decoded:
                return item, Seen(item, label, image.positions)
            if isinstance(sample, Sample) and sample.stamp() != self.stamps.get(sample.path):
                raise ImageError("it changed while the data was being read", "load again once nothing writes to it")
            known = sample.find_digest(loaded)
            digest = image.digest(len(self.reader.channels)) if known is None else bytes.fromhex(known)
            return item, Seen(item, label, image.positions, image, digest)
        except ImageError as error:
            return item, error
        except OSError as error:
            return item, ImageError(*unreadable(error))

    def compare(self, path: str, image: Image) -> None:
        """Raise ImageError if an image is not like the first one."""
        pixels = image.found.pixels
        self.template = self.template or Template(pixels.shape[1:], pixels.dtype.name, path, {})
        self.template.check(image, path, scaled=self.reader.settings.scaled)

    def find_leaks(self, kept: Mapping[str, list[Kept]], measured: array[int]) -> None:
        """Note images whose content is in a split before theirs; ``measured`` holds digests of a stream's images."""
        before, known = np.asarray(measured, np.uint64), list[tuple[str, Kept]]()
        for split, found in kept.items():
            digests = np.array([short(one.digest) for one in found], np.uint64)
            for row in np.flatnonzero(np.isin(digests, before)).tolist():
                sample, first = found[row], int(np.flatnonzero(before == digests[row])[0]) - len(measured)
                other = "train"
                if first >= 0:
                    other, earlier = known[first]
                    if normpath(earlier.path) == normpath(sample.path):
                        continue  # the same file in two lists is noted as such
                    other = f"{other} as {earlier.place}"
                self.problems.add(
                    sample.place, f"its content is in two splits (leakage): {split}, and {other}", "keep one of them"
                )
            before = np.concatenate([before, digests])
            known += [(split, one) for one in found]


def find_twins(digests: np.ndarray, labels: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of rows of equal digests and different labels."""
    found, numbers = digests, np.asarray(labels)
    order = np.argsort(found, kind="stable")
    differ = (found[order][1:] == found[order][:-1]) & (numbers[order][1:] != numbers[order][:-1])
    return [(int(order[i]), int(order[i + 1])) for i in np.flatnonzero(differ)]


def short(digest: bytes) -> int:
    """The first 64 bits of a digest."""
    return int.from_bytes(digest[:8], "little")


def describe_kept(kept: list[Kept], channels: int, *, listed: bool) -> dict[str, Any]:
    """Plain values; see the module's docstring."""
    names = {"numbers": "number"} if listed else {"numbers": "number", "paths": "path", "labels": "label"}
    found = {name: [getattr(one, attribute) for one in kept] for name, attribute in names.items()}
    return found | {"positions": [None if len(one.positions) == channels else one.positions for one in kept]}
