"""Learning a reduced view of an image from what is known of the whole of it.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531. The
teacher is the network's own answer to all channels in the same step (where the sampler shows an image both whole and
reduced), or another network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import Subset
from anychannel.samplers import Part


def own_teacher_rows(parts: Sequence[Part], full: Subset, images: Sequence[int] | None = None) -> Tensor:
    """For each row of the joined parts, the row that shows the same image with all channels.

    Args:
        parts: of one step, in the order of the logits' rows.
        full: the full set.
        images: which image each row shows; None takes the parts' own count for it.

    Returns:
        (sum of parts,) positions; -1 for the full rows themselves and for images that are not shown in full.
    """
    whole_rows = [part.subset == full for part in parts for _ in range(len(part))]
    shown = images or [image for part in parts for image in range(part.start, part.stop)]
    whole = {image: row for row, image in enumerate(shown) if whole_rows[row]}
    return torch.tensor([-1 if whole_rows[row] else whole.get(image, -1) for row, image in enumerate(shown)])


def training_loss(
    logits: Tensor,
    targets: Tensor,
    teacher: Tensor | None = None,
    taught: Tensor | None = None,
    *,
    weight: float = 0.5,
    temperature: float = 2.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean over images of cross-entropy or, where there is a teacher, of its mixture with distillation.

    A taught image counts (1 - weight) CE + weight T^2 KL(softmax(teacher / T) || softmax(logits / T)); T^2 keeps the
    gradient's size, as in the paper.

    Args:
        logits: (N, K).
        targets: (N,).
        teacher: (N, K) logits; rows that are not taught are not read.
        taught: (N,) which rows have a teacher.
        weight, temperature, label_smoothing: see above.
    """
    entropy = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
    if teacher is None or taught is None or weight == 0:
        return entropy.mean()
    known = F.log_softmax(teacher.detach() / temperature, dim=1)
    learned = F.log_softmax(logits / temperature, dim=1)
    divergence = (known.exp() * (known - learned)).sum(1) * temperature**2
    return torch.where(taught, (1 - weight) * entropy + weight * divergence, entropy).mean()
