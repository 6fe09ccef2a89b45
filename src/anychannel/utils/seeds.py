"""Seeds from several numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(*numbers: int) -> int:
    """Mix whole numbers, none negative, to a 63-bit seed (NumPy's ``SeedSequence``)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed torch's global generators (dropout inside networks) inside the block, and restore them after it."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mix(*numbers))
        yield


@contextmanager
def reproducible(*numbers: int) -> Iterator[None]:
    """Seed the global generators on the CPU, of Python, NumPy and torch, inside the block, and restore them after it.

    These are what the transforms of a user's data set draw from.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  # others' code uses it
    seed = mix(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
