"""Recompute the batch norm statistics of one subset from images of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anychannel.data import Split, TorchImages
from anychannel.nn import bn_statistics
from anychannel.nn.classifier import Classifier
from anychannel.training.matching import Names, check_model, open_images

MOST_IMAGES = 2048
"""Images of a PyTorch data set that are read, and held, at most."""

Model = TypeVar("Model", bound=Classifier)


def calibrate(
    model: Model, images: Any, channels: str | Sequence[str], *, batch_size: int = 256, image_channels: Names = None
) -> Model:
    """Recompute the batch norm statistics of one subset from unlabelled images, in place; other subsets keep theirs.

    Use it for subsets that training left out. A network that was trained on the subset with one batch norm for all
    subsets (``shared``) has learned with the statistics of the mixture and loses accuracy with others: 14 points on
    single channels of eight bands (docs/LOG.md). If calibration fails, the model stays as it was.

    Args:
        model: a trained classifier; its norm is ``shared``, or one with statistics for each subset.
        images: unlabelled images, as one tensor or array (N, k, H, W), as batches, or as a data set's split, whose
            channels are matched by name. Tensors hold just ``channels``, in that order, or all of the model's channels
            in its order, (N, C, H, W), which is better: statistics change only by how the subset differs from all
            channels, and a fifth of the images checks that its answers come nearer to those to all channels. A few
            hundred are enough. One tensor is shuffled. Batches should be random mixtures, since each is normalised by
            its own statistics; the averages of these, weighted by images, are kept. Or a PyTorch ``Dataset``, of which
            up to 2048 evenly spaced images are shuffled, or a ``DataLoader``, of which the first 2048 are used, in its
            own batches. Their labels are not read, and images that lack one of the channels are left out.
        channels: names of the subset's channels.
        batch_size: images in a forward pass, if no batches are given.
        image_channels: names of the planes of a ``Dataset`` or ``DataLoader`` in their order, or a sensor; None means
            the model's channels in its order.

    Returns:
        The same model.

    Raises:
        ChannelError: a name is unknown, or the images hold another number of channels.
        TypeError: the images are neither a tensor nor batches nor a data set, or a sample has another form.
        ValueError: there are no images, a batch has one image or values that are not finite, or the network has no
            batch norm or whole batch norms for subsets.

    Warns:
        UserWarning: the check failed, so that the subset keeps its former statistics.
    """
    check_model(model)
    if gives_samples(images):
        found = open_images(images, model, "the images", image_channels, labelled=False)
        assert isinstance(found, TorchImages)
        images = read_images(found, model, channels, batch_size)
    elif image_channels is not None:
        raise TypeError("image_channels names the planes of a Dataset or DataLoader; leave it out")
    return bn_statistics.calibrate(model, images, channels, batch_size=batch_size)


def gives_samples(images: Any) -> bool:
    """Whether these are a PyTorch ``Dataset`` or ``DataLoader`` or a Hugging Face data set; a list is batches."""
    loads = isinstance(images, Dataset | DataLoader) and not isinstance(images, Split)
    return loads or (hasattr(images, "with_format") and hasattr(images, "features"))


def read_images(found: TorchImages, model: Classifier, channels: str | Sequence[str], batch_size: int) -> Any:
    """A data set's images as one tensor, a loader's as its batches: of all the model's channels if they have them."""
    whole = set(model.channels.names) <= set(found.channels.names)
    wanted = found.channels.positions(model.channels.names if whole else channels)
    batches = (batch.images for batch in found.select(wanted).in_order(batch_size, most=MOST_IMAGES))
    if found.is_map:
        pieces = list(batches)
        return torch.cat(pieces) if pieces else []
    return list(without_single(batches))


def without_single(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Batches without a last one of a single image, which has no variance, if others were read."""
    for number, batch in enumerate(batches):
        if len(batch) > 1 or not number:
            yield batch
