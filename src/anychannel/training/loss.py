"""The training loss: cross-entropy, and distillation from answers to more channels.

Of several labels an image, it is the mean binary cross-entropy of the labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531. The
teacher is another network, or the network itself with all channels in the same step (if the sampler passes an image
both with all and with fewer channels).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.classifier import Classifier
from anychannel.training.matching import thresholds_of
from anychannel.training.outputs import logits_of
from anychannel.training.settings import TrainingSettings
from anychannel.training.step_parts import StepParts, assign_channels, training_sampler
from anychannel.utils.processes import Share


def training_loss(
    logits: Tensor,
    targets: Tensor,
    teacher: Tensor | None,
    taught: Tensor | None,
    settings: TrainingSettings,
    weights: Tensor | None = None,
    *,
    several: bool = False,
) -> Tensor:
    """Mean over rows of cross-entropy or, for taught rows, of its mixture with distillation.

    A taught row counts (1 - w) CE + w T^2 KL(softmax(teacher / T) || softmax(logits / T)), where w is ``distill`` and T
    ``distill_temperature``; T^2 keeps the gradient's size, as in the paper. Logits and teacher are (N, K),
    ``taught`` is (N,), and targets are (N,) or, for mixed images, (N, K) with the share of each class. ``weights`` (K,)
    multiply the rows by the weight of their class, those of mixed images by the weights of both in their shares; the
    mean is still over N, so that it does not depend on how rows are cut into pieces and processes.

    If images may have ``several`` labels, targets are (N, K) from 0 to 1, and all losses are means over the labels, of
    binary cross-entropy and divergence. Smoothing moves targets towards 1/2, and ``weights`` multiply the loss of the
    labels that an image has.
    """
    smoothing, scales = settings.label_smoothing, None
    if several:
        loss = label_loss(logits, targets, smoothing, weights)
    else:
        if weights is not None:
            scales = weights[targets] if targets.ndim == 1 else targets @ weights
            targets = targets if targets.ndim == 1 else targets * weights / scales[:, None]
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    if teacher is not None and taught is not None:
        weight = settings.distill
        learned = divergence(logits, teacher, settings.distill_temperature, several=several)
        loss = torch.where(taught, (1 - weight) * loss + weight * learned, loss)
    return loss.mean() if scales is None else (scales * loss).mean()


def label_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of each row's labels, (N,); logits and targets are (N, K)."""
    softened = targets * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, softened, pos_weight=weights, reduction="none").mean(dim=1)


def divergence(logits: Tensor, teacher: Tensor, temperature: float = 1.0, *, several: bool = False) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(logits / T)) of each row, (N,); both are (N, K).

    Of ``several`` labels an image, the mean over the labels of the divergence of sigmoids.
    """
    if several:
        both = [torch.stack([each / temperature, torch.zeros_like(each)], dim=1) for each in (logits, teacher)]
        return divergence(both[0], both[1]).mean(dim=1) * temperature**2
    known = F.log_softmax(teacher.detach() / temperature, dim=1)
    learned = F.log_softmax(logits / temperature, dim=1)
    return (known.exp() * (known - learned)).sum(1) * temperature**2


@torch.no_grad()
def find_teacher(
    teacher: Classifier | None,
    batch: Tensor,
    logits: Tensor,
    rows: StepParts,
    channels: ChannelSet,
    settings: TrainingSettings,
) -> tuple[Tensor | None, Tensor | None]:
    """Logits (N, K) to learn from, and (N,) which rows have them, on the device; None without distillation.

    A teacher answers to all of its channels. With all of the student's, it teaches the images that have every channel;
    with fewer, the rows with just its channels. Without a teacher, the student's own logits are used. ``batch``, (B, C,
    H, W), has this process's images; ``rows`` describes the rows of ``logits``.
    """
    if settings.distill == 0:
        return None, None
    if teacher is None:
        full = own_teacher_rows(rows, channels.full).to(logits.device, non_blocking=True)
        return logits[full.clamp(min=0)], full >= 0
    known = [channels.names.index(name) for name in teacher.channels.names]
    taught = rows.complete if len(known) == len(channels) else rows.shows(tuple(sorted(known)))
    answers = torch.zeros_like(logits)
    if taught.any():
        asked, places = torch.unique(rows.images[taught], return_inverse=True)
        places, taught_rows, asked = (
            index.to(logits.device, non_blocking=True) for index in (places, torch.nonzero(taught)[:, 0], asked)
        )
        answers[taught_rows] = logits_of(teacher(batch[asked][:, known])).float()[places]
    return answers, taught.to(logits.device, non_blocking=True)


def own_teacher_rows(rows: StepParts, full: Subset) -> Tensor:
    """For each row, the position of the same image's row with all channels: (rows,); -1 for none and for itself."""
    whole = rows.shows(full)
    row_of = torch.full((int(rows.images.max()) + 1,), -1)
    row_of[rows.images[whole]] = torch.nonzero(whole)[:, 0]
    return torch.where(whole, -1, row_of[rows.images])


def check_distillation(
    settings: TrainingSettings, model: Classifier, teacher: Classifier | None, *, several: bool
) -> None:
    """Refuse a teacher of other classes, of more channels or that is not used, and distillation without a source.

    ``several`` says whether an image may have several labels.
    """
    if teacher is not None and settings.distill == 0:
        raise ValueError(
            "a teacher is given, but distill is 0, so that nothing is learned from it; set distill (0.5, say), or "
            "leave the teacher out"
        )
    if teacher is None:
        if not settings.distill:
            return
        sampler = training_sampler(settings, model.channels)
        parts = sampler(settings.batch_size, torch.Generator().manual_seed(0))
        if not (own_teacher_rows(assign_channels(parts, None, Share()), model.channels.full) >= 0).any():
            raise ValueError(
                f"distill={settings.distill:g} without a teacher learns from the network's own answers to all "
                f"channels, but sampler {settings.sampler!r} shows no image twice; use sampler 'sandwich', or 'split' "
                "with sampler_options paired=true, or give a teacher"
            )
        return
    foreign = [name for name in teacher.channels.names if name not in model.channels.names]
    if foreign:
        raise ValueError(
            f"the teacher's channels are {teacher.channels.names}, the student's {model.channels.names}; the student "
            f"lacks {', '.join(foreign)}"
        )
    for what, theirs, mine in (
        ("number of classes", teacher.spec.num_classes, model.spec.num_classes),
        ("classes", teacher.classes or model.classes, model.classes or teacher.classes),
        ("labels an image", "one" if thresholds_of(teacher) is None else "several", "several" if several else "one"),
    ):
        if theirs != mine:
            raise ValueError(f"the teacher's {what} are {theirs}, the student's {mine}; they must agree")
