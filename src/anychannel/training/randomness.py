"""Randomness that can be repeated: every step's is a function of (seed, epoch, step) and of nothing before it.

So a run that was killed goes on from any checkpoint as if nothing had happened, and no generator's state need be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anychannel.utils.seeds import mix


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
