"""The batches of an epoch, of which each process takes its share: of images on disk in any order, or of a stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from anychannel.data import Split, Stream, iterate_batches
from anychannel.data.batches import Batch
from anychannel.data.workers import one_ahead
from anychannel.training.randomness import epoch_order
from anychannel.utils.processes import Share, gather_rows


def epoch_batches(
    train: Split | Stream, *, seed: int, epoch: int, batch_size: int, share: Share, first_step: int = 0
) -> Iterator[Batch]:
    """Yield an epoch's batches from step ``first_step`` on; images that do not fill a batch are left out.

    ``seed`` and ``epoch`` decide the order, and ``share`` which of the ``batch_size`` images of a step this process
    takes. A batch has this process's images and labels, but ``present`` of all images, (batch_size, C).

    Raises:
        DataError: a shard or a sample of a stream cannot be used.
    """
    if isinstance(train, Stream):
        for batch in train.batches(seed=seed, epoch=epoch, batch_size=batch_size, share=share, first_step=first_step):
            present = None if batch.present is None else gather_rows(batch.present, batch_size, share)
            yield batch._replace(present=present)
        return
    steps = len(train) // batch_size
    order = epoch_order(seed, epoch, len(train))[: steps * batch_size].reshape(steps, batch_size)[first_step:]
    mine = order[:, share.rows(batch_size)]
    batches = iterate_batches(train, mine.shape[1], order=mine.reshape(-1))
    if not isinstance(train.images, np.ndarray):  # they are decoded as they are read
        batches = one_ahead(batches)
    for rows, (images, labels) in zip(order, batches, strict=True):
        present = None if train.present is None else train.present[rows]
        yield Batch(images, labels, present, [train.paths[row] for row in np.asarray(rows)])
