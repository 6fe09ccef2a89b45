"""Give a network images of its own channels, in its order, and of its own classes: matched by name if names are known.

Splits of loaded data know their channels and classes. A ``Split`` made of bare arrays does not: its images have to hold
the network's channels in its order.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import Split, Stream
from anychannel.data.prepare.statistics import RunningMoments, with_statistics
from anychannel.nn.classifier import Classifier
from anychannel.utils.processes import on_main, share

MOST_MEASURED = 4096
"""Images of a split of bare arrays on which statistics rest."""

Images = TypeVar("Images", Split, Stream, Split | Stream)


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


def take_statistics(model: Classifier, train: Split | Stream) -> None:
    """Give a model that was created from names alone the statistics of its training images, and say so.

    They are those of the data set or, of bare arrays, of up to ``MOST_MEASURED`` evenly spaced images.
    """
    if model.channels.measured or model.channels.correlation is not None or model.spec.normalisation is not None:
        return
    found = train.channels
    if found is None or not found.measured:
        if not isinstance(train, Split):
            raise ValueError("the channels' statistics are unknown; create the model with channels=data.channels")
        found = on_main(lambda: measure_split(train, model.channels))
    model.measure(found)
    if share().is_main:
        figures = zip(found.names, found.mean, found.std, strict=True)
        warnings.warn(
            "the model was created without statistics of its channels, so that fit took mean, standard deviation and "
            f"correlations from the training images ({', '.join(f'{n}: {m:.4g} +- {s:.4g}' for n, m, s in figures)}); "
            "create it with channels=data.channels to have them from the start",
            stacklevel=3,
        )


def measure_split(split: Split, channels: ChannelSet) -> ChannelSet:
    """The channels with the statistics of a split's images."""
    moments = RunningMoments(split.images.shape[1:])
    for row in np.unique(np.linspace(0, len(split) - 1, min(len(split), MOST_MEASURED)).astype(int)).tolist():
        held = np.ones(len(channels), bool) if split.present is None else np.asarray(split.present[row], bool)
        moments.add(np.asarray(split.images[row]), held[:, None, None])
    return with_statistics(channels, moments.statistics())


def check_planes(model: Classifier, images: Split | Stream, what: str) -> None:
    """Refuse images without names that have another number of channels than the model."""
    shape = images.images.shape if isinstance(images, Split) else (len(images), *images.shape)
    if len(shape) != 4 or shape[1] != len(model.channels):
        raise ChannelError(
            f"the shape of {what} is {shape}, but the model has {len(model.channels)} channels "
            f"({', '.join(model.channels.names)}); expected (images, {len(model.channels)}, height, width)"
        )


def check_classes(model: Classifier, images: Split | Stream, what: str) -> None:
    """Refuse images of other classes than the model's, by their names, else by the labels."""
    count, own, theirs = model.spec.num_classes, model.classes, images.classes
    if theirs is not None and (len(theirs) != count or own not in (None, theirs)):
        described = f"{count} unnamed ones" if own is None else describe(own)
        raise ValueError(
            f"{what} have other classes than the model: {describe(theirs)}; the model has {described}; create the "
            "model with num_classes=len(data.classes), classes=data.classes"
        )
    if isinstance(images, Split) and len(images):
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
