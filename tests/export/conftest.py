"""A run of a second or two."""

from __future__ import annotations

import pytest

from anychannel.runs import RunConfig, train_run

VALUES = {
    "data": "bands:3",
    "classes": 3,
    "size": 12,
    "model": "compact_k7",
    "model_options": {"width": 16},
    "training": {"epochs": 1, "batch_size": 128, "device": "cpu", "precision": "fp32", "crop_padding": 1},
}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    values = VALUES | {"stem": "completion"}
    return train_run(RunConfig.from_dict(values), tmp_path_factory.mktemp("export") / "photos", cost=False)


@pytest.fixture(scope="session")
def refusing_run(tmp_path_factory):
    """A run whose stem takes one channel set alone."""
    values = VALUES | {"stem": "masked", "training": {**VALUES["training"], "sampler": "full"}}
    return train_run(RunConfig.from_dict(values), tmp_path_factory.mktemp("export") / "refusing", cost=False)
