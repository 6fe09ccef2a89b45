"""Batches: the rows asked for, in the order asked for, in types that PyTorch can compute with."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from anychannel.data import Split, iterate_batches, load_dataset, to_tensor
from anychannel.data.batches.split import Rows

RNG = np.random.default_rng(0)


def split(dtype: type = np.uint8, count: int = 10) -> Split:
    images = RNG.integers(0, 250, (count, 2, 3, 4)).astype(dtype)
    return Split(images, np.arange(count) % 3, tuple(f"{i}.png" for i in range(count)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_without_an_order_every_row_comes_once_as_it_is(dtype: type):
    data = split(dtype)
    images, labels = zip(*iterate_batches(data, 4), strict=True)
    assert [len(batch) for batch in images] == [4, 4, 2]
    np.testing.assert_array_equal(torch.cat(images).numpy(), data.images)
    np.testing.assert_array_equal(torch.cat(labels).numpy(), data.labels)
    assert labels[0].dtype == torch.int64


@pytest.mark.parametrize("order", [[9, 0, 3, 3, 1], [5], [2, 1, 0], list(range(10))])
def test_an_order_is_kept_with_its_repeats(order: list[int]):
    data = split()
    images, labels = zip(*iterate_batches(data, 2, order=np.array(order)), strict=True)
    np.testing.assert_array_equal(torch.cat(images).numpy(), data.images[order])
    np.testing.assert_array_equal(torch.cat(labels).numpy(), data.labels[order])


def test_an_empty_order_gives_no_batch():
    assert list(iterate_batches(split(), 4, order=np.array([], dtype=np.int64))) == []


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.uint8, torch.uint8), (np.uint16, torch.float32), (np.float32, torch.float32)]
)
def test_every_number_type_becomes_one_that_torch_computes_with(dtype: type, expected: torch.dtype):
    pixels = np.array([0, 1, 255 if dtype == np.uint8 else 65535], dtype)
    tensor = to_tensor(pixels)
    assert tensor.dtype == expected
    assert tensor.tolist() == pixels.tolist()


def test_workers_give_the_same_batches(lists: Path):
    data = load_dataset(lists).train
    order = RNG.permutation(len(data))
    alone = list(iterate_batches(data, 4, order=order))
    helped = list(iterate_batches(data, 4, order=order, num_workers=2))
    assert len(alone) == len(helped) == 2
    for (images, labels), (other_images, other_labels) in zip(alone, helped, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_a_memory_map_travels_to_a_new_process_by_name_and_not_by_content(lists: Path):
    data = load_dataset(lists).train
    rows = Rows(data)
    sent = pickle.dumps(rows)
    assert data.images[0].tobytes() not in sent
    received = pickle.loads(sent)
    assert torch.equal(received.__getitems__([3, 1])[0], rows.__getitems__([3, 1])[0])
    part = Split(data.images[2:4], data.labels[2:4], data.paths[2:4])
    received = pickle.loads(pickle.dumps(Rows(part)))
    assert torch.equal(received.__getitems__([0])[0], rows.__getitems__([2])[0])


def test_reading_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(iterate_batches(split(), 4))
    assert torch.equal(before, torch.get_rng_state())


def test_one_row_is_an_image_and_its_label():
    data = split(np.uint16)
    image, label = Rows(data)[7]
    assert image.shape == (2, 3, 4)
    assert int(label) == data.labels[7]


@pytest.mark.parametrize("size", [0, -2])
def test_a_batch_size_below_one_is_refused(size: int):
    with pytest.raises(ValueError, match=f"batch_size is a number of images, at least 1, got {size}"):
        list(iterate_batches(split(), size))


def test_a_split_of_unequal_lengths_is_refused():
    with pytest.raises(
        ValueError, match="a split needs as many labels and paths as images, got 3 images, 2 labels, 3 paths"
    ):
        Split(np.zeros((3, 1, 2, 2)), np.zeros(2), ("a", "b", "c"))
    with pytest.raises(ValueError, match="a split needs a digest for each of its 3 images, got 1"):
        Split(np.zeros((3, 1, 2, 2)), np.zeros(3), ("a", "b", "c"), digests=("1f",))
