"""One pass over shards before training: what is in them, and whether all of it can be used."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import Subset
from anychannel.data.build import Template, note_scalings
from anychannel.data.cache import check_space
from anychannel.data.files.tiff import quiet
from anychannel.data.labels import Labels
from anychannel.data.problems import ImageError, Problems
from anychannel.data.samples import Image, Reader, Sample
from anychannel.data.shards import ShardError, Shards
from anychannel.data.statistics import RunningMoments, Statistics
from anychannel.data.workers import count_workers, map_ahead
from anychannel.utils.progress import Advance, progress_bar

IN_FLIGHT = 32
"""Samples that are decoded at a time."""


@dataclass
class Survey:
    """Reads samples one after the other and notes what is wrong with them.

    Args:
        reader: turns samples into images.
        labels: what labels there are, and which of them are asked for.
        problems: gets shards and samples that cannot be used.
        progress: show a bar on standard error.
    """

    reader: Reader
    labels: Labels
    problems: Problems
    progress: bool = False
    template: Template | None = None

    def samples(self, shards: Shards, which: Iterable[int], most: int | None = None) -> Iterator[tuple[int, Sample]]:
        """The samples of the classes asked for, with their shards' numbers; shards that end early are noted.

        Args:
            shards, which: these of the shards.
            most: samples taken of each; None takes all.
        """
        for shard in which:
            samples = shards.read(shard)
            try:
                for sample in islice(filter(self.is_wanted, samples), most):
                    yield shard, sample
            except ShardError as error:
                self.problems.add(error.place, error.error.what, error.error.fix)
            finally:
                samples.close()  # type: ignore[attr-defined]  # a generator, which holds a file

    def is_wanted(self, sample: Sample) -> bool:
        """Whether a sample's class is asked for; one without a label is noted."""
        try:
            return self.labels.wants(self.reader.fields.find_label(sample))
        except ImageError as error:
            self.problems.add(sample.place, error.what, error.fix)
            return False

    def images(self, samples: Iterable[tuple[int, Sample]], shards: int, title: str) -> Iterator[Seen]:
        """Decode samples of so many shards, several at a time; those that cannot be used are noted and left out."""

        def decode(item: tuple[int, Sample]) -> Seen | tuple[Sample, ImageError]:
            shard, sample = item
            try:
                return Seen(shard, sample.place, self.reader.fields.find_label(sample), self.reader.read(sample))
            except ImageError as error:
                return sample, error

        with (
            progress_bar(title, shards, show=self.progress) as advance,
            ThreadPoolExecutor(count_workers()) as pool,
            quiet(),
        ):
            for found in map_ahead(pool, decode, counted(samples, advance), IN_FLIGHT):
                if isinstance(found, Seen):
                    error = self.compare(found)
                    if error is None:
                        yield found
                        continue
                    self.problems.add(found.place, error.what, error.fix)
                else:
                    self.problems.add(found[0].place, found[1].what, found[1].fix)

    def compare(self, seen: Seen) -> ImageError | None:
        """What sets an image apart from the first one, which all have to be like."""
        image, positions = seen.image
        if self.template is None:
            self.template = Template(image.pixels.shape[1:], image.pixels.dtype, seen.place, {})
        note_scalings(self.template.scalings, seen.place, image, positions)
        try:
            self.template.check(image, positions, scaled=self.reader.settings.scaled)
        except ImageError as error:
            return error
        return None


@dataclass(frozen=True)
class Seen:
    """A decoded sample: its shard's number, where it lies, its label as written, and its image."""

    shard: int
    place: str
    label: int | str
    image: Image

    def ascending(self) -> tuple[np.ndarray, Subset]:
        """The planes in their channels' order, and these channels' positions."""
        pixels, positions = self.image.found.pixels, self.image.positions
        held = tuple(sorted(positions))
        return pixels if held == positions else pixels[np.argsort(positions)], held

    def digest(self, channels: int) -> int:
        """64 bits that stand for the pixels and for what their planes are."""
        planes = np.ascontiguousarray(self.image.found.pixels)
        key = b"" if self.image.positions == tuple(range(channels)) else bytes(self.image.positions)[:64]
        return int.from_bytes(hashlib.blake2b(planes.data, digest_size=8, key=key).digest(), "little")


def counted(samples: Iterable[tuple[int, Sample]], advance: Advance) -> Iterator[tuple[int, Sample]]:
    """The same samples; each new shard moves the bar."""
    before = None
    for shard, sample in samples:
        if shard != before:
            advance()
            before = shard
        yield shard, sample


