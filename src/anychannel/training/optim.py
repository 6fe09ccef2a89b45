"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # settings are checked without torch
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("one_cycle", "cosine", "constant")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: weight decay for kernels and matrices, none for biases, norms and gates (fewer than 2 dimensions)."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]


def create_optimizer(
    model: nn.Module, name: str = "sgd", *, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 5e-4
) -> Optimizer:
    """SGD with Nesterov momentum, or AdamW, which ignores ``momentum``. ``lr`` is the highest learning rate.

    They are fused, so that a flag on the device can skip an update. The momentum starts as zeros, which gives the same
    weights; a fused SGD that skips its first update would leave it uninitialised.
    """
    import torch
    from torch.optim import SGD, AdamW

    groups = parameter_groups(model, weight_decay)
    if name == "sgd":
        optimizer = SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)
        for parameter in [p for group in optimizer.param_groups for p in group["params"] if momentum]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    if name == "adamw":
        return AdamW(groups, lr=lr, fused=True)
    raise ValueError(f"unknown optimizer {name!r}; use one of {', '.join(OPTIMIZERS)}")


def create_schedule(
    optimizer: Optimizer, name: str = "one_cycle", *, total_steps: int, warmup_steps: int = 0
) -> LRScheduler:
    """Learning rate for each step; the optimiser's rates are the highest ones.

    ``one_cycle`` rises from 1/25 of the highest rate over the first 30 % of the steps and falls to almost zero (Smith
    and Topin, 2017, https://arxiv.org/abs/1708.07120; torch's ``OneCycleLR``), while SGD's momentum falls from 0.95 to
    0.85 and rises again. The others begin with ``warmup_steps`` of linear warm-up: then ``cosine`` falls to zero, and
    ``constant`` stays.
    """
    from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

    if name == "one_cycle":
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        cycled = bool(optimizer.defaults.get("momentum"))
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=max(total_steps, 2), cycle_momentum=cycled)
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; use one of {', '.join(SCHEDULES)}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if name == "constant":
            return 1.0
        done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return LambdaLR(optimizer, factor)
