"""Labelled images that a PyTorch ``Dataset`` or ``DataLoader`` gives, checked and read batch by batch.

A ``DataLoader`` keeps its batch size, sampler, workers and ``collate_fn``. A data set is read by this process, in
batches of the caller's size; pass a ``DataLoader`` to read it with workers. Nothing is held but the current batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
)
from torch.utils.data import Subset as SubsetOfImages

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.data.batches.split import Batch, Split, epoch_order
from anychannel.data.errors import DataError
from anychannel.utils.processes import Share, gather_rows
from anychannel.utils.seeds import mix, reproducible

IMAGE_KEYS = ("image", "img", "pixel_values")
LABEL_KEYS = ("label", "labels")
PRESENT = "present"
"""Keys of a sample that is a dictionary: the first of each that it has."""
MODES = ("L", "RGB", "RGBA", "I;16", "I", "F")
"""Pillow's modes whose values are those of channels."""
USUAL_BATCH = 32
"""Images that a batch is taken to have if only the data set, which makes it, knows."""
UNEQUAL = ("stack expects each tensor to be equal size", "Trying to resize storage that is not resizable")
"""What PyTorch says, in this process and in a worker, if images of a batch differ in size."""
FORMS = (
    "(image, label), or a dictionary with 'image', 'label' and, if images lack channels, 'present' (a boolean for each "
    "channel)"
)


class SampleError(DataError, TypeError):
    """A sample of a data set that has another form or type than expected; the message names it and the fix."""


@dataclass(frozen=True)
class Sample:
    """Images and labels as they came, of one sample or of a batch; None for what there is not."""

    image: Any
    label: Any = None
    present: Any = None


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
            to_label(each.label, f"image {at} of {self.what}") if self.labelled else 0
            for each, at in zip(found, places, strict=True)
        ]
        masked = [each.present is not None for each in found]
        if any(masked) and not all(masked):
            raise SampleError(
                f"image {places[masked.index(False)]} of {self.what} has no 'present', and others have; give it to all"
            )
        present = np.stack([as_array(each.present) for each in found]) if any(masked) else None
        return Sample(torch.stack(images), torch.tensor(labels, dtype=torch.int64), present)

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
        if self.num_classes is not None and self.labelled:
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


def as_loader(dataset: Any, batch_size: int, *, drop_last: bool) -> DataLoader[Any]:
    """A loader of an iterable data set that leaves samples as they are."""
    dataset = dataset if isinstance(dataset, IterableDataset) else Iterated(dataset)
    return DataLoader(dataset, max(batch_size, 1), drop_last=drop_last, collate_fn=list)


class Iterated(IterableDataset[Any]):
    """A data set that can be iterated, but inherits nothing of PyTorch's, as one that Hugging Face streams."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        return iter(self.source)

    def set_epoch(self, epoch: int) -> None:
        """Tell the data set, which may shuffle anew."""
        if tell := getattr(self.source, "set_epoch", None):
            tell(epoch)


def find_sampler(loader: DataLoader[Any]) -> Any:
    """What decides on the order of a loader's images: its sampler, or that of the batch sampler it was given."""
    if loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler:
        return getattr(loader.batch_sampler, "sampler", loader.sampler)
    return loader.batch_sampler


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


def read_fields(sample: Any, labelled: bool, where: str, form: str) -> Sample:
    """Image, label and mask of a sample. Raises SampleError if it has another form."""
    if isinstance(sample, Mapping):
        keys = [next((key for key in known if key in sample), None) for known in (IMAGE_KEYS, LABEL_KEYS)]
        if keys[0] is None or (labelled and keys[1] is None):
            lacks = "image" if keys[0] is None else "label"
            raise SampleError(
                f"{where} is a dictionary with {', '.join(map(repr, sample)) or 'nothing'}, without {lacks!r}; give "
                f"{FORMS}{form}"
            )
        return Sample(sample[keys[0]], None if keys[1] is None else sample[keys[1]], sample.get(PRESENT))
    if isinstance(sample, list | tuple) and len(sample) == 2:
        return Sample(*sample)
    if not labelled:
        single = sample[0] if isinstance(sample, list | tuple) and len(sample) == 1 else sample
        if isinstance(single, Tensor | np.ndarray | Image.Image):
            return Sample(single)
    described = type(sample).__name__
    if isinstance(sample, list | tuple):
        described += f" of {len(sample)}: {', '.join(type(each).__name__ for each in sample[:4])}"
    raise SampleError(f"{where} is a {described}; give {FORMS}{form}")


def to_planes(image: Any, where: str) -> Tensor:
    """A single image as (C, H, W), in its own units."""
    if isinstance(image, Image.Image):
        if image.mode not in MODES:
            raise SampleError(
                f"{where} is a Pillow image of mode {image.mode!r}, whose values are not those of channels; convert it "
                "in the data set's transform, as image.convert('RGB')"
            )
        array = np.array(image)
        return as_tensor(array if array.ndim == 2 else array.transpose(2, 0, 1), where).reshape(-1, *array.shape[:2])
    planes = image if isinstance(image, Tensor) else as_tensor(image, where)
    if planes.ndim == 2:
        planes = planes[None]
    if planes.ndim != 3:
        raise SampleError(f"{where} has the shape {tuple(planes.shape)}; expected (channels, height, width)")
    return planes.as_subclass(Tensor)


def as_array(values: Any) -> np.ndarray:
    """Values of a tensor, an array or a list as an array."""
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_tensor(values: Any, where: str) -> Tensor:
    """An array or nested lists of numbers as a tensor."""
    try:
        array = np.asarray(values)
        array = np.require(array, np.float32 if array.dtype == np.uint16 else None, ["C", "W"])
        return torch.from_numpy(array)
    except (TypeError, ValueError):
        raise SampleError(
            f"{where} has a {type(values).__name__} for an image; give a tensor or array (channels, height, width), or "
            "a Pillow image"
        ) from None


