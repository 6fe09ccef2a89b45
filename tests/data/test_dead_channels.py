"""Channels that are dead, saturated or noise are noticed in an image, and intact ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from anychannel.channels import ChannelSet
from anychannel.data import dataset_from_arrays
from anychannel.data.appearance import sample_appearance
from anychannel.data.dead_channels import DeadChannels, remarks
from tests.data.test_appearance import cells

BREAK = {
    "zeros": lambda plane, _: np.zeros_like(plane),
    "stuck": lambda plane, _: np.full_like(plane, 65535),
    "noise": lambda plane, random: random.integers(0, 65536, plane.shape).astype(plane.dtype),
    "clipped": lambda plane, _: np.where(plane > 110, 65535, plane),
    "constant at its mean": lambda plane, _: np.full_like(plane, plane.mean()),
}


@pytest.fixture(scope="module")
def dataset():
    images = cells(np.random.default_rng(0), 300)
    return dataset_from_arrays(
        images, [0, 1] * 150, channels="A,B,C", splits=np.repeat(["train", "val", "test"], [200, 50, 50])
    )


@pytest.fixture(scope="module")
def detector(dataset):
    return DeadChannels(dataset.channels, sample_appearance(dataset))


@pytest.mark.parametrize("kind", BREAK)
def test_a_broken_channel_is_noticed_and_the_others_are_not(dataset, detector, kind):
    images = np.array(dataset.test.images)
    images[:, 1] = BREAK[kind](images[:, 1], np.random.default_rng(1))
    found = detector.find(images, (0, 1, 2))
    assert np.mean([set(dead) == {"B"} for dead in found]) >= 0.9
    assert np.mean(["B" in dead for dead in found]) == 1
    (two,) = detector.find(images[:1, 1:], (1, 2))
    assert "B" in two


def test_intact_images_have_no_dead_channels(dataset, detector):
    found = detector.find(np.asarray(dataset.test.images), (0, 1, 2))
    assert sum(map(bool, found)) <= 4


def test_what_is_wrong_is_said(dataset, detector):
    image = np.array(dataset.test.images[:1])
    image[0, 1] = 0
    (dead,) = detector.find(image, (0, 1, 2))
    assert dead == {"B": "is 0 throughout"}
    assert remarks(dead, "ABC") == [
        "B is 0 throughout: it may be dead or saturated, and the answer may be better without it."
    ]
    assert remarks(dead, "AC") == ["B is 0 throughout: it may be dead or saturated, so it was left out."]
    image[0, 1] = np.asarray(dataset.test.images[0, 1])
    image[0, 1, :20] = 65535
    assert detector.find(image, (0, 1, 2))[0]["B"] == "is 6.554e+04 in 83 % of its pixels"


def test_an_image_of_another_kind_has_nothing_to_leave_out_and_nor_has_one_channel(detector):
    black = np.zeros((1, 3, 24, 24), np.uint16)
    assert detector.find(black, (0, 1, 2)) == [{}]
    assert detector.find(black[:, :1], (0,)) == [{}]


def test_values_that_overflow_are_far_and_warn_of_nothing(dataset, detector):
    image = np.array(dataset.test.images[:1], np.float32)
    image[0, 2] = 3e38
    image[0, 2, 0] = -3e38
    assert detector.find(image, (0, 1, 2)) == [{"C": "is 3e+38 in 96 % of its pixels"}]


def test_a_channel_that_is_often_constant_in_training_may_be_so():
    images = cells(np.random.default_rng(0), 100)
    images[::2, 1] = 100
    dataset = dataset_from_arrays(images, [0, 1] * 50, channels="A,B,C", splits=["train"] * 80 + ["val"] * 20)
    detector = DeadChannels(dataset.channels, sample_appearance(dataset))
    assert detector.find(images[80:81], (0, 1, 2)) == [{}]
    stuck = np.where(np.arange(3).reshape(1, 3, 1, 1) == 1, 65535, images[80:81]).astype(np.uint16)
    assert list(detector.find(stuck, (0, 1, 2))[0]) == ["B"]


def test_without_training_images_the_statistics_alone_decide():
    detector = DeadChannels(ChannelSet(tuple("ABC"), mean=(300.0, 150.0, 120.0), std=(200.0, 80.0, 40.0)))
    image = cells(np.random.default_rng(0), 1)
    assert detector.find(image, (0, 1, 2)) == [{}]
    image[:, 2] += 10_000
    assert list(detector.find(image, (0, 1, 2))[0]) == ["C"]
    image[:, 0] = 200
    assert list(detector.find(image, (0, 1, 2))[0]) == ["A", "C"]