@dataclass
class Tally:
    """What a pass over a split found.

    Args:
        shards: how many there are.
        patterns: for each, how many images have which channels.
        lacking: an image that lacks channels, "" where none does.
        digests: of the images, in the order read.
    """

    shards: int
    patterns: list[Counter[Subset]] = field(init=False)
    lacking: str = ""
    digests: array[int] = field(default_factory=lambda: array("Q"))

    def __post_init__(self) -> None:
        self.patterns = [Counter() for _ in range(self.shards)]

    def count(self, shard: int, pattern: Subset, place: str, channels: int) -> None:
        """Count an image in."""
        held = tuple(sorted(pattern))
        self.patterns[shard][held] += 1
        if len(held) < channels and not self.lacking:
            self.lacking = place

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the patterns that there are, and for each shard how many images have which of them."""
        known = sorted({pattern for shard in self.patterns for pattern in shard})
        rows = [[shard[pattern] for pattern in known] for shard in self.patterns]
        return {"patterns": [list(pattern) for pattern in known], "images": rows, "lacking": self.lacking}


def survey_all(survey: Survey, shards: Shards) -> tuple[Tally, Statistics | None]:
    """Decode every image of a split: counts, and statistics bitwise as ``measure`` takes them in this order."""
    count = len(survey.reader.channels)
    tally, moments = Tally(len(shards.names)), None
    for seen in survey.images(survey.samples(shards, range(len(shards.names))), len(shards.names), "measuring"):
        planes, held = seen.ascending()
        if moments is None:
            moments = RunningMoments((count, *planes.shape[1:]))
        tally.count(seen.shard, held, seen.place, count)
        tally.digests.append(seen.digest(count))
        moments.add(planes, held)
    return tally, None if moments is None else moments.statistics()


def count_all(survey: Survey, shards: Shards) -> Tally:
    """Count a split's images; nothing is decoded."""
    tally = Tally(len(shards.names))
    with progress_bar("counting", len(shards.names), show=survey.progress) as advance:
        for shard, sample in counted(survey.samples(shards, range(len(shards.names))), advance):
            try:
                tally.count(shard, survey.reader.positions(sample), sample.place, len(survey.reader.channels))
            except ImageError as error:
                survey.problems.add(sample.place, error.what, error.fix)
    return tally


def survey_some(
    survey: Survey, shards: Shards, images: int, seed: int, most_shards: int = 16
) -> tuple[Statistics | None, array[int]]:
    """Statistics and digests of ``images`` images: the first of up to ``most_shards`` shards drawn by the seed."""
    count = len(survey.reader.channels)
    rng = np.random.default_rng([seed, 3])
    which = np.sort(rng.permutation(len(shards.names))[:most_shards]).tolist()
    moments, digests = None, array("Q")
    samples = survey.samples(shards, which, -(-images // len(which)))
    for seen in islice(survey.images(samples, len(which), "measuring"), images):
        planes, held = seen.ascending()
        if moments is None:
            moments = RunningMoments((count, *planes.shape[1:]))
        digests.append(seen.digest(count))
        moments.add(planes, held)
    return None if moments is None else moments.statistics(), digests


def keep_all(
    survey: Survey, shards: Shards, take: Callable[[Seen], None] | None = None
) -> tuple[dict[str, list[Any]], array[int]]:
    """Decode every image of a split, and remember what each is.

    Args:
        survey: notes what is wrong.
        shards: the split's.
        take: gets each image.

    Returns:
        Labels as written, places and channels of the images in their order; and their digests.
    """
    count = len(survey.reader.channels)
    kept: dict[str, list[Any]] = {"labels": [], "places": [], "positions": []}
    digests = array("Q")
    for seen in survey.images(survey.samples(shards, range(len(shards.names))), len(shards.names), "decoding"):
        if take is not None:
            take(seen)
        digests.append(seen.digest(count))
        kept["labels"].append(seen.label)
        kept["places"].append(seen.place)
        kept["positions"].append(sorted(seen.image.positions))
    return kept, digests


class GrowingArray:
    """A ``.npy`` file to which images are appended; its header, which NumPy pads for this, is written at the end.

    Args:
        file: to write.
        empty: shape of an image and type, for a file that gets none.
    """

    def __init__(self, file: Path, empty: tuple[Sequence[int], np.dtype[Any]] | None = None) -> None:
        self.file = file
        self.like = empty
        self.count = 0

    def __enter__(self) -> GrowingArray:
        self.handle = self.file.open("wb+")
        if self.like is not None:
            self.write_header()
        return self

    def __exit__(self, *error: object) -> None:
        if self.like is not None:
            self.handle.seek(0)
            self.write_header()
        self.handle.close()

    def write_header(self) -> None:
        """Say how many images there are, of which shape and type."""
        shape, dtype = self.like or ((), np.dtype(np.uint8))
        description = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.count, *shape)}
        np.lib.format.write_array_header_2_0(self.handle, header)

    def append(self, image: np.ndarray) -> None:
        """Write an image (C, H, W), like all before."""
        if self.like is None:
            self.like = image.shape, image.dtype
            self.write_header()
        if self.count % 1024 == 0:
            check_space(self.file.parent, 1024 * image.nbytes)
        self.handle.write(np.ascontiguousarray(image).data)
        self.count += 1


def find_leaks(known: array[int], split: str, places: Sequence[str], digests: array[int], problems: Problems) -> None:
    """Note images of a split that are also among those with the digests ``known``, of splits before it."""
    leaked = np.isin(np.asarray(digests, np.uint64), np.asarray(known, np.uint64))
    for row in np.flatnonzero(leaked).tolist():
        what = f"its image is in two splits (leakage): {split}, and one before it"
        problems.add(places[row], what, "keep one of them")
