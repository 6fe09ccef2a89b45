"""Training on images of which each may lack channels: what a step shows, in parts that stay contiguous.

The sampler says which channels the images of a part are to show, knowing nothing of what each has. An image shows those
of them that it has or, where it has none of them, all that it has. Images that show the same channels are put beside
each other, so that the stem stays one convolution for each subset; labels follow. So a channel that an image lacks is
read by nothing, whatever stands in its plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anychannel.channels import Subset
from anychannel.data import Split, Stream
from anychannel.data.batches.split import group_rows
from anychannel.nn.channel_sampling import Part, share_parts
from anychannel.nn.classifier import Classifier
from anychannel.nn.stems import MaskedStem
from anychannel.utils.processes import Share


@dataclass(frozen=True)
class Step:
    """What one process shows in a step.

    Args:
        parts: which channels which of its images show.
        rows: (n,) which image of its batch each of the images that ``parts`` counts is, repeats allowed; None where
            these are the batch's own.
        complete: (n,) booleans, which of them have every channel; None where all have.
    """

    parts: list[Part]
    rows: Tensor | None = None
    complete: Tensor | None = None

    def arrange(self, batch: Tensor) -> Tensor:
        """The batch's rows as ``parts`` counts them."""
        return batch if self.rows is None else batch[self.rows.to(batch.device)]

    @property
    def images(self) -> list[int]:
        """Which image of the batch each row of the joined parts shows."""
        counted = [image for part in self.parts for image in range(part.start, part.stop)]
        return counted if self.rows is None else self.rows[counted].tolist()


def plan_step(parts: Sequence[Part], present: np.ndarray | None, share: Share) -> Step:
    """What this process shows of a batch.

    Args:
        parts: of the whole batch, as the sampler made them.
        present: (batch, C) booleans, which channels each image of the whole batch has; None where all have all.
        share: every process plans the same parts in the same order, each with its own images; some may be empty.

    Raises:
        ValueError: see ``share_parts``.
    """
    own = share_parts(parts, share.index, share.count)
    if present is None:
        return Step(own)
    rows: list[np.ndarray] = []
    planned, start = [], 0
    for subset, images in group_by_shown(parts, present).items():
        mine = images[images % share.count == share.index]
        planned.append(Part(subset, start, start + len(mine)))
        start += len(mine)
        rows.append(mine)
    joined = np.concatenate(rows)
    complete = torch.from_numpy(present[joined].all(axis=1))
    return Step(planned, torch.from_numpy((joined - share.index) // share.count), complete)


def group_by_shown(parts: Sequence[Part], present: np.ndarray) -> dict[Subset, np.ndarray]:
    """Images of a batch by the channels that they show, in the order in which the subsets first occur.

    Args:
        parts: of the batch; an image in several of them occurs as often.
        present: (batch, C) booleans, at least one an image.
    """
    groups: dict[Subset, list[np.ndarray]] = {}
    for part in parts:
        have = present[part.start : part.stop]
        shown = np.zeros_like(have)
        shown[:, list(part.subset)] = have[:, list(part.subset)]
        nothing = ~shown.any(axis=1)
        shown[nothing] = have[nothing]
        for subset, rows in group_rows(shown).items():
            groups.setdefault(subset, []).append(part.start + rows)
    return {subset: np.concatenate(pieces) for subset, pieces in groups.items()}


def check_patterns(model: Classifier, *splits: Split | Stream) -> None:
    """Refuse images that lack channels for a stem that knows one channel set.

    Raises:
        ValueError: it says how many images lack channels, and what to do.
    """
    if not isinstance(model.stem, MaskedStem):
        return
    for split in splits:
        lacking, first = split.find_lacking()
        if lacking:
            raise ValueError(
                f"{lacking:,} of {len(split):,} images lack channels (the first is {first}), but the stem "
                "MaskedStem knows one channel set; choose a stem that takes subsets, or train on "
                "the images that have all channels: data.select(...), or --only-channels"
            )
