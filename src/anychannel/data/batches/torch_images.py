"""Labelled images that a PyTorch ``Dataset`` or ``DataLoader`` gives, checked and read batch by batch.

A ``DataLoader`` keeps its batch size, sampler, workers and ``collate_fn``. A data set is read by this process, in
batches of the caller's size; pass a ``DataLoader`` to read it with workers. Nothing is held but the current batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, SequentialSampler

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.data.batches.samples import (
    Sample,
    SampleError,
    as_array,
    as_tensor,
    check_present,
    read_fields,
    to_label,
    to_labels,
    to_numbers,
    to_planes,
)
from anychannel.data.batches.split import Batch, epoch_order
from anychannel.data.batches.torch_sources import (
    as_loader,
    explained,
    find_sampler,
    name_images,
    own_generators_seeded,
)
from anychannel.data.errors import DataError
from anychannel.utils.processes import Share, gather_rows
from anychannel.utils.seeds import reproducible

USUAL_BATCH = 32
"""Images that a batch is taken to have if only the data set, which makes it, knows."""


@dataclass(frozen=True)
class TorchImages:
    """Images with labels from a PyTorch ``Dataset``, ``IterableDataset`` or ``DataLoader``.

    Args:
        source: gives (image, label), or dictionaries with ``image``, ``label`` and, if images lack channels,
            ``present``.
        planes: the channels of the source's images, in their order.
        classes: names in the labels' order, or None.
        what: names the images in messages.
        num_classes: number of classes that labels may have; None does not check them.
        labelled: whether samples need a label; without it, labels are 0.
        chosen: positions of the channels to read, in this order; None reads all.
        complete: whether images that lack one of them are left out of ``in_order``.
        accumulate: number of batches of a ``DataLoader`` that make one batch of ``batches``.
    """

    source: Any
    planes: ChannelSet
    classes: tuple[str, ...] | None = None
    what: str = "the images"
    num_classes: int | None = None
    labelled: bool = True
    chosen: Subset | None = None
    complete: bool = False
    accumulate: int = 1

    random_access: ClassVar[bool] = False

    @property
    def channels(self) -> ChannelSet:
        """The channels of the images that are read."""
        if self.chosen is None:
            return self.planes
        return self.planes.select([self.planes.names[position] for position in self.chosen])

    @property
    def is_loader(self) -> bool:
        """Whether the source makes batches itself."""
        return isinstance(self.source, DataLoader)

    @property
    def is_map(self) -> bool:
        """Whether the source is a data set whose images can be read by number."""
        by_number = hasattr(self.source, "__getitem__") and hasattr(self.source, "__len__")
        return by_number and not isinstance(self.source, DataLoader | IterableDataset)

    @property
    def is_shared(self) -> bool:
        """Whether each of several processes gets other images from the source."""
        return self.is_loader and isinstance(find_sampler(self.source), DistributedSampler)

    @property
    def makes_no_batches(self) -> bool:
        """Whether a loader leaves it to its data set to make batches, whose sizes it does not know."""
        return self.is_loader and self.source.batch_sampler is None

    @property
    def size(self) -> int | None:
        """Number of images; None if the source does not know."""
        if self.makes_no_batches:
            return None
        try:
            if not self.is_loader:
                return len(self.source)
            sampler = find_sampler(self.source)
            images = len(sampler) if hasattr(sampler, "__len__") else len(self.source.dataset)
            if self.source.drop_last and self.source.batch_size:
                images = min(images, len(self.source) * self.source.batch_size)
            return images * (sampler.num_replicas if isinstance(sampler, DistributedSampler) else 1)
        except TypeError:
            return None

    def __len__(self) -> int:
        """Number of images, about, if the data set makes batches. Raises TypeError if the source does not know."""
        if self.makes_no_batches:
            try:
                return len(self.source) * USUAL_BATCH
            except TypeError:
                pass
        if self.size is None:
            raise TypeError(
                f"{self.what} come from a {type(self.source).__name__} without a length, which training needs to plan "
                "the learning rate; give the data set __len__, the number of images of an epoch"
            )
        return self.size

    def plan(self, batch_size: int, share: Share) -> tuple[int, int]:
        """Number of images in a batch of ``batches``, and of batches in an epoch; ``batch_size`` is for data sets."""
        if not self.is_loader:
            images = min(batch_size * self.accumulate, len(self))
            return images, len(self) // images
        try:
            batches = len(self.source)
        except TypeError:
            batches = len(self)  # raises the error that says what to do
        own = self.source.batch_size or -(-len(self) // max(batches, 1))
        return own * self.accumulate * (share.count if self.is_shared else 1), -(-batches // self.accumulate)

    def select(self, positions: Subset) -> TorchImages:
        """Only these channels, in this order, of the images that have all of them."""
        return replace(self.arrange(positions), complete=True)

    def arrange(self, positions: Subset) -> TorchImages:
        """All images with these channels, in this order."""
        chosen = positions if self.chosen is None else tuple(self.chosen[position] for position in positions)
        return replace(self, chosen=tuple(chosen))

    def has_several(self) -> bool:
        """Whether images may have several labels, as the first one says."""
        if not self.labelled:
            return False
        dataset = self.source.dataset if self.is_loader else self.source
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not len(dataset):
            first = next(self.in_order(1, most=1), None)
            return first is not None and first.labels.ndim == 2
        with reproducible(0, 5, 0, 0):
            sample = dataset[0]
        where = f"image 0 of {self.what}"
        return to_label(read_fields(sample, True, where, "").label, where).ndim == 1

    def find_lacking(self) -> tuple[int, str]:
        """Number of images that are known to lack channels: none, since none has been read."""
        return 0, ""

    def batches(self, *, seed: int, epoch: int, batch_size: int, share: Share, first_step: int = 0) -> Iterator[Batch]:
        """One process's share of an epoch's batches; see ``Split.batches``.

        A ``DataLoader`` decides on the images of its batches, of which ``accumulate`` make a step. The global random
        generators that order and augmentation may use are seeded by seed, epoch and image (``DataLoader``: batch), and
        restored.
        """
        if self.is_map:
            steps = len(self.source) // batch_size
            order = epoch_order(seed, epoch, len(self.source))[: steps * batch_size].reshape(steps, batch_size)
            names = name_images(self.source)
            for rows in order[first_step:].tolist():
                found = self.read_rows(rows[share.index :: share.count], (seed, epoch))
                yield self.spread(found, [names[row] if names else str(row) for row in rows], share)
            return
        loader = self.source if self.is_loader else as_loader(self.source, batch_size, drop_last=True)
        number = self.accumulate if self.is_loader else 1
        read = self.read_loader(loader, (seed, epoch))
        for _ in islice(read, first_step * number):
            pass
        while group := list(islice(read, number)):
            yield self.spread(join(group, self.what), None, share)

    def spread(self, batch: Batch, places: Sequence[str] | None, share: Share) -> Batch:
        """A batch as training takes it: this process's images, and ``present`` and ``places`` of all processes'.

        ``places`` are those of the whole batch if ``batch`` holds this process's images of it alone.
        """
        if places is None and not self.is_shared:
            mine = torch.from_numpy(share.rows(len(batch.labels)))
            return batch._replace(images=batch.images[mine], labels=batch.labels[mine])
        if places is None:
            places = [f"{place} of process {index}" for place in batch.places for index in range(share.count)]
        if batch.present is None or share.count == 1:
            return batch._replace(places=places)
        return batch._replace(places=places, present=gather_rows(batch.present, len(places), share))

    def in_order(self, batch_size: int, share: Share | None = None, most: int | None = None) -> Iterator[Batch]:
        """One process's share of the images, with their own ``present`` and ``places``, the same at every call.

        ``most`` reads only so many, evenly spaced in a data set, else the first ones.
        """
        own = share or Share()
        found = self.read_all(batch_size, own, most)
        for batch in found if most is None else limit(found, most):
            if self.complete and batch.present is not None:
                whole = batch.present.all(axis=1)
                if not whole.all():
                    batch = take(batch, np.flatnonzero(whole))
            if len(batch.labels):
                yield batch

    def read_all(self, batch_size: int, share: Share, most: int | None) -> Iterator[Batch]:
        """See ``in_order``."""
        if batch_size < 1:
            raise ValueError(f"batch_size is a number of images, at least 1, got {batch_size}")
        if self.is_map:
            rows = np.arange(len(self.source))
            if most is not None and most < len(rows):
                rows = np.unique(np.linspace(0, len(rows) - 1, most).astype(int))
            rows = rows[share.rows(len(rows))]
            for start in range(0, len(rows), batch_size):
                yield self.read_rows(rows[start : start + batch_size].tolist(), (0, 0))
            return
        seen = 0
        loader = self.source if self.is_loader else as_loader(self.source, batch_size, drop_last=False)
        for batch in self.read_loader(loader, (0, 0)):
            mine = np.arange(len(batch.labels))
            if not self.is_shared:
                mine = mine[(mine + seen) % share.count == share.index]
            seen += len(batch.labels)
            yield batch if len(mine) == len(batch.labels) else take(batch, mine)

    def read_rows(self, rows: Sequence[int], seeds: tuple[int, int]) -> Batch:
        """The images at these numbers of a data set, each read with random generators seeded for it."""
        names = name_images(self.source)
        places = [names[row] if names else str(row) for row in rows]
        samples = []
        for row in rows:
            with reproducible(seeds[0], 5, seeds[1], row):
                samples.append(self.source[row])
        return self.close(self.collate(samples, places), places)

    def read_loader(self, loader: DataLoader[Any], seeds: tuple[int, int]) -> Iterator[Batch]:
        """A loader's batches, in the order that these seeds give, with each image's number as its place."""
        names = name_images(loader.dataset) if type(find_sampler(loader)) is SequentialSampler else None
        number = 0
        with own_generators_seeded(loader, seeds):
            with reproducible(seeds[0], 6, seeds[1]):
                batches = iter(loader)
            for step in range(2**62):
                with reproducible(seeds[0], 6, seeds[1], step), explained(self.what):
                    found = next(batches, None)
                if found is None:
                    break
                images = self.read_batch(found, number)
                count = len(images.image)
                here = range(number, number + count)
                places = [names[i] if names and i < len(names) else str(i) for i in here]
                number += count
                yield self.close(images, places)
        if not number:
            raise DataError(f"{self.what} are an empty {type(self.source).__name__}; give one with images")

    def collate(self, samples: Sequence[Any], places: Sequence[str]) -> Sample:
        """One batch (B, C, H, W) of single samples, which have to be of one size."""
        found = [
            read_fields(sample, self.labelled, f"image {at} of {self.what}", "")
            for sample, at in zip(samples, places, strict=True)
        ]
        images = [to_planes(each.image, f"image {at} of {self.what}") for each, at in zip(found, places, strict=True)]
        first = images[0].shape
        for image, at in zip(images, places, strict=True):
            self.check_planes(image.shape[0], f"image {at} of {self.what}", tuple(image.shape))
            if image.shape != first:
                raise DataError(
                    f"{self.what} differ in size: image {places[0]} is {first[1]} x {first[2]} pixels, image {at} "
                    f"{image.shape[1]} x {image.shape[2]}; resize or crop them in the data set's transform"
                )
        labels = [
            to_label(each.label, f"image {at} of {self.what}") if self.labelled else torch.tensor(0)
            for each, at in zip(found, places, strict=True)
        ]
        odd = next((at for label, at in zip(labels, places, strict=True) if label.shape != labels[0].shape), None)
        if odd is not None:
            raise SampleError(f"image {odd} of {self.what} has another number of labels than image {places[0]}")
        masked = [each.present is not None for each in found]
        if any(masked) and not all(masked):
            raise SampleError(
                f"image {places[masked.index(False)]} of {self.what} has no 'present', and others have; give it to all"
            )
        present = np.stack([as_array(each.present) for each in found]) if any(masked) else None
        return Sample(torch.stack(images), torch.stack(labels), present)

    def read_batch(self, batch: Any, number: int) -> Sample:
        """A loader's batch, with labels as a tensor."""
        what = f"a batch of {self.what}"
        listed = isinstance(batch, list | tuple) and batch and isinstance(batch[0], Mapping | list | tuple)
        if listed and not isinstance(batch[0], Tensor):  # collate_fn left the samples as they are
            return self.collate(batch, [str(number + i) for i in range(len(batch))])
        found = read_fields(batch, self.labelled, what, " in batches")
        images = found.image if isinstance(found.image, Tensor) else as_tensor(found.image, what)
        if images.ndim != 4:
            raise SampleError(
                f"{what} has images of shape {tuple(images.shape)}; expected (batch, {len(self.planes)}, height, width)"
            )
        self.check_planes(images.shape[1], what, tuple(images.shape))
        labels = torch.zeros(len(images), dtype=torch.int64)
        if self.labelled:
            labels = to_labels(found.label, len(images), what)
        return Sample(images, labels, None if found.present is None else as_array(found.present))

    def check_planes(self, count: int, place: str, shape: tuple[int, ...]) -> None:
        """Refuse images with another number of planes than the channels named."""
        if count == len(self.planes):
            return
        fix = "name each plane, in order, with channels="
        if shape[-1] == len(self.planes):
            fix = "put the channels before height and width, as image.permute(2, 0, 1) or torchvision's ToTensor does"
        raise ChannelError(
            f"{place} has the shape {shape}, so {count} planes, but {len(self.planes)} channels are named "
            f"({', '.join(self.planes.names)}); {fix}"
        )

    def close(self, found: Sample, places: Sequence[str]) -> Batch:
        """A checked batch of the chosen channels, on the CPU."""
        labels, present = found.label.cpu(), found.present
        if self.num_classes is not None and labels.ndim == 2 and labels.shape[1] != self.num_classes:
            raise DataError(f"{self.what} have {labels.shape[1]} labels each, but the model has {self.num_classes}")
        if self.num_classes is not None and self.labelled and labels.ndim == 1:
            wrong = torch.nonzero((labels < 0) | (labels >= self.num_classes)).flatten().tolist()
            if wrong:
                raise DataError(
                    f"image {places[wrong[0]]} of {self.what} has label {int(labels[wrong[0]])}, but the model has "
                    f"{self.num_classes} classes, whose labels are 0 to {self.num_classes - 1}"
                )
        if present is not None:
            present = check_present(present, (len(labels), len(self.planes)), places, self.what)
        images = to_numbers(found.image.cpu(), self.what)
        if self.chosen is not None:
            chosen = list(self.chosen)
            images = images[:, chosen]
            present = None if present is None else present[:, chosen]
        return Batch(images, labels, present, places)


