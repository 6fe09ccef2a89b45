"""Splits, names and statistics to a data set: the last step of every source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from anychannel.channels import ChannelSet
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.statistics import Statistics, with_statistics
from anychannel.data.stream import Stream


def assemble(
    name: str,
    channels: ChannelSet,
    classes: tuple[str, ...],
    splits: Mapping[str, Split | Stream],
    statistics: Statistics,
    key: str,
) -> ImageDataset:
    """Put a data set together; ``key`` stands for its pixels in the fingerprint."""
    train, val, test = (splits[split] for split in SPLITS)
    if isinstance(val, Stream) or isinstance(test, Stream):
        raise TypeError("validation and test images have to be read in any order, so they cannot be a Stream")
    labels = [[] if isinstance(split, Stream) else split.labels.tolist() for split in (train, val, test)]
    identity = json.dumps([key, labels, classes, channels.names]).encode()
    return ImageDataset(
        name=name,
        channels=with_statistics(channels, statistics),
        classes=classes,
        train=train,
        val=val,
        test=test,
        fingerprint=hashlib.blake2b(identity, digest_size=16).hexdigest(),
    )
