"""Views of some channels: no copy, the right pixels, statistics in step."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from anychannel.channels import ChannelError
from anychannel.data import Split, iterate_batches, load_dataset
from anychannel.data.batches.images import Planes
from anychannel.data.batches.split import Rows
from tests.helpers.moments import measure

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 5), dtype=np.uint8)


@pytest.mark.parametrize("rows", [2, slice(1, 4), np.array([5, 0, 5])])
@pytest.mark.parametrize("positions", [[0], [3, 1], [0, 1, 2, 3]])
def test_a_view_reads_the_chosen_planes_in_the_order_named(rows, positions):
    view = Planes(IMAGES, positions)
    assert view.shape == (6, len(positions), 3, 5)
    assert (view.ndim, view.dtype, len(view)) == (4, np.uint8, 6)
    assert np.array_equal(view[rows], np.stack([IMAGES[rows][..., p, :, :] for p in positions], axis=-3))


@pytest.mark.parametrize("positions", [[], [4], [-1], [1, 1]])
def test_planes_that_are_not_there_are_refused(positions):
    with pytest.raises(ValueError, match=r"different numbers in 0\.\.3"):
        Planes(IMAGES, positions)


def test_a_view_of_a_memory_map_reads_it_late_and_travels_by_name(tmp_path):
    np.save(tmp_path / "pixels.npy", IMAGES)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    split = Split(Planes(Planes(mapped, [3, 1, 0]), [2, 0]), np.arange(6), tuple("abcdef"))
    sent = pickle.dumps(Rows(split))
    assert IMAGES[0, 0].tobytes() not in sent
    images, labels = pickle.loads(sent).__getitems__([4, 1])
    assert torch.equal(images, torch.from_numpy(IMAGES[[4, 1]][:, [0, 3]]))
    assert labels.tolist() == [4, 1]


def test_a_data_set_of_some_channels_has_their_pixels_and_their_statistics():
    whole = load_dataset("bands:4")
    some = whole.select("band_3,band_1")
    assert some.channels.names == ("band_3", "band_1")
    batch, _ = next(iterate_batches(some.test, 5))
    assert np.array_equal(batch.numpy(), whole.test.images[:5][:, [2, 0]])
    measured = measure(np.asarray(whole.train.images)[:, [2, 0]])
    assert np.allclose(some.channels.mean, measured.mean)
    assert np.allclose(some.channels.correlation, measured.correlation)
    assert some.fingerprint != whole.fingerprint
    assert some.classes == whole.classes
    with pytest.raises(ChannelError, match="unknown channel 'band_9'"):
        whole.select("band_9")
