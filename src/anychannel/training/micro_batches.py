"""A step's rows in pieces that pass through the network one after another, for less memory at the same gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anychannel.nn.channel_sampling import Part
from anychannel.training.step_parts import StepParts
from anychannel.utils.processes import Share


def cut_rows(rows: StepParts, parts: Sequence[Part], images: int, pieces: int, share: Share) -> list[StepParts]:
    """Cut one process's rows into as many pieces, or fewer if it has fewer images, as every process does.

    All rows of an image are in one piece, since distillation compares them. Images take turns, so that each piece has
    about the whole step's mixture of subsets, which batch norms need.

    Args:
        rows: this process's rows of the step.
        parts: the sampler's parts of the whole step.
        images: number of images of the whole step.
    """
    if pieces == 1:
        return [rows]
    shown = np.zeros(images, dtype=bool)
    for part in parts:
        shown[part.start : part.stop] = True
    count = min(pieces, *(int(shown[index :: share.count].sum()) for index in range(share.count)))
    turns = np.cumsum(shown[share.index :: share.count]) - 1
    piece_of = torch.from_numpy(turns % count)[rows.images]
    return [take_rows(rows, piece_of == piece, several=share.count > 1) for piece in range(count)]


def take_rows(rows: StepParts, kept: torch.Tensor, *, several: bool) -> StepParts:
    """Some of the rows. Parts that are empty stay if ``several`` processes have to agree on them."""
    parts: list[Part] = []
    start = 0
    for part in rows.parts:
        stop = start + int(kept[part.start : part.stop].sum())
        if several or stop > start:
            parts.append(Part(part.subset, start, stop))
        start = stop
    return StepParts(parts, rows.images[kept], rows.complete[kept])
