"""The one pass over a source before training: read, hash, decode, compare, measure, count and keep its images.

What it finds is an index of plain values, kept beside the images in the cache:

    statistics   see ``Statistics``
    template     what all images are like, see ``Template``
    arrays       number of images in each ``<split>.npy``
    digests      hexadecimal content digests by split, of files
    names        what the files call their planes: [positions, names, rows], rows counted over all splits
    splits       labels, paths, numbers and channels by split, of samples that the source does not list
    labels       all labels, as they are written
    counts       images of each training shard by their channels, if they were counted
    digest       stands for all samples
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import count
from os.path import normpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anychannel.channels import Subset
from anychannel.data.content import Stamp, stamp_content
from anychannel.data.errors import ImageError, Problems
from anychannel.data.files.tiff import quiet
from anychannel.data.prepare.cache import GrowingArray, MemoryArray, check_space
from anychannel.data.prepare.digests import unreadable
from anychannel.data.prepare.labels import Labels
from anychannel.data.prepare.statistics import RunningMoments
from anychannel.data.sources.reader import Image, Reader
from anychannel.data.sources.records import ShardError
from anychannel.data.sources.source import SPLITS, AnySample, Label, Listed, Loaded, PlaneFields, Sample, Shards
from anychannel.data.sources.template import Template, note_scalings
from anychannel.data.workers import count_workers, map_ahead
from anychannel.utils.progress import Advance, progress_bar

IN_FLIGHT = 32
"""Samples that are decoded at a time."""
MOST_SHARDS = 16
"""Shards that a sample of images is taken from."""


class Item(NamedTuple):
    """A sample, its number in its split, that of its shard, and whether it is decoded or only counted."""

    number: int
    shard: int
    sample: AnySample
    decoded: bool = True


@dataclass(frozen=True)
class Walk:
    """Goes through the samples of a split, those of the classes asked for.

    Args:
        shards: the split's.
        labels: says which classes are asked for.
        problems: gets samples without a usable label, and shards that end early.
        measured: images to decode, the first of up to ``MOST_SHARDS`` shards drawn by the seed; None: all.
        counted: whether to go through the other images, to count them.
        seed: draws the shards.
    """

    shards: Shards
    labels: Labels
    problems: Problems
    measured: int | None = None
    counted: bool = True
    seed: int = 0

    def items(self) -> Iterator[Item]:
        """Yield the samples in the shards' order, one in memory at a time."""
        total = len(self.shards.names)
        drawn = np.random.default_rng([self.seed, 3]).permutation(total)[:MOST_SHARDS]
        chosen = set(range(total) if self.measured is None else drawn.tolist())
        left = float("inf") if self.measured is None else self.measured
        each = float("inf") if self.measured is None else -(-self.measured // len(chosen))
        numbers = count()
        for shard in range(total) if self.counted else sorted(chosen):
            here = min(each, left) if shard in chosen else 0
            samples = self.shards.read(shard)
            try:
                for sample, number in zip(samples, numbers, strict=False):  # samples first: they end
                    if not here and not self.counted:
                        break
                    if not self.is_wanted(sample):
                        continue
                    yield Item(number, shard, sample, here > 0)
                    if here:
                        here, left = here - 1, left - 1
            except ShardError as error:
                self.problems.add(error.place, error.what, error.fix)
            finally:
                samples.close()  # type: ignore[attr-defined]  # a generator, which holds a file

    def is_wanted(self, sample: AnySample) -> bool:
        """Whether a sample's class is asked for."""
        try:
            return self.labels.wants(sample.find_label())
        except ImageError as error:
            self.problems.add(sample.place, error.what, error.fix)
            return False


@dataclass(frozen=True)
class Seen:
    """What was found of a sample; its image and digest, if it was decoded."""

    item: Item
    label: Label
    positions: Subset
    image: Image | None = None
    digest: bytes = b""


@dataclass
class Found:
    """What was found of a split's samples, in their order."""

    places: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    positions: list[Subset] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


@dataclass
class Survey:
    """The pass.

    Args:
        reader: turns samples into images.
        problems: gets samples that cannot be used.
        progress: show a bar on standard error.
        stamps: sizes and times of change of listed files by path, to notice one that changes meanwhile.
        opened: content of samples that were read already, by their place.
    """

    reader: Reader
    problems: Problems
    progress: bool = False
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    opened: dict[str, Loaded | PlaneFields] = field(default_factory=dict)
    template: Template | None = None
    names: dict[tuple[Subset, tuple[str | None, ...]], list[int]] = field(default_factory=dict)

    def run(
        self,
        walks: Mapping[str, Iterable[Item]],
        splits: Mapping[str, Shards],
        folder: Path | None,
        *,
        stream: bool,
        sampled: bool,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Go through all splits.

        Args:
            walks: the samples of each split; see ``Walk``.
            splits: what they come from.
            folder: gets the arrays of splits that are kept on disk; None keeps none.
            stream: training images are not kept, they are read again in training.
            sampled: only some of them are decoded; these count for nothing in the digest of all.

        Returns:
            The index (empty if no image can be used), and the images that are kept in memory.
        """
        found = {split: Found() for split in SPLITS}
        measured, rows, channels = array("Q"), count(), len(self.reader.channels)
        patterns: list[Counter[Subset]] = [Counter() for _ in splits["train"].names] if stream else []
        lacking, moments = "", None
        listed = all(isinstance(shards, Listed) for shards in splits.values())
        total = sum(len(shards.names) for shards in splits.values())
        sinks: dict[str, GrowingArray | MemoryArray] = {}
        with ExitStack() as stack:
            advance = stack.enter_context(progress_bar("decoding", total, show=self.progress))
            where = f" into {folder}" if folder else ""
            advance(0, note=f"{total:,} {'images' if listed else 'shards'}{where}")
            for split in SPLITS:
                kept = not (stream and split == "train")
                if kept and splits[split].storage == "memory":
                    sinks[split] = stack.enter_context(MemoryArray(len(splits[split].names)))
                elif kept and splits[split].storage == "disk" and folder is not None:
                    sinks[split] = stack.enter_context(GrowingArray(folder / f"{split}.npy"))
                for seen in self.images(moving(walks[split], advance)):
                    row, sample = next(rows), seen.item.sample
                    if not kept:
                        held = tuple(sorted(seen.positions))
                        patterns[seen.item.shard][held] += 1
                        lacking = lacking or (sample.place if len(held) < channels else "")
                    if seen.image is None:
                        continue
                    if listed and folder is not None and self.template is not None and not row:
                        check_space(folder, total * seen.image.spread(channels).nbytes)
                    if split == "train":
                        planes, held = seen.image.ascending()
                        moments = moments or RunningMoments((channels, *planes.shape[1:]))
                        moments.add(planes, held)
                    if kept:
                        note(found[split], seen)
                    else:
                        measured.append(int.from_bytes(seen.digest[:8], "little"))
                    if any(seen.image.found.names):
                        self.names.setdefault((seen.positions, seen.image.found.names), []).append(row)
                    if split in sinks:
                        sinks[split].append(seen.image.spread(channels))
        self.find_leaks(found, measured)
        if self.template is None or moments is None:
            return {}, {}
        whole = hashlib.blake2b(b"" if sampled else measured.tobytes(), digest_size=16)
        for split in SPLITS:
            whole.update(b"".join(found[split].digests))
        index = {
            "statistics": asdict(moments.statistics()),
            "template": self.template.to_dict(),
            "arrays": {split: len(found[split].paths) for split, sink in sinks.items() if sink is not None},
            "digests": {split: [digest.hex() for digest in found[split].digests] for split in SPLITS} if listed else {},
            "names": [[list(held), list(names), places] for (held, names), places in self.names.items()],
            "splits": {} if listed else {split: describe_found(found[split]) for split in SPLITS if found[split].paths},
            "counts": describe_counts(patterns, lacking) if stream else None,
            "digest": whole.hexdigest(),
        }
        return index, {split: sink.images for split, sink in sinks.items() if isinstance(sink, MemoryArray)}

    def images(self, items: Iterable[Item]) -> Iterator[Seen]:
        """Decode samples, several at a time, in their order; those that cannot be used are noted and left out."""
        with ThreadPoolExecutor(count_workers()) as pool, quiet():
            for found in map_ahead(pool, self.look, items, IN_FLIGHT):
                if isinstance(found, Seen):
                    try:
                        self.compare(found)
                        yield found
                    except ImageError as error:
                        self.problems.add(found.item.sample.place, error.what, error.fix)
                else:
                    self.problems.add(found[0].place, found[1].what, found[1].fix)

    def look(self, item: Item) -> Seen | tuple[AnySample, ImageError]:
        """Read and decode a sample, or say what is wrong with it."""
        sample = item.sample
        try:
            label, positions = sample.find_label(), self.reader.positions(sample)
            if not item.decoded:
                return Seen(item, label, positions)
            loaded = self.opened.pop(sample.place, None)
            loaded = sample.load() if loaded is None else loaded
            image = self.reader.decode(sample, loaded)
            if isinstance(sample, Sample) and self.has_changed(sample):
                raise ImageError("it changed while the data was being read", "load again once nothing writes to it")
            known = sample.find_digest(loaded)
            digest = image.digest(len(self.reader.channels)) if known is None else bytes.fromhex(known)
            return Seen(item, label, positions, image, digest)
        except ImageError as error:
            return sample, error
        except OSError as error:
            return sample, ImageError(*unreadable(error))

    def has_changed(self, sample: Sample) -> bool:
        """Whether a file is not what it was before the pass."""
        return isinstance(sample.image, Path) and stamp_content(sample.image) != self.stamps[sample.path]

    def compare(self, seen: Seen) -> None:
        """Raise ImageError if an image is not like the first one."""
        if seen.image is None:
            return
        image, positions = seen.image
        if self.template is None:
            self.template = Template(image.pixels.shape[1:], image.pixels.dtype, seen.item.sample.path, {})
        note_scalings(self.template.scalings, seen.item.sample.path, image, positions)
        self.template.check(image, positions, scaled=self.reader.settings.scaled)

    def find_leaks(self, found: Mapping[str, Found], measured: array[int]) -> None:
        """Note images whose content is also in a split before theirs; of ``measured`` training images only digests
        are known.
        """
        before = np.asarray(measured, np.uint64)
        known: list[tuple[str, Found, int]] = []
        for split in SPLITS:
            digests = np.array([int.from_bytes(one[:8], "little") for one in found[split].digests], np.uint64)
            for row in np.flatnonzero(np.isin(digests, before)).tolist():
                first = int(np.flatnonzero(before == digests[row])[0]) - len(measured)
                other, what = "train", ""
                if first >= 0:
                    other, earlier, place = known[first]
                    if normpath(earlier.paths[place]) == normpath(found[split].paths[row]):
                        continue  # the same file in two lists is noted as such
                    what = f" as {earlier.places[place]}"
                what = f"its content is in two splits (leakage): {split}, and {other}{what}"
                self.problems.add(found[split].places[row], what, "keep one of them")
            before = np.concatenate([before, digests])
            known += [(split, found[split], row) for row in range(len(digests))]


def note(found: Found, seen: Seen) -> None:
    """Add what was found of a sample."""
    found.places.append(seen.item.sample.place)
    found.paths.append(seen.item.sample.path)
    found.labels.append(seen.label)
    found.positions.append(tuple(sorted(seen.positions)))
    found.numbers.append(seen.item.number)
    found.digests.append(seen.digest)


def describe_found(found: Found) -> dict[str, Any]:
    """Plain values: which channels there are, and for each image which of them it has."""
    known = sorted(set(found.positions))
    held = {positions: number for number, positions in enumerate(known)}
    return {
        "labels": found.labels,
        "paths": found.paths,
        "numbers": found.numbers,
        "patterns": known,
        "rows": [held[positions] for positions in found.positions],
    }


def describe_counts(shards: list[Counter[Subset]], lacking: str) -> dict[str, Any]:
    """Plain values: which channels there are, for each shard how many images have them, and one that lacks some."""
    known = sorted({pattern for shard in shards for pattern in shard})
    return {
        "patterns": known,
        "images": [[shard[pattern] for pattern in known] for shard in shards],
        "lacking": lacking,
    }


def moving(items: Iterable[Item], advance: Advance) -> Iterator[Item]:
    """The same samples; each new shard moves the bar."""
    before = None
    for item in items:
        if item.shard != before:
            advance()
            before = item.shard
        yield item
