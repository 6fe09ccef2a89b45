"""Mixup and cutmix of a batch, for images of any channels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from anychannel.utils.processes import Share


def mix_images(
    images: Tensor,
    labels: Tensor,
    *,
    mixup: float,
    cutmix: float,
    num_classes: int,
    generator: torch.Generator,
    present: np.ndarray | None = None,
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix each image with the one half a batch further, and their labels in the same proportion.

    Mixup blends both images (Zhang et al., 2018, https://arxiv.org/abs/1710.09412); cutmix copies a box of the other
    image (Yun et al., 2019, https://arxiv.org/abs/1905.04899). The batch's proportion is drawn from Beta(a, a), where
    a is ``mixup`` or ``cutmix``; with both, a coin decides for each batch. This is timm's ``Mixup`` with its defaults.

    An image whose partner lacks one of its channels stays as it is, with its own label.

    Args:
        images: (B, C, H, W) float32, the process's ``share`` of a batch.
        labels: (B,) int64 on the CPU, or (B, num_classes) with a value for each class.
        mixup, cutmix: 0 switches one off; with both off, images and labels are returned as they are.
        generator: the only source of randomness; every process gets the same one.
        present: booleans, the channels that each image of the whole batch has; None means all.
        share: with several processes, an image is mixed with one of the same process. It is the same one as in one
            process if the whole batch is a multiple of twice their number.

    Returns:
        Images, and targets (B, num_classes) float32 on the CPU, which sum to 1.
    """
    if not (mixup or cutmix):
        return images, labels
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    kept = random.beta(cutmix, cutmix) if cut else random.beta(mixup, mixup)
    half, (height, width) = len(images) // 2, images.shape[2:]
    others = images.roll(half, 0)
    if cut:
        rows, columns = (cut_side(size, kept, random) for size in (height, width))
        kept = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        mixed = images.clone()
        mixed[:, :, rows, columns] = others[:, :, rows, columns]
    else:
        mixed = images * kept + others * (1 - kept)
    targets = labels.float() if labels.ndim == 2 else torch.eye(num_classes)[labels]
    blended = targets * kept + targets.roll(half, 0) * (1 - kept)
    if present is None:
        return mixed, blended
    has = present[(share or Share()).rows(len(present))]
    usable = torch.from_numpy((~has | np.roll(has, half, axis=0)).all(axis=1))
    images = torch.where(usable.to(images.device, non_blocking=True)[:, None, None, None], mixed, images)
    return images, torch.where(usable[:, None], blended, targets)


def cut_side(size: int, kept: float, random: np.random.Generator) -> slice:
    """The rows or columns of a box with the share ``1 - kept`` of the area around a random pixel, cut at the edges."""
    length, centre = int(size * math.sqrt(1 - kept)), int(random.integers(size))
    return slice(max(centre - length // 2, 0), min(centre + (length + 1) // 2, size))
