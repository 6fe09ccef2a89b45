"""A small task with several labels an image: which of three channels has a bright square, any number of them."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image

from anychannel.channels import ChannelSet
from anychannel.data import Split

NAMES = ("forest", "river", "road")
CHANNELS = ChannelSet(("R", "G", "B"), mean=(70.0,) * 3, std=(40.0,) * 3)


def make_arrays(count=60, seed=0):
    """Images (N, 3, 12, 12) uint8 and labels (N, 3) of 0 and 1; some images have no label."""
    random = np.random.default_rng(seed)
    labels = random.random((count, 3)) < (0.5, 0.35, 0.25)
    images = random.integers(0, 60, (count, 3, 12, 12)).astype(np.uint8)
    images[labels, 3:9, 3:9] += 150
    return images, labels.astype(np.int64)


def make_split(count=60, seed=0):
    """The same as a split that knows its channels and classes."""
    images, labels = make_arrays(count, seed)
    paths = tuple(f"image_{i}.png" for i in range(count))
    return Split(images, labels.astype(np.float32), paths, channels=CHANNELS, classes=NAMES)


def names_of(row):
    return [name for name, has in zip(NAMES, row, strict=True) if has]


def write_table(root, count=60, form="|", seed=0):
    """Images and ``labels.csv``, with ``form`` between the labels of an image or, of "columns", a column for each."""
    images, labels = make_arrays(count, seed)
    (root / "images").mkdir(parents=True)
    with (root / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "plot", *(NAMES if form == "columns" else ["label"])])
        for number, (image, row) in enumerate(zip(images, labels.tolist(), strict=True)):
            Image.fromarray(image.transpose(1, 2, 0)).save(root / f"images/{number:03}.png")
            cells = row if form == "columns" else [form.join(names_of(row))]
            table.writerow([f"images/{number:03}.png", number // 4, *cells])
    return images, labels
