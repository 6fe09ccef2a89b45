"""Statistics of the channels over images of any source, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, as_channel_set
from anychannel.data.batches.split import Split
from anychannel.data.batches.torch_images import TorchImages
from anychannel.data.batches.torch_sources import is_torch_data
from anychannel.data.errors import DataError
from anychannel.data.prepare.statistics import RunningMoments, with_statistics
from anychannel.utils.progress import progress_bar

BATCH = 64
"""Images that are read at a time, unless a ``DataLoader`` decides."""


def measure_channels(
    data: Any, channels: ChannelSet | str | Sequence[str], *, most: int | None = None, progress: bool = False
) -> ChannelSet:
    """Measure mean, standard deviation and correlations of the channels over images, in one pass.

    Give the result to ``create_model`` or ``adapt`` as ``channels``. Images count as they come, in their own units:
    give the data set the transforms that it has in training. One batch is in memory at a time.

    Args:
        data: a PyTorch ``Dataset`` or ``DataLoader`` of (image, label), of dictionaries with ``image``, or of images;
            or a split. Images are tensors or arrays (C, H, W), or Pillow images; their sizes may differ. Channels that
            an image lacks (``present`` in its dictionary) do not count.
        channels: names of the images' planes in their order, or a sensor (see ``as_channel_set``).
        most: read only so many images: evenly spaced ones of a data set, the first ones of a ``DataLoader``. None reads
            all.
        progress: show a bar with the time left on standard error.

    Returns:
        The channels with the statistics, in the images' units.

    Raises:
        TypeError: ``data`` is none of these, or a sample has another form.
        ChannelError: the images have another number of planes, or a name cannot be used.
        ValueError: there is no image, or a value is not finite; the message names the image.

    Warns:
        UserWarning: a channel has the same value in all pixels, or two channels are never in one image together.
    """
    planes = as_channel_set(channels)
    if isinstance(data, Split):
        if data.images.shape[1] != len(planes):
            raise ChannelError(f"the images have {data.images.shape[1]} planes, but {len(planes)} channels are named")
        return measure_images(data, planes, most=most, progress=progress)
    if not is_torch_data(data):
        raise TypeError(f"data are a torch Dataset or DataLoader, or a split of a data set, got {type(data).__name__}")
    if most is not None and most < 1:
        raise ValueError(f"most is a number of images, at least 1, got {most}")
    return measure_images(TorchImages(data, planes, labelled=False), planes, most=most, progress=progress)


def measure_images(
    images: Split | TorchImages, channels: ChannelSet, *, most: int | None = None, progress: bool = False
) -> ChannelSet:
    """The channels with the statistics of up to ``most`` images; raises as ``measure_channels``."""
    moments: RunningMoments | None = None
    shape: tuple[int, ...] = ()
    alone = isinstance(images, TorchImages) and not images.is_loader  # so that their sizes may differ
    total = images.size if isinstance(images, TorchImages) else len(images)
    with progress_bar("measure", min(total or 0, most or 2**62), show=progress) as advance:
        for batch in images.in_order(1 if alone else BATCH, most=most):
            for planes, has, place in zip(batch.images.numpy(), batch.held(), batch.places, strict=True):
                bad = [
                    name
                    for name, plane, good in zip(channels.names, planes, has, strict=True)
                    if good and not np.isfinite(plane).all()
                ]
                if bad:
                    raise DataError(
                        f"image {place} has values in {', '.join(bad)} that are not finite (NaN or infinity); replace "
                        "them, or leave the image out"
                    )
                if moments is None:
                    moments = RunningMoments(planes.shape)
                elif planes.shape != shape:
                    moments.close_block()
                shape = planes.shape
                moments.add(planes, has[:, None, None])
            advance(len(batch.labels))
    if moments is None:
        raise DataError("there is no image to measure the channels on")
    return with_statistics(channels, moments.statistics())
