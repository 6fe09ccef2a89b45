from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from anychannel.data import dataset_from_arrays
from anychannel.data.appearance import (
    FIGURES,
    LEAST,
    describe_appearance,
    familiar,
    sample_appearance,
)

SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(range(3), size)]


def cells(random, count, side=24):
    """Bright discs of several sizes on a dark, slightly noisy ground, in three channels of 16 bits."""
    rows, columns = np.mgrid[:side, :side] - side / 2
    radius = random.uniform(4, 8, (count, 1, 1, 1))
    disc = (rows**2 + columns**2 < radius**2) * random.uniform(0.7, 1.3, (count, 3, 1, 1))
    noise = random.normal(0, 5, (count, 3, side, side))
    return (np.array([600, 200, 100]).reshape(1, 3, 1, 1) * disc + 100 + noise).clip(0).astype(np.uint16)


def pictures(random, count, like, side=24):
    """Noise at all scales, with the mean and standard deviation of other images in each channel."""
    found = np.zeros((count, 3, side, side))
    for scale in (1, 2, 4, 8):
        found += np.kron(random.normal(0, 1, (count, 3, side // scale, side // scale)), np.ones((scale, scale)))
    found = (found - found.mean((0, 2, 3), keepdims=True)) / found.std((0, 2, 3), keepdims=True)
    scaled = found * like.std((0, 2, 3), keepdims=True) + like.mean((0, 2, 3), keepdims=True)
    return scaled.clip(0).astype(np.uint16)


@pytest.fixture(scope="module")
def dataset():
    images = cells(np.random.default_rng(0), 300)
    splits = np.repeat(["train", "val", "test"], [200, 50, 50])
    return dataset_from_arrays(images, [0, 1] * 150, channels="A,B,C", splits=splits)


def share_unlike(sample, images, subset):
    known = familiar(sample, subset)
    return (known.distance(describe_appearance(images[:, list(subset)])) > known.limit).mean()


@pytest.mark.parametrize("subset", SUBSETS)
def test_images_of_another_kind_are_unlike_in_every_subset_even_with_the_same_mean_and_spread(dataset, subset):
    sample, own = sample_appearance(dataset), np.asarray(dataset.test.images)
    others = pictures(np.random.default_rng(1), 50, own.astype(float))
    assert share_unlike(sample, own, subset) <= 0.04
    assert share_unlike(sample, others, subset) == 1
    assert share_unlike(sample, own // 256, subset) == 1
    assert share_unlike(sample, np.zeros_like(own[:1]), subset) == 1


def test_too_few_images_say_nothing(dataset):
    sample = sample_appearance(dataset)
    assert familiar(sample[: LEAST - 1], (0, 1, 2)) is None
    assert familiar(sample[:LEAST], (0, 1, 2)) is not None


def test_only_images_that_have_the_channels_count(dataset):
    images = np.array(dataset.train.images)
    present = np.ones((200, 3), bool)
    present[:190, 2] = False
    images[~present] = 9999
    splits = np.repeat(["train", "val", "test"], [196, 2, 2])
    partial = dataset_from_arrays(images, [0, 1] * 100, channels="A,B,C", splits=splits, present=present)
    sample = sample_appearance(partial)
    assert np.isnan(sample[:, 2, 0]).sum() == 190
    figures = describe_appearance(np.asarray(dataset.test.images[0]))
    assert familiar(sample, (0, 1, 2)) is None
    known = familiar(sample, (0, 1))
    assert known.distance(figures[None, :2]).item() < known.limit


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 7), (3, 2, 3), (1, 5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_figures_are_finite_whatever_the_size_and_type(shape, dtype):
    figures = describe_appearance(np.random.default_rng(0).integers(0, 255, shape).astype(dtype))
    assert figures.shape == (shape[0], FIGURES)
    assert figures.dtype == np.float32
    assert np.isfinite(figures).all()


def test_the_figures_of_many_images_are_those_of_each():
    images = np.random.default_rng(0).integers(0, 255, (5, 2, 9, 14)).astype(np.uint8)
    together = describe_appearance(images)
    np.testing.assert_allclose(together, np.stack([describe_appearance(image) for image in images]), rtol=1e-5)


def test_figures_are_what_they_are_said_to_be():
    image = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    means, border_mean, spread, _, *steps = describe_appearance(image)[1]
    assert means == image[1].mean()
    assert border_mean == pytest.approx(np.mean([*image[1, 0], *image[1, -1], *image[1, :, 0], *image[1, :, -1]]))
    assert spread == pytest.approx(np.log1p(image[1].std()))
    assert np.expm1(steps) == pytest.approx([2.5, 5, 0])  # between 1 and 4 pixels, then 2 and 8, then none
