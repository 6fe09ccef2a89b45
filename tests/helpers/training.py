"""A small task that a network learns in seconds: which of three channels is brightest where."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from anychannel.channels import ChannelSet
from anychannel.data import Split
from anychannel.models import Classifier, adapt, create_model
from anychannel.training import TrainingSettings

CHANNELS = ChannelSet(("R", "G", "B"), mean=(100.0,) * 3, std=(40.0,) * 3)
SETTINGS = TrainingSettings(
    epochs=3, batch_size=16, sampler="full", lr=0.02, crop_padding=0, flip=False, device="cpu", precision="fp32"
)
UNEVEN = replace(SETTINGS, epochs=1, batch_size=15, crop_padding=2, flip=True, jitter=0.1, lr=0.01)


class Killed(BaseException):
    """Stands in for the process being killed: nothing catches it."""


def states_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def make_split(count: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.integers(60, 120, (count, 3, 12, 12)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 80
    return Split(images, labels.astype(np.int64), tuple(f"image_{i}.png" for i in range(count)))


def make_model(stem: str = "static", seed: int = 0, norm: str = "shared") -> Classifier:
    torch.manual_seed(seed)
    options = {"stem": stem, "norm": norm, "model_options": {"width": 32}}
    return create_model("compact_k7", channels=CHANNELS, num_classes=4, **options)


class Plain(nn.Sequential):
    """A network without batch norm."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(144, 4),
        )  # fmt: skip


def plain_model(stem: str = "completion") -> Classifier:
    torch.manual_seed(0)
    return adapt(Plain(), channels=CHANNELS, source_channels=CHANNELS, stem=stem).double()


def draw_present(count: int, seed: int, channels: int = 3) -> np.ndarray:
    """(count, channels) booleans: a third of the images have everything, all have something."""
    random = np.random.default_rng(seed)
    present = random.random((count, channels)) < 0.5
    present[np.arange(count), random.integers(0, channels, count)] = True
    present[::3] = True
    return present


def lacking(count: int, seed: int, fill: float = 0.0) -> Split:
    """The task of ``make_split`` as float32, ``fill`` standing in the planes that images lack."""
    split, present = make_split(count, seed), draw_present(count, seed)
    images = np.where(present[:, :, None, None], split.images.astype(np.float32), np.float32(fill))
    return Split(images, split.labels, split.paths, present)


def assert_close(several, one, tolerance=1e-8):
    for (weights, figures, untouched), own in ((several[0], one), (several[-1], several[0])):
        for name, value in own[0].items():
            torch.testing.assert_close(
                weights[name], value, rtol=tolerance, atol=tolerance, msg=partial("{}: {}".format, name)
            )
        # in float32 a bias before a batch norm, whose gradient is zero but for rounding, is moved by that or is not
        assert all(tolerance > 1e-6 and name.endswith(".bias") for name in set(untouched) ^ set(own[2]))
        for mine, theirs in zip(figures, own[1], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-6)