def limit(batches: Iterable[Batch], most: int) -> Iterator[Batch]:
    """Batches until they hold ``most`` images."""
    left = most
    for batch in batches:
        yield batch if len(batch.labels) <= left else take(batch, np.arange(left))
        left -= len(batch.labels)
        if left <= 0:
            return


def take(batch: Batch, rows: np.ndarray) -> Batch:
    """Some images of a batch, with their own ``present`` and ``places``."""
    index = torch.from_numpy(rows)
    present = None if batch.present is None else batch.present[rows]
    return Batch(batch.images[index], batch.labels[index], present, [batch.places[row] for row in rows.tolist()])


def join(group: Sequence[Batch], what: str) -> Batch:
    """Consecutive batches as one."""
    if len(group) == 1:
        return group[0]
    sizes = [tuple(batch.images.shape[2:]) for batch in group]
    if len(set(sizes)) > 1:
        raise DataError(
            f"batches of {what} differ in size ({sizes[0]} and {next(s for s in sizes if s != sizes[0])} pixels) and "
            "make one step; leave accumulate out, or resize them alike"
        )
    masks = [batch.present for batch in group if batch.present is not None]
    return Batch(
        torch.cat([batch.images for batch in group]),
        torch.cat([batch.labels for batch in group]),
        np.concatenate(masks) if masks else None,
        [place for batch in group for place in batch.places],
    )
