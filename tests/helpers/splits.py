"""Small splits and data sets in memory."""

from __future__ import annotations

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data import ImageDataset, Split

CHANNELS = ChannelSet(("R", "G", "B"), mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))
CLASSES = ("ant", "bee", "cat")


def noise(n=12, size=12, dtype=np.uint8, seed=0):
    images = np.random.default_rng(seed).integers(0, 255, (n, 3, size, size)).astype(dtype)
    return Split(images, np.arange(n) % 3, tuple(map(str, range(n))))


def make_dataset(split, channels=CHANNELS, classes=CLASSES):
    empty = Split(split.images[:0], split.labels[:0], ())
    return ImageDataset("toy", channels, classes, train=empty, val=empty, test=split, fingerprint="")
