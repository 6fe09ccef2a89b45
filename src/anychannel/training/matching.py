"""Give a network images of its own channels, in its order, and of its own classes: matched by name if names are known.

Splits of loaded data know their channels and classes. A ``Split`` made of bare arrays does not: its images have to hold
the network's channels in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from anychannel.channels import ChannelError
from anychannel.data import Split, Stream
from anychannel.nn.classifier import Classifier

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
    missing = [name for name in known if name not in held.names]
    foreign = [name for name in held.names if name not in known]
    if missing or foreign:
        lacks = f"; {what} lack {', '.join(missing)}" if missing else ""
        extra = f"; the model does not know {', '.join(foreign)}" if foreign else ""
        fix = (
            "create it with channels=data.channels, or give a trained one more channels with with_channels or adapt"
            if foreign
            else "create a model of their channels, or a trained one of fewer channels with adapt"
        )
        if foreign and not missing:
            fix = f"train on data.select({','.join(known)!r}), or {fix}"
        raise ChannelError(
            f"{what} have the channels {', '.join(held.names)}, and the model has {', '.join(known)}{lacks}{extra}; "
            f"{fix}"
        )
    return images if held.names == known else images.arrange(held.positions(known))


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
