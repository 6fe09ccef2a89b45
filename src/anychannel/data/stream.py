"""A training split that is read from shards as training goes on, and never held: neither in memory nor on disk.

What is in memory at a time are ``buffer`` images as they are stored (a JPEG's bytes, not its pixels) and the decoded
images of ``AHEAD`` + 1 batches. Each lane is read and decoded by a thread of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from anychannel.channels import Subset
from anychannel.data.batches import Batch, to_tensor
from anychannel.data.build import Template, note_scalings
from anychannel.data.lanes import Stretch, count_lanes, cut_row, endless, shard_order, shuffled
from anychannel.data.problems import DataError
from anychannel.data.samples import Reader, Sample, placed
from anychannel.data.shards import Shards
from anychannel.processes import Share

AHEAD = 2
"""Batches that are decoded while one is trained on."""


class Counted(NamedTuple):
    """What a pass over the shards found.

    Args:
        images: of the chosen classes, in each shard, by the channels that they have.
        lacking: an image that lacks channels, "" where none does.
    """

    images: tuple[Mapping[Subset, int], ...]
    lacking: str = ""


@dataclass(frozen=True)
class Stream:
    """Images in shards.

    Args:
        shards: what is read.
        reader: turns their samples into images.
        label_of: position in the data set's ``classes`` by the label as it is written; samples of others are left out.
        template: what all images have to be like.
        counted: how many images the shards hold; None where that is not known.
        epoch_images: images that an epoch visits; None visits each once, where they are counted.
        buffer: samples among which the order is shuffled, of all lanes together.
        lanes: see ``count_lanes``.
        chosen: positions of the channels to show, in this order, and of images that have all of them; None shows all.
    """

    shards: Shards
    reader: Reader
    label_of: Mapping[int | str, int]
    template: Template
    counted: Counted | None = None
    epoch_images: int | None = None
    buffer: int = 4096
    lanes: int | None = None
    chosen: Subset | None = None

    def __post_init__(self) -> None:
        if self.counted is None and self.epoch_images is None:
            raise ValueError("nothing says how long an epoch is; give epoch_images, or count the images")
        for name in ("epoch_images", "lanes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is a number, at least 1, or left out, got {value}")
        if self.buffer < 0:
            raise ValueError(f"buffer is a number of samples, 0 or more, got {self.buffer}")

    def __len__(self) -> int:
        """Images that an epoch visits."""
        return self.epoch_images if self.epoch_images is not None else sum(self.counts())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of each image."""
        height, width = self.template.size
        return len(self.reader.channels if self.chosen is None else self.chosen), height, width

    def counts(self) -> list[int]:
        """Images of each shard that are shown.

        Raises:
            ValueError: they were not counted.
        """
        if self.counted is None:
            raise ValueError("the images of these shards were not counted; leave epoch_images out")
        wanted = set(self.chosen or ())
        return [sum(n for held, n in shard.items() if wanted <= set(held)) for shard in self.counted.images]

    def count_patterns(self) -> dict[Subset, int]:
        """How many images have which channels; {} where they were not counted."""
        found: dict[Subset, int] = {}
        for shard in () if self.counted is None else self.counted.images:
            for pattern, count in shard.items():
                found[pattern] = found.get(pattern, 0) + count
        return found

    def find_lacking(self) -> tuple[int, str]:
        """How many images lack channels, as far as that was counted, and one of them."""
        if self.chosen is not None or self.counted is None:
            return 0, ""
        whole = len(self.reader.channels)
        return sum(n for held, n in self.count_patterns().items() if len(held) < whole), self.counted.lacking

    @property
    def may_lack(self) -> bool:
        """Whether an image can lack a channel."""
        if self.chosen is not None or not self.reader.fields.may_lack:
            return False
        return self.counted is None or self.find_lacking()[0] > 0

    def select(self, positions: Subset) -> Stream:
        """Only these channels, of the images that have all of them."""
        return replace(self, chosen=positions)

    def batches(self, *, seed: int, epoch: int, batch_size: int, share: Share, first_step: int = 0) -> Iterator[Batch]:
        """One process's share of an epoch's batches, from step ``first_step`` on.

        Which images a batch holds is a function of seed, epoch, batch size and the number of lanes. The images of
        steps before the first are passed over without being decoded.

        Yields:
            Batches with ``present`` of this process's images, None where no image can lack a channel.

        Raises:
            DataError: a shard or a sample cannot be used, or is not what it was when the shards were counted.
            ValueError: see ``count_lanes`` and ``endless``.
        """
        lanes = count_lanes(self.lanes, len(self.shards.names), share.count)
        rows = share.rows(batch_size)
        mine = range(share.index, lanes, share.count)
        amounts = {lane: int((rows % lanes == lane).sum()) for lane in mine}
        steps = len(self) // batch_size
        samples = {}
        for lane, stretches in self.plan(seed, epoch, batch_size, steps, lanes, list(mine)).items():
            rng = np.random.default_rng([seed, 2, epoch, lane])
            found = shuffled(islice(self.visit(stretches), steps * amounts[lane]), self.buffer // lanes, rng)
            samples[lane] = islice(found, first_step * amounts[lane], None)
        pools = {lane: ThreadPoolExecutor(1, f"lane-{lane}") for lane in mine if amounts[lane]}

        def submit() -> dict[int, Future[list[Shown]]]:
            return {lane: pool.submit(self.take, samples[lane], amounts[lane]) for lane, pool in pools.items()}

        waiting: deque[dict[int, Future[list[Shown]]]] = deque()
        try:
            for step in range(first_step, steps):
                while len(waiting) <= min(AHEAD, steps - 1 - step):
                    waiting.append(submit())
                pieces = {lane: iter(future.result()) for lane, future in waiting.popleft().items()}
                yield join([next(pieces[row % lanes]) for row in rows.tolist()], lacking=self.may_lack)
        finally:
            for pool in pools.values():
                pool.shutdown(cancel_futures=True)

    def plan(
        self, seed: int, epoch: int, batch_size: int, steps: int, lanes: int, mine: list[int]
    ) -> dict[int, Iterator[Stretch]]:
        """What each of the lanes ``mine`` reads in an epoch."""
        total = len(self.shards.names)
        if self.epoch_images is not None:
            return {lane: endless(seed, epoch, total, lane, lanes) for lane in mine}
        lengths = [steps * len(range(lane, batch_size, lanes)) for lane in range(lanes)]
        pieces = cut_row(self.counts(), shard_order(seed, epoch, total), lengths)
        return {lane: iter(pieces[lane]) for lane in mine}

    def visit(self, stretches: Iterator[Stretch]) -> Iterator[Sample]:
        """The samples of some stretches that are shown.

        Raises:
            DataError: a shard holds fewer of them than were counted, or no shard holds any.
        """
        shards_without = 0
        for shard, start, stop in stretches:
            count = 0
            samples = self.shards.read(shard)
            try:
                for sample in islice(filter(self.is_shown, samples), start, stop):
                    count += 1
                    yield sample
            finally:
                samples.close()  # type: ignore[attr-defined]  # a generator, which holds a file
            if stop is not None and count < stop - start:
                raise DataError(
                    f"{self.shards.names[shard]}: it holds fewer images than when it was counted; load the data again "
                    "with verify=True"
                )
            shards_without = 0 if count else shards_without + 1
            if stop is None and shards_without == len(self.shards.names):
                raise DataError(
                    f"none of the {shards_without:,} shards that were read last ({self.shards.names[shard]}, say) "
                    "holds an image of the classes and channels asked for"
                )

    def is_shown(self, sample: Sample) -> bool:
        """Whether a sample has a class and channels that are asked for."""
        with placed(sample):
            if self.reader.fields.find_label(sample) not in self.label_of:
                return False
            return self.chosen is None or set(self.chosen) <= set(self.reader.positions(sample))

    def take(self, samples: Iterator[Sample], count: int) -> list[Shown]:
        """The next images of a lane, decoded.

        Raises:
            DataError: one of them cannot be used.
        """
        return [self.show(sample) for sample in islice(samples, count)]

    def show(self, sample: Sample) -> Shown:
        """A sample's planes, each in its place.

        Raises:
            DataError: it cannot be used; its shard and key are named.
        """
        with placed(sample):
            label = self.label_of[self.reader.fields.find_label(sample)]
            image = self.reader.read(sample)
            note_scalings(self.template.scalings, sample.place, image.found, image.positions)
            self.template.check(image.found, image.positions, scaled=self.reader.settings.scaled)
        planes = image.spread(len(self.reader.channels))
        present = np.zeros(len(planes), dtype=bool)
        present[list(image.positions)] = True
        if self.chosen is not None:
            planes, present = planes[list(self.chosen)], present[list(self.chosen)]
        return Shown(planes, label, present, sample.place)


class Shown(NamedTuple):
    """A decoded image (C, H, W), its label, which channels it has, and where it lies."""

    planes: np.ndarray
    label: int
    present: np.ndarray
    place: str


def join(images: list[Shown], *, lacking: bool) -> Batch:
    """Images to one batch."""
    pixels = np.stack([image.planes for image in images])
    labels = torch.tensor([image.label for image in images], dtype=torch.int64)
    present = np.stack([image.present for image in images]) if lacking else None
    return Batch(to_tensor(pixels), labels, present, [image.place for image in images])
