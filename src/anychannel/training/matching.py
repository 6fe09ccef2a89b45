"""Give a network images of its own channels, in its order, and of its own classes: matched by name if names are known.

Splits of loaded data know their channels and classes. A ``Split`` made of bare arrays does not: its images have to hold
the network's channels in its order. So do those of a PyTorch ``Dataset`` or ``DataLoader`` if no names are given.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from anychannel.channels import ChannelError, ChannelSet, as_channel_set
from anychannel.data import ImageDataset, Split, Stream, TorchImages
from anychannel.data.batches.torch_sources import find_channels, find_classes, is_torch_data
from anychannel.data.prepare.measure import measure_images
from anychannel.nn.classifier import Classifier
from anychannel.nn.temperatures import temperatures_of
from anychannel.utils.processes import on_main, share
from anychannel.utils.several_labels import UNDECIDED

MOST_MEASURED = 4096
"""Images on which statistics rest that ``fit`` measures itself."""

AnyImages = Split | Stream | TorchImages
Images = TypeVar("Images", Split, Stream, TorchImages, Split | TorchImages, Split | Stream | TorchImages)
Names = ChannelSet | str | Sequence[str] | None


class WrongTypeError(TypeError, ValueError):
    """A model or images of a type that cannot be used; the message says what to give."""


def check_model(model: Any) -> None:
    """Refuse what is no channel-adaptive network, by what is needed of one: a module with ``channels``.

    Raises:
        TypeError: it is something else; the message says how to make one.
    """
    if isinstance(model, nn.Module) and isinstance(getattr(model, "channels", None), ChannelSet):
        return
    kind = type(model).__name__
    fix = "create one with create_model, load one with load_model"
    if isinstance(model, nn.Module):
        fix = "this module knows no channels by name; give adapt(model, channels=...) of it, which keeps its weights"
    raise WrongTypeError(f"the model is a channel-adaptive network, an nn.Module with channels, got {kind}; {fix}")


def count_classes(model: Any) -> int | None:
    """Number of a model's classes; None if it does not say."""
    found = getattr(getattr(model, "spec", None), "num_classes", None) or getattr(model, "num_classes", None)
    return found if isinstance(found, int) else len(model.classes) if getattr(model, "classes", None) else None


def thresholds_of(model: Any) -> tuple[float, ...] | None:
    """The thresholds of a model that may give an image several labels; None of one that gives one class."""
    found: tuple[float, ...] | None = getattr(getattr(model, "spec", None), "thresholds", None)
    return found


def has_several(images: AnyImages) -> bool:
    """Whether images may have several labels. PyTorch's data are asked for one; see ``TorchImages.has_several``."""
    if isinstance(images, TorchImages):
        return images.has_several()
    return images.has_several


def expect_several(model: Classifier, train: AnyImages, val: AnyImages) -> bool:
    """Whether images may have several labels; the model then gets thresholds of 0.5 for the start.

    Raises ValueError if training and validation images differ, or the images have one class and the model gives several
    labels, or the other way round.
    """
    several = has_several(val)
    if has_several(train) != several:
        raise ValueError("training images may have several labels and validation images not, or the other way round")
    if not several or temperatures_of(model) is not None:  # only then the model is known to be trained for one kind
        check_kind(model, several, "the images")
    if several:
        count = count_classes(model)
        if count is None:
            raise ValueError("images may have several labels, and the model does not say how many it gives")
        model.spec = replace(model.spec, thresholds=(UNDECIDED,) * count)
    return several


def check_kind(model: Any, several: bool, what: str) -> None:
    """Refuse images of one class each for a model that gives several labels, and the other way round.

    A module without ``spec`` is not checked.
    """
    if thresholds_of(model) is not None and not several:
        raise ValueError(f"{what} have one class each, but the model gives several labels an image")
    if several and thresholds_of(model) is None and getattr(model, "spec", None) is not None:
        raise ValueError(
            f"{what} may have several labels, but the model gives one class an image; train one on such images, or, "
            "after training in a loop of your own, call choose_thresholds(model, validation images)"
        )


def open_images(data: Any, model: Any, what: str, channels: Names = None, *, labelled: bool = True) -> AnyImages:
    """Images to train or to evaluate a model on; ``what`` names them in messages.

    Args:
        data: a split or a stream, or a PyTorch ``Dataset`` or ``DataLoader``, or what works like a data set.
        channels: names of the images' planes in their order; None means the split's own, else the model's.
        labelled: whether samples of PyTorch's data need a label.

    Raises:
        TypeError: ``data`` is none of these, or has splits to choose from.
        ChannelError: a name cannot be used, or the split has names.
        ValueError: the data set is empty.
    """
    if isinstance(data, Split | Stream):
        if channels is None:
            return data
        if data.channels is not None:
            raise ChannelError(f"{what} know their channels ({', '.join(data.channels.names)}); leave channels out")
        return replace(data, channels=check_count(data, as_channel_set(channels), what))
    if isinstance(data, ImageDataset):
        raise WrongTypeError(
            f"{what} are one split of a data set, got all of it; give data.train, data.val or data.test"
        )
    if not is_torch_data(data):
        more = f"; choose one of its splits, {', '.join(map(repr, data))}" if isinstance(data, dict) and data else ""
        raise WrongTypeError(
            f"{what} are a split (data.train), or a torch Dataset or DataLoader of (image, label) or of dictionaries "
            f"with image and label, got {type(data).__name__}{more}"
        )
    planes = as_channel_set(channels if channels is not None else find_channels(data) or model.channels)
    found = TorchImages(data, planes, find_classes(data), what, num_classes=count_classes(model), labelled=labelled)
    if found.size == 0:
        raise ValueError(f"{what} are an empty {type(data).__name__}; give one with images")
    return found