def to_numbers(images: Tensor, what: str) -> Tensor:
    """Images of a type that networks and augmentation take: uint8 as it is, any other number as float32."""
    images = images.as_subclass(Tensor)
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool or images.is_complex():
        raise SampleError(f"{what} hold {str(images.dtype).removeprefix('torch.')} values; give integers or floats")
    return images.to(torch.float32)


def to_label(label: Any, where: str) -> int:
    """A single label as a number."""
    return int(to_labels(np.atleast_1d(as_array(label)) if label is not None else None, 1, where))


def to_labels(labels: Any, count: int, where: str) -> Tensor:
    """Labels (B,) as int64. Raises SampleError if they are not one whole number for each image."""
    found = None if labels is None else np.asarray(as_array(labels))
    fix = "give each image the number of its class, from 0"
    if found is None or found.dtype.kind not in "iu":
        kind = "no label" if labels is None else f"a label of type {found.dtype.name}"  # type: ignore[union-attr]
        raise SampleError(f"{where} has {kind}, which is no whole number; {fix}")
    if found.size != count or found.shape[:1] != (count,):
        raise SampleError(f"{where} has labels of shape {found.shape}, for {count} image{'s' * (count > 1)}; {fix}")
    return torch.from_numpy(found.reshape(-1).astype(np.int64))


def check_present(present: np.ndarray, shape: tuple[int, int], places: Sequence[str], what: str) -> np.ndarray:
    """Masks (B, C) as booleans, of images that each have a channel."""
    if present.shape != shape or not np.isin(present, (0, 1)).all():
        raise SampleError(
            f"'present' says for each of {shape[1]} channels whether {what} have it, as booleans; got "
            f"{present.dtype.name} of shape {present.shape[1:]} for each image"
        )
    found = present.astype(bool)
    empty = np.flatnonzero(~found.any(axis=1)).tolist()
    if empty:
        raise DataError(f"image {places[empty[0]]} of {what} has no channel; leave it out")
    return found


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Say what to do if PyTorch cannot stack images of different sizes, or a data set has no image at all."""
    try:
        yield
    except RuntimeError as error:
        if not any(text in str(error) for text in UNEQUAL):
            raise
        reason = str(error).strip().splitlines()[-1].removeprefix("RuntimeError: ")
        raise DataError(
            f"{what} differ in size within a batch ({reason}); resize or crop them in the data set's transform"
        ) from None


@contextmanager
def own_generators_seeded(loader: DataLoader[Any], seeds: tuple[int, int]) -> Iterator[None]:
    """Start the generators that a loader's user gave it from their own seed and these, and restore them.

    Samplers that follow the epoch (``set_epoch``) are told it.
    """
    samplers = (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
    for part in {id(each): each for each in (loader, *samplers, loader.dataset)}.values():
        if tell := getattr(part, "set_epoch", None):
            tell(seeds[1])
    held = (getattr(part, "generator", None) for part in (loader, *samplers))
    generators = list({id(each): each for each in held if isinstance(each, torch.Generator)}.values())
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(mix(generator.initial_seed() % 2**63, *seeds))
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def name_images(dataset: Any) -> Sequence[str] | None:
    """Where the images of a data set come from, for torchvision's folders and parts of them; None if it is unknown."""
    if isinstance(dataset, SubsetOfImages):
        names = name_images(dataset.dataset)
        return None if names is None else Names(names, dataset.indices)
    if isinstance(dataset, Split):
        return dataset.paths
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list) or not samples or not hasattr(dataset, "root"):
        return None
    first = samples[0]
    return Paths(samples, str(dataset.root)) if isinstance(first, tuple) and isinstance(first[0], str) else None


class Names(Sequence[str]):
    """Some of the names, by their positions."""

    def __init__(self, names: Sequence[str], positions: Sequence[int]) -> None:
        self.names = names
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: Any) -> Any:
        return self.names[self.positions[position]]


class Paths(Sequence[str]):
    """Paths of ``ImageFolder.samples``, relative to its root."""

    def __init__(self, samples: Sequence[tuple[str, int]], root: str) -> None:
        self.samples = samples
        self.root = root

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Any) -> Any:
        path = Path(self.samples[position][0])
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


def find_classes(source: Any) -> tuple[str, ...] | None:
    """Names of the classes in the labels' order, as a data set or the one that it wraps knows them; None if unknown."""
    if isinstance(source, DataLoader | SubsetOfImages):
        return find_classes(source.dataset)
    if isinstance(source, ConcatDataset):
        found = {find_classes(part) for part in source.datasets}
        return found.pop() if len(found) == 1 else None
    features = getattr(source, "features", None)
    names = getattr(source, "classes", None)
    if isinstance(features, Mapping):
        names = next((getattr(features[key], "names", None) for key in LABEL_KEYS if key in features), names)
    known = isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if known and names else None


def find_channels(source: Any) -> ChannelSet | None:
    """The channels of a split that a loader reads, or a part of one; None for another's data set."""
    if isinstance(source, DataLoader | SubsetOfImages):
        return find_channels(source.dataset)
    return source.channels if isinstance(source, Split) else None


def is_torch_data(data: Any) -> bool:
    """Whether this gives samples or batches as PyTorch's classes do; Hugging Face's data sets need not inherit them."""
    if isinstance(data, Dataset | DataLoader):
        return True
    plain = isinstance(data, str | bytes | Mapping | Tensor | np.ndarray | Path)
    by_number = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return not plain and (by_number or (hasattr(data, "__iter__") and hasattr(data, "with_format")))
