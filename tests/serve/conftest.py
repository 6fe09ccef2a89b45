"""Two small runs on small photographs, and their service over real HTTP."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread
from time import sleep

import httpx
import numpy as np
import pytest
import uvicorn

from anychannel.runs import RunConfig, train_run
from anychannel.serve import create_app
from anychannel.serve.server import listen
from tests.data.files import bright_halves, write_class_folders

EVALUATED = ("R,G,B", "R,G", "B")
"""The first run's evaluated subsets; of the others nothing is known."""


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Photographs of two classes: bright on the left, bright on the right."""
    root = tmp_path_factory.mktemp("serve") / "photos"
    random = np.random.default_rng(0)
    return write_class_folders(
        root, {"train": 16, "val": 6, "test": 6}, ("left", "right"), bright_halves(random, 20, 30)
    )


def train(photos, out, **values):
    settings = {
        "epochs": 2,
        "batch_size": 16,
        "flip": False,
        "device": "cpu",
        "precision": "fp32",
        **values.pop("training", {}),
    }
    config = {"data": str(photos), "channels": ["R", "G", "B"], "size": 16, "model": "compact_k7", **values}
    config |= {"model_options": {"width": 16}, "training": settings}
    return train_run(RunConfig.from_dict(config), out, cost=False, cache_dir=out.parent / "cache")


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
def refusing(photos):
    """A run whose stem takes only the channel set that it was trained on."""
    return train(photos, photos.parent / "refusing", stem="masked", training={"sampler": "full"})


@contextmanager
def serving(run, **options):
    """The service of a run on a free port of this machine, in a thread."""
    taken = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(run, **options), log_level="error"))
    thread = Thread(target=server.run, args=([taken],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        sleep(0.01)
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        taken.close()


@pytest.fixture(scope="session")
def address(run):
    with serving(run) as url:
        yield url


@pytest.fixture(scope="session")
def http(address):
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client
