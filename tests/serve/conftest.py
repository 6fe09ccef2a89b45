"""Two small runs on small photographs, and their service over real HTTP."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from tests.helpers.image_files import bright_halves, write_class_folders
from tests.helpers.service import EVALUATED, serving, train


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Photographs of two classes: bright on the left, bright on the right."""
    root = tmp_path_factory.mktemp("serve") / "photos"
    random = np.random.default_rng(0)
    return write_class_folders(
        root, {"train": 16, "val": 6, "test": 6}, ("left", "right"), bright_halves(random, 20, 30)
    )


@pytest.fixture(scope="session")
def run(photos):
    """A channel-adaptive run of which three subsets were evaluated."""
    return train(
        photos,
        photos.parent / "adaptive",
        stem="completion",
        subsets=EVALUATED,
        training={"sampler": "dropout"},
    )


@pytest.fixture(scope="session")
def grouped(photos):
    """A run whose channels belong to two sensors, of which every subset was evaluated."""
    groups = {"warm": ["R", "G"], "cold": ["B"]}
    return train(photos, photos.parent / "grouped", stem="completion", groups=groups)


@pytest.fixture(scope="session")
def refusing(photos):
    """A run whose stem takes only the channel set that it was trained on."""
    return train(photos, photos.parent / "refusing", stem="masked", training={"sampler": "full"})


@pytest.fixture(scope="session")
def address(run):
    with serving(run) as url:
        yield url


@pytest.fixture(scope="session")
def http(address):
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client
