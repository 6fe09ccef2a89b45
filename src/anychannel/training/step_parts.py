"""The images and channels of a training step, in parts of one subset each.

A sampler cuts the whole batch into parts, whatever channels images lack and however many processes there are. Here its
parts become the rows that one process passes through the network: an image keeps the channels of its part that it has
or, if it has none of them, all that it has. Rows with the same channels are adjacent, so that the stem is one
convolution for each subset. The plane of a channel that an image lacks is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anychannel.channels import ChannelSet, Subset
from anychannel.data import Split, Stream
from anychannel.nn.channel_sampling import Part, Sampler, create_sampler
from anychannel.nn.classifier import Classifier
from anychannel.nn.row_sampling import Groups, as_parts, group_by_channels, take_share
from anychannel.nn.stems import MaskedStem
from anychannel.training.settings import TrainingSettings
from anychannel.utils.processes import Share


@dataclass(frozen=True)
class StepParts:
    """One process's rows of a step.

    Args:
        parts: subsets for consecutive rows. Every process has the same subsets in the same order; parts may be empty.
        images: (rows,) each row's image in the process's batch; an image may occur several times.
        complete: (rows,) booleans, whether the row's image has every channel.
    """

    parts: list[Part]
    images: Tensor
    complete: Tensor

    def shows(self, subset: Subset) -> Tensor:
        """(rows,) booleans, which rows have just this subset."""
        return torch.cat([torch.full((len(part),), part.subset == subset) for part in self.parts])


def assign_channels(parts: Sequence[Part], present: np.ndarray | None, share: Share) -> StepParts:
    """Turn a sampler's parts of the whole batch into the rows of this process.

    ``present``, (batch, C) booleans, marks the channels that each image of the whole batch has; None means all. If a
    process gets no image, all processes raise ValueError.
    """
    groups: Groups = [(part.subset, torch.arange(part.start, part.stop)) for part in parts]
    if present is not None:
        groups = group_by_channels(groups, torch.from_numpy(present))
    for index in range(share.count):
        if not any((images % share.count == index).any() for _, images in groups):
            raise ValueError(
                f"the sampler's {sum(map(len, parts))} shown images are too few for {share.count} processes: process "
                f"{index} has none; raise batch_size"
            )
    return step_parts(groups, present, share)


def step_parts(groups: Groups, present: np.ndarray | None, share: Share) -> StepParts:
    """The rows of one process, from subsets and their images in the whole batch."""
    own = take_share(groups, share.index, share.count)
    images = torch.cat([rows for _, rows in own])
    complete = torch.ones(len(images), dtype=torch.bool)
    if present is not None:
        complete = torch.from_numpy(present).all(1)[images * share.count + share.index]
    return StepParts(as_parts(own), images, complete)


def check_missing_channels(model: Classifier, *splits: Split | Stream) -> None:
    """Refuse images that lack channels for a stem that knows one channel set."""
    if not isinstance(model.stem, MaskedStem):
        return
    for split in splits:
        lacking, first = split.find_lacking()
        if lacking:
            raise ValueError(
                f"{lacking:,} of {len(split):,} images lack channels (the first is {first}), but the stem "
                "MaskedStem knows one channel set; choose a stem that takes subsets, or train on "
                "the images that have all channels: data.select(...), or --only-channels"
            )


def training_sampler(settings: TrainingSettings, channels: ChannelSet | int) -> Sampler:
    """The sampler of ``fit``. Parts of ``split`` have 16 images or more: with 8, batch norms are too noisy.

    A loop of your own keeps several parts in small batches, since running statistics need that each subset is shown
    often; ``fit`` recomputes them.
    """
    count = channels if isinstance(channels, int) else len(channels.units)
    larger = {"fewest": 16} if settings.sampler == "split" and count > 1 else {}
    return create_sampler(settings.sampler, channels, **larger | settings.sampler_options)
