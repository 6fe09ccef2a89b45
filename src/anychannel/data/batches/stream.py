"""A training split that is read from shards as training goes on, and never held: neither in memory nor on disk.

What is in memory at a time are ``buffer`` images as they are stored (a JPEG's bytes, not its pixels) and the decoded
images of ``AHEAD`` + 1 batches. The lanes are shared by threads, one a core, or by processes that do nothing else.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from anychannel.channels import ChannelSet, Subset
from anychannel.data.batches.lanes import Stretch, check_lanes, count_lanes, cut_row, endless, shard_order, shuffled
from anychannel.data.batches.split import Batch, pass_through, to_tensor
from anychannel.data.errors import DataError
from anychannel.data.sources.reader import Reader, Template, placed
from anychannel.data.sources.source import AnySample, Label, Shards, StreamSettings, array_of_labels
from anychannel.data.workers import count_workers
from anychannel.utils.extras import MissingExtraError
from anychannel.utils.processes import Share, gather_rows

AHEAD = 2
"""Batches that are decoded while one is trained on."""


class EpochOrder(NamedTuple):
    """What decides which images an epoch's batches hold, and the step to begin at."""

    seed: int
    epoch: int
    batch_size: int
    lanes: int
    first_step: int = 0


class Counted(NamedTuple):
    """What a pass over the shards found: images of the chosen classes in each shard, by their channels.

    ``lacking`` is the place of an image that lacks channels, "" if none does.
    """

    images: tuple[Mapping[Subset, int], ...]
    lacking: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Counted:
        """From plain values: for each shard pairs of channels and the number of images that have them."""
        shards = tuple({tuple(held): number for held, number in shard} for shard in values["images"])
        return cls(shards, values["lacking"])


