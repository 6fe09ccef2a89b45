"""Counting answers while training: a step's, and a validation's over all processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.data import Split, iterate_batches
from anychannel.models.classifier import Classifier
from anychannel.processes import add_up, share

COUNTED = 3


def count_answers(loss: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """(3,) on the logits' device: sum of the loss over the images, correct answers, images.

    Args:
        loss: () mean over the images.
        logits: (N, K).
        targets: (N,).
    """
    correct = (logits.argmax(1) == targets).sum()
    images = torch.as_tensor(len(targets), device=correct.device)
    kind = torch.float32 if logits.device.type == "mps" else torch.float64
    return torch.stack([loss.detach().to(kind) * images, correct.to(kind), images.to(kind)])


def mean_figures(counted: list[float], prefix: str) -> dict[str, float]:
    """Mean loss and share of correct answers, from sums of ``count_answers``."""
    loss, correct, images = counted
    return {f"{prefix}_loss": loss / max(images, 1), f"{prefix}_accuracy": correct / max(images, 1)}


@torch.no_grad()
def validate(model: Classifier, split: Split, device: torch.device, *, batch_size: int) -> dict[str, float]:
    """Loss and accuracy on all channels; every image is counted once, whichever process holds it."""
    model.eval()
    rows = share().rows(len(split))
    kind = torch.float32 if device.type == "mps" else torch.float64
    counted = torch.zeros(COUNTED, dtype=kind, device=device)
    for images, labels in iterate_batches(split, batch_size, order=rows):
        shown = images.to(device).float().contiguous(memory_format=torch.channels_last)
        logits = model(shown).float()
        targets = labels.to(device)
        counted += count_answers(F.cross_entropy(logits, targets), logits, targets)
    return mean_figures(add_up(counted).tolist(), "val")
