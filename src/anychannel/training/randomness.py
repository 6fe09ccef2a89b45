"""Randomness that can be repeated: every step's is a function of (seed, epoch, step) and of nothing before it.

So a run that was killed goes on from any checkpoint as if nothing had happened, and no generator's state need be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(*numbers: int) -> int:
    """A well-mixed 63-bit seed from whole numbers, none negative (NumPy's ``SeedSequence``)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Order in which an epoch visits ``size`` images."""
    return np.random.default_rng(mix(seed, 1, epoch)).permutation(size)


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """Generator for a step's augmentation and channel subsets."""
    return torch.Generator().manual_seed(mix(seed, 2, epoch, step))


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed torch's global generators (dropout inside networks) inside the block, and put them back after it."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mix(*numbers))
        yield
