"""What a PyTorch data set or loader says about its images: order, names, classes, channels; and loaders that repeat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Dataset, IterableDataset
from torch.utils.data import Subset as SubsetOfImages

from anychannel.channels import ChannelSet
from anychannel.data.batches.samples import LABEL_KEYS
from anychannel.data.batches.split import Split
from anychannel.data.errors import DataError
from anychannel.utils.seeds import mix

UNEQUAL = ("stack expects each tensor to be equal size", "Trying to resize storage that is not resizable")
"""What PyTorch says, in this process and in a worker, if images of a batch differ in size."""


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
