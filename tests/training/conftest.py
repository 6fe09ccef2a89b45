"""The task's splits, made once."""

from __future__ import annotations

import pytest

from anychannel.data import Split
from tests.helpers.training import make_split


@pytest.fixture(scope="session")
def train() -> Split:
    return make_split(96, 1)


@pytest.fixture(scope="session")
def val() -> Split:
    return make_split(32, 2)