@dataclass(frozen=True)
class Stream:
    """Images in shards.

    Args:
        shards: what is read.
        reader: turns their samples into images.
        label_of: position in the data set's ``classes`` by the label as it is written; samples of others are left out.
        template: what all images have to be like.
        settings: length of an epoch, shuffling, lanes and processes.
        counted: how many images the shards hold; None if ``settings`` give an epoch's length.
        chosen: positions of the channels to read, in this order; None reads all.
        complete: whether only images that have all of these are read.
        channels, classes: see ``Split``.
        has_several: whether an image may have several labels.
        skipped: places of samples to leave out.
    """

    shards: Shards
    reader: Reader
    label_of: Mapping[Label, int]
    template: Template
    settings: StreamSettings
    counted: Counted | None = None
    chosen: Subset | None = None
    complete: bool = False
    channels: ChannelSet | None = None
    classes: tuple[str, ...] | None = None
    has_several: bool = False
    skipped: frozenset[str] = frozenset()

    random_access: ClassVar[bool] = False
    """Whether images can be read in any order, as evaluation needs."""

    def __len__(self) -> int:
        """Images that an epoch visits."""
        return self.settings.epoch_images or sum(self.counts())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of each image."""
        height, width = self.template.size
        return len(self.reader.channels if self.chosen is None else self.chosen), height, width

    def counts(self) -> list[int]:
        """Images of each shard that have the chosen channels. Raises ValueError if they were not counted."""
        if self.counted is None:
            raise ValueError("the images of these shards were not counted; leave epoch_images out")
        wanted = set(self.chosen or ()) if self.complete else set()
        return [sum(n for held, n in shard.items() if wanted <= set(held)) for shard in self.counted.images]

    def count_patterns(self) -> dict[Subset, int]:
        """How many images have which channels; {} where they were not counted."""
        found: Counter[Subset] = Counter()
        for shard in () if self.counted is None else self.counted.images:
            found.update(shard)
        return dict(found)

    def find_lacking(self) -> tuple[int, str]:
        """How many images lack channels, as far as that was counted, and one of them."""
        if self.complete or self.counted is None:
            return 0, ""
        whole = len(self.reader.channels)
        return sum(n for held, n in self.count_patterns().items() if len(held) < whole), self.counted.lacking

    @property
    def may_lack(self) -> bool:
        """Whether an image can lack a channel."""
        if self.complete or not (self.shards.fields.may_lack or self.masks):
            return False
        return self.counted is None or self.find_lacking()[0] > 0

    @property
    def masks(self) -> bool:
        """Whether only its pixels show if an image lacks a channel, because none of them is valid."""
        return self.reader.settings.nodata is not None

    def select(self, positions: Subset) -> Stream:
        """Only these channels, of the images that have all of them."""
        return replace(self.arrange(positions), complete=True)

    def arrange(self, positions: Subset) -> Stream:
        """All images with these channels, in this order."""
        chosen = positions if self.chosen is None else tuple(self.chosen[i] for i in positions)
        channels = self.channels and self.channels.select([self.channels.names[i] for i in positions])
        return replace(self, chosen=chosen, channels=channels)

    def batches(self, *, seed: int, epoch: int, batch_size: int, share: Share, first_step: int = 0) -> Iterator[Batch]:
        """One process's share of an epoch's batches, from step ``first_step`` on; see ``Split.batches``.

        Which images a batch holds is a function of seed, epoch, batch size and the number of lanes. The images of steps
        before the first are passed over without being decoded. Raises DataError if a shard or a sample cannot be used,
        or is not what it was when the shards were counted.
        """
        lanes = count_lanes(self.settings.lanes, len(self.shards.names), share.count)
        if self.settings.epoch_images is not None:
            check_lanes(lanes, len(self.shards.names))
        epoch_of = EpochOrder(seed, epoch, batch_size, lanes, first_step)
        rows = share.rows(batch_size)
        active = [lane for lane in range(share.index, lanes, share.count) if lane < batch_size]
        if self.settings.workers:
            batches = read_in_processes(self, epoch_of, rows, active, min(self.settings.workers, len(active)))
        else:
            batches = self.read(epoch_of, rows, active, threads=min(count_workers(), len(active)))
        if not self.may_lack:
            return batches
        return (batch._replace(present=gather_rows(np.asarray(batch.present), batch_size, share)) for batch in batches)

    def read(self, order: EpochOrder, rows: np.ndarray, mine: Sequence[int], *, threads: int) -> Iterator[Batch]:
        """The images at ``rows`` of each of an epoch's batches. They are in the lanes ``mine``, shared by threads."""
        lanes, steps = order.lanes, len(self) // order.batch_size
        amounts = {lane: int((rows % lanes == lane).sum()) for lane in mine}
        samples = {}
        for lane, stretches in self.plan(order, steps, mine).items():
            rng = np.random.default_rng([order.seed, 2, order.epoch, lane])
            found = shuffled(islice(self.visit(stretches), steps * amounts[lane]), self.settings.buffer // lanes, rng)
            samples[lane] = islice(found, order.first_step * amounts[lane], None)
        executors = [ThreadPoolExecutor(1, f"lanes-{i}") for i in range(threads)]
        pools = {lane: executors[i % threads] for i, lane in enumerate(mine)}

        def take(lane: Iterator[AnySample], count: int) -> list[DecodedSample]:
            return [self.decode(sample) for sample in islice(lane, count)]

        def submit() -> dict[int, Future[list[DecodedSample]]]:
            # a lane has one thread, so that its samples stay in order
            return {lane: pool.submit(take, samples[lane], amounts[lane]) for lane, pool in pools.items()}

        waiting: deque[dict[int, Future[list[DecodedSample]]]] = deque()
        try:
            for step in range(order.first_step, steps):
                while len(waiting) <= min(AHEAD, steps - 1 - step):
                    waiting.append(submit())
                pieces = {lane: iter(future.result()) for lane, future in waiting.popleft().items()}
                images = [next(pieces[row % lanes]) for row in rows.tolist()]
                pixels, present = (np.stack([getattr(one, name) for one in images]) for name in ("planes", "present"))
                labels = torch.from_numpy(np.stack([one.label for one in images]))
                places = [one.place for one in images]
                yield Batch(to_tensor(pixels), labels, present if self.may_lack else None, places)
        finally:
            for executor in executors:
                executor.shutdown(cancel_futures=True)

    def plan(self, order: EpochOrder, steps: int, mine: Sequence[int]) -> dict[int, Iterator[Stretch]]:
        """What each of the lanes ``mine`` reads in an epoch of so many steps."""
        total = len(self.shards.names)
        if self.settings.epoch_images is not None:
            return {lane: endless(order.seed, order.epoch, total, lane, order.lanes) for lane in mine}
        lengths = [steps * len(range(lane, order.batch_size, order.lanes)) for lane in range(order.lanes)]
        pieces = cut_row(self.counts(), shard_order(order.seed, order.epoch, total), lengths)
        return {lane: iter(pieces[lane]) for lane in mine}

    def visit(self, stretches: Iterator[Stretch]) -> Iterator[AnySample]:
        """The wanted samples of some stretches.

        Raises DataError if a shard holds fewer of them than were counted, or if no shard holds any.
        """
        shards_without = 0
        for shard, start, stop in stretches:
            count = 0
            with closing(self.shards.read(shard)) as samples:
                for sample in islice(filter(self.is_wanted, samples), start, stop):
                    count += 1
                    yield sample
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

    def is_wanted(self, sample: AnySample) -> bool:
        """Whether a sample has a class and channels that are asked for."""
        with placed(sample):
            label = sample.label
            if not (isinstance(label, tuple) or label in self.label_of) or sample.place in self.skipped:
                return False
            if not self.complete:
                return True
            wanted = set(self.chosen or ())
            if self.masks:
                return wanted <= set(self.reader.decode(sample, sample.load()).positions)
            return wanted <= set(self.reader.positions(sample))

    def decode(self, sample: AnySample) -> DecodedSample:
        """A sample's planes, each in its place. Raises DataError if it cannot be used; its shard and key are named."""
        with placed(sample):
            label = array_of_labels([sample.label], self.label_of, several=self.has_several)[0]
        image = self.reader.read_like(self.template, sample)
        planes = image.spread(len(self.reader.channels))
        present = np.isin(np.arange(len(planes)), image.positions)
        if self.chosen is not None:
            planes, present = planes[list(self.chosen)], present[list(self.chosen)]
        return DecodedSample(planes, label, present, sample.place)


class DecodedSample(NamedTuple):
    """A decoded image (C, H, W), its label or labels (L,), which channels it has, and where it lies."""

    planes: np.ndarray
    label: np.ndarray
    present: np.ndarray
    place: str


class LaneReader(IterableDataset[Batch | ValueError]):
    """What one of several reading processes yields: its part of each batch, or the error that ended it.

    It takes the arguments of ``Stream.read``, for all of these processes together.
    """

    def __init__(self, stream: Stream, order: EpochOrder, rows: np.ndarray, mine: Sequence[int]) -> None:
        self.stream = stream
        self.order = order
        self.rows = rows
        self.mine = mine

    def part(self, worker: int, workers: int) -> tuple[np.ndarray, Sequence[int]]:
        """Positions in ``rows`` of what a process reads, and its lanes."""
        lanes = self.mine[worker::workers]
        return np.flatnonzero(np.isin(self.rows % self.order.lanes, lanes)), lanes

    def __iter__(self) -> Iterator[Batch | ValueError]:
        info = get_worker_info()
        places, lanes = self.part(0, 1) if info is None else self.part(info.id, info.num_workers)
        try:
            yield from self.stream.read(self.order, self.rows[places], lanes, threads=1)
        except ValueError as error:  # as it is: a data loader would put a traceback before its message
            kind = next(kind for kind in (DataError, MissingExtraError, ValueError) if isinstance(error, kind))
            yield kind(str(error))


def read_in_processes(
    stream: Stream, order: EpochOrder, rows: np.ndarray, mine: Sequence[int], workers: int
) -> Iterator[Batch]:
    """As ``Stream.read``, by processes that share the lanes."""
    reader = LaneReader(stream, order, rows, mine)
    loader = DataLoader(
        reader,
        batch_size=None,
        num_workers=workers,
        collate_fn=pass_through,
        prefetch_factor=AHEAD,
        generator=torch.Generator(),
    )
    places = np.concatenate([reader.part(worker, workers)[0] for worker in range(workers)])
    back = torch.from_numpy(np.argsort(places))
    parts = iter(loader)  # one of the first process, one of the second ... and again
    while found := tuple(islice(parts, workers)):
        for part in found:
            if isinstance(part, ValueError):
                raise part
        listed = [place for part in found for place in part.places]
        present = [part.present for part in found if part.present is not None]
        yield Batch(
            torch.cat([part.images for part in found])[back],
            torch.cat([part.labels for part in found])[back],
            np.concatenate(present)[back.numpy()] if present else None,
            [listed[i] for i in back.tolist()],
        )
