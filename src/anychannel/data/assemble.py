"""Splits, names and statistics to a data set: the last step of every source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from anychannel.channels import ChannelSet
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.statistics import Statistics, with_statistics


def assemble(
    name: str,
    channels: ChannelSet,
    classes: tuple[str, ...],
    splits: Mapping[str, Split],
    statistics: Statistics,
    key: str,
) -> ImageDataset:
    """Put a data set together; ``key`` stands for its pixels in the fingerprint."""
    labels = [splits[split].labels.tolist() for split in SPLITS]
    identity = json.dumps([key, labels, classes, channels.names]).encode()
    return ImageDataset(
        name=name,
        channels=with_statistics(channels, statistics),
        classes=classes,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        fingerprint=hashlib.blake2b(identity, digest_size=16).hexdigest(),
    )
