"""What all tests share: one thread and little embedded data, so that they are fast, fixed seeds, and a Ctrl-C that is
not ignored."""

from __future__ import annotations

import signal

import pytest
import torch

import tests.helpers.quick  # noqa: F401


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def pytest_configure() -> None:
    """Take SIGINT even if the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
