"""A small task that a network can learn in seconds: which of three channels is brightest where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anychannel.channels import ChannelSet
from anychannel.data import Split
from anychannel.models import Classifier, create_model

CHANNELS = ChannelSet(("R", "G", "B"), mean=(100.0,) * 3, std=(40.0,) * 3)


def make_split(count: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.integers(60, 120, (count, 3, 12, 12)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 80
    return Split(images, labels.astype(np.int64), tuple(f"image_{i}.png" for i in range(count)))


@pytest.fixture(scope="session")
def train() -> Split:
    return make_split(96, 1)


@pytest.fixture(scope="session")
def val() -> Split:
    return make_split(32, 2)


def make_model(stem: str = "static", seed: int = 0, norm: str = "shared") -> Classifier:
    torch.manual_seed(seed)
    options = {"stem": stem, "norm": norm, "model_options": {"width": 32}}
    return create_model("compact_k7", channels=CHANNELS, num_classes=4, **options)
