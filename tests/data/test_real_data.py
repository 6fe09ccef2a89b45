"""Real photographs and microscope images, where $ANYCHANNEL_DATA names the folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from anychannel.data import load_dataset

FOLDER = os.environ.get("ANYCHANNEL_DATA")


def folder(name: str) -> Path:
    if FOLDER is None:
        pytest.skip("ANYCHANNEL_DATA does not name a folder that holds the real data sets")
    path = Path(FOLDER) / name
    if not path.is_dir():
        pytest.skip(f"ANYCHANNEL_DATA holds no {name}")
    return path


def test_half_of_the_photographs_classes_load_as_the_quick_protocol_asks():
    data = load_dataset(folder("mini-imagenet-50"), channels="R,G,B", size=42, classes=25)
    assert [len(data.train), len(data.val), len(data.test)] == [12500, 1250, 1250]
    assert data.train.images.shape[1:] == (3, 42, 42)
    assert np.bincount(data.train.labels).tolist() == [500] * 25
    assert len(data.classes) == 25
    assert all(90 < mean < 130 for mean in data.channels.mean)


def test_sixteen_bit_cells_load_in_their_own_units():
    data = load_dataset(folder("jurkat-cell-cycle"), size=40)
    assert data.channels.names == ("brightfield", "PI", "darkfield")
    assert [len(data.train), len(data.val), len(data.test)] == [2314, 496, 496]
    assert data.train.images.dtype == np.uint16
    assert data.train.images.shape[1:] == (3, 40, 40)
    assert data.channels.mean[0] > 2 * data.channels.mean[1] > 4 * data.channels.mean[2]