def check_count(split: Split | Stream, channels: ChannelSet, what: str) -> ChannelSet:
    """Refuse names for another number of planes than the images have."""
    count = split.images.shape[1] if isinstance(split, Split) else split.shape[0]
    if count != len(channels):
        listed = ", ".join(channels.names)
        raise ChannelError(f"{what} have {count} planes, but channels names {len(channels)}: {listed}")
    return channels


def match_images(model: Classifier, images: Images, what: str) -> Images:
    """The same images with exactly the model's channels, in its order; ``what`` names them in messages.

    Raises:
        ChannelError: channels are missing or the model does not know them.
        ValueError: the classes are not the model's.
    """
    check_classes(model, images, what)
    known, held = model.channels.names, images.channels
    if held is None:
        check_planes(model, images, what)
        return images
    missing = ", ".join(name for name in known if name not in held.names)
    foreign = ", ".join(name for name in held.names if name not in known)
    if missing or foreign:
        lacks = f"; {what} lack {missing}" * bool(missing) + f"; the model does not know {foreign}" * bool(foreign)
        fix = f"train on data.select({','.join(known)!r}), or create" if not missing else "create"
        raise ChannelError(
            f"{what} have the channels {', '.join(held.names)}, and the model has {', '.join(known)}{lacks}; {fix} a "
            "model with channels=data.channels (adapt makes one from a trained one)"
        )
    return images if held.names == known else images.arrange(held.positions(known))


def take_statistics(model: Classifier, train: AnyImages) -> None:
    """Give a model that was created from names alone the statistics of its training images, and say so.

    They are those of the data set or, of bare arrays and of PyTorch's data, of up to ``MOST_MEASURED`` images.
    """
    if model.channels.measured or model.channels.correlation is not None or model.spec.normalisation is not None:
        return
    found = train.channels
    if found is None or not found.measured:
        if isinstance(train, Stream):
            raise ValueError("the channels' statistics are unknown; create the model with channels=data.channels")
        found = on_main(lambda: measure_images(train, model.channels, most=MOST_MEASURED))
    model.measure(found)
    if share().is_main:
        figures = zip(found.names, found.mean, found.std, strict=True)
        warnings.warn(
            "the model was created without statistics of its channels, so that fit took mean, standard deviation and "
            f"correlations from the training images ({', '.join(f'{n}: {m:.4g} +- {s:.4g}' for n, m, s in figures)}); "
            "create it with channels=data.channels to have them from the start",
            stacklevel=3,
        )


def check_planes(model: Classifier, images: AnyImages, what: str) -> None:
    """Refuse images without names that have another number of channels than the model."""
    if isinstance(images, TorchImages):  # each batch is checked as it is read
        return
    shape = images.images.shape if isinstance(images, Split) else (len(images), *images.shape)
    if len(shape) != 4 or shape[1] != len(model.channels):
        raise ChannelError(
            f"the shape of {what} is {shape}, but the model has {len(model.channels)} channels "
            f"({', '.join(model.channels.names)}); expected (images, {len(model.channels)}, height, width)"
        )


def check_classes(model: Any, images: AnyImages, what: str) -> None:
    """Refuse images of other classes than the model's, by their names, else by the labels."""
    count, own, theirs = count_classes(model), model.classes, images.classes
    if count is None:
        return
    if theirs is not None and (len(theirs) != count or own not in (None, theirs)):
        described = f"{count} unnamed ones" if own is None else describe(own)
        raise ValueError(
            f"{what} have other classes than the model: {describe(theirs)}; the model has {described}; give images "
            "of these classes, or create the model with num_classes=len(data.classes), classes=data.classes"
        )
    if isinstance(images, Split) and images.has_several:
        if images.labels.shape[1] != count:
            raise ValueError(f"{what} have {images.labels.shape[1]} labels, but the model has {count}")
    elif isinstance(images, Split) and len(images):
        low, high = int(images.labels.min()), int(images.labels.max())
        if low < 0 or high >= count:
            place = images.paths[int(images.labels.argmin() if low < 0 else images.labels.argmax())]
            raise ValueError(
                f"{what} have labels from {low} to {high} (that of {place}, say), but the model has {count} classes, "
                f"whose labels are 0 to {count - 1}"
            )


def describe(classes: Sequence[str]) -> str:
    """A few of the classes' names and their number."""
    return f"{', '.join(classes[:4])}{', ...' if len(classes) > 4 else ''} ({len(classes)})"
