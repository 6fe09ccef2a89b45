"""Learning a reduced view of an image from what is known of the whole of it.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531. The
teacher is the network's own answer to all channels in the same step (where the sampler shows an image both whole and
reduced), or another network's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import ChannelSet, Subset
from anychannel.nn.channel_sampling import Part, create_sampler
from anychannel.nn.classifier import Classifier
from anychannel.training.patterns import Step
from anychannel.training.settings import TrainingSettings


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


@torch.no_grad()
def find_teacher(
    teacher: Classifier | None,
    images: Tensor,
    logits: Tensor,
    plan: Step,
    channels: ChannelSet,
    options: TrainingSettings,
) -> tuple[Tensor | None, Tensor | None]:
    """Logits to learn from, (sum of parts, K), and which rows have them; None where nothing is distilled.

    What is learned from is an answer to all of the teacher's channels, so an image that lacks some is learned from its
    label alone.
    """
    if options.distill == 0:
        return None, None
    if teacher is None:
        rows = own_teacher_rows(plan.parts, channels.full, plan.images).to(logits.device)
        return logits[rows.clamp(min=0)], rows >= 0
    known = [channels.names.index(name) for name in teacher.channels.names]
    seen = images if known == list(channels.full) else images[:, known]
    if len(known) == len(channels) and plan.complete is None:
        answers = teacher(seen).float()
        gathered = torch.cat([answers[part.start : part.stop] for part in plan.parts])
        return gathered, torch.ones(len(gathered), dtype=torch.bool, device=logits.device)
    places = torch.tensor([place for part in plan.parts for place in range(part.start, part.stop)], dtype=torch.long)
    if len(known) == len(channels) and plan.complete is not None:
        taught = plan.complete[places]
    else:
        own = tuple(sorted(known))
        taught = torch.tensor([part.subset == own for part in plan.parts for _ in range(len(part))], dtype=torch.bool)
    taught, places = taught.to(logits.device), places.to(logits.device)
    gathered = logits.clone()
    if taught.any():
        gathered[taught] = teacher(seen[places[taught]]).float()
    return gathered, taught


def check_distillation(options: TrainingSettings, model: Classifier, teacher: Classifier | None) -> None:
    """Refuse a teacher that answers another question, and distillation that nothing would ever be learned by.

    Raises:
        ValueError: the teacher's number of classes or classes' names differ from the student's, it has channels that
            the student lacks, or there is none and the sampler never shows an image both whole and reduced.

    Warns:
        UserWarning: there is a teacher, but ``distill`` is 0.
    """
    if teacher is not None and options.distill == 0:
        warnings.warn(
            "a teacher is given, but distill is 0, so that nothing is learned from it; set distill (0.5, say), or "
            "leave the teacher out",
            UserWarning,
            stacklevel=3,
        )
    if teacher is None:
        sampler = create_sampler(options.sampler, len(model.channels), **options.sampler_options)
        parts = sampler(options.batch_size, torch.Generator().manual_seed(0))
        if options.distill and not (own_teacher_rows(parts, model.channels.full) >= 0).any():
            raise ValueError(
                f"distill={options.distill:g} without a teacher learns from the network's own answers to all channels, "
                f"but sampler {options.sampler!r} shows no image twice; use sampler 'sandwich', or 'split' with "
                "sampler_options paired=true, or give a teacher"
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
    ):
        if theirs != mine:
            raise ValueError(f"the teacher's {what} are {theirs}, the student's {mine}; they must agree")
