"""The batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

from anychannel.data import Split, Stream
from anychannel.data.batches.split import Batch
from anychannel.utils.processes import Share


def feed(
    train: Split | Stream, *, seed: int, epoch: int, batch_size: int, share: Share, first_step: int = 0
) -> Iterator[Batch]:
    """One process's share of an epoch's batches; see ``Split.batches``."""
    return train.batches(seed=seed, epoch=epoch, batch_size=batch_size, share=share, first_step=first_step)
