"""Early stopping on a validation figure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")
LABEL_FIGURES = ("mean_average_precision", "micro_f1", "macro_f1")
"""What is measured of answers: of one class an image, and of several labels.

As a monitor, each stands for the mean of both kinds of validation, or for the one.
"""
ALL_FIGURES = tuple(dict.fromkeys((*FIGURES, *LABEL_FIGURES)))
RENAMED = {"val_mean_mean_average_precision": "val_mean_map"}
"""Former names of figures, which earlier runs and recipes have, and today's."""


def mean_of_kinds(figure: str) -> str:
    """Name of the mean of a figure with all channels and with channels missing."""
    return RENAMED.get(f"val_mean_{figure}", f"val_mean_{figure}")


def monitors_of(figure: str) -> tuple[str, str, str]:
    """A figure with all channels, with channels missing, and the mean of both."""
    return f"val_{figure}", f"val_reduced_{figure}", mean_of_kinds(figure)


REDUCED_MONITORS = tuple(name for figure in ALL_FIGURES for name in monitors_of(figure)[1:])
"""Figures that need images with channels missing."""
MONITORS = {"val_loss": -1.0, **dict.fromkeys((name for figure in ALL_FIGURES for name in monitors_of(figure)), 1.0)}
"""Validation figures, and the sign that makes larger better."""


@dataclass
class EarlyStopping:
    """Tracks the best epoch by ``monitor``, a key of ``MONITORS``, and when to stop.

    It stops after ``patience`` epochs in a row without an improvement above ``min_delta``; None never stops. The best
    epoch has the best figure, even by less than ``min_delta``.
    """

    monitor: str = "val_accuracy"
    patience: int | None = field(default=None, kw_only=True)
    min_delta: float = field(default=0.0, kw_only=True)
    best_epoch: int = field(default=0, init=False)
    best_score: float = field(default=-math.inf, init=False)
    reference: float = field(default=-math.inf, init=False)
    waited: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.monitor not in MONITORS:
            raise ValueError(f"unknown monitor {self.monitor!r}; use one of {', '.join(MONITORS)}")
        if (self.patience is not None and self.patience < 1) or self.min_delta < 0:
            raise ValueError(
                f"patience must be at least 1 and min_delta not negative, got {self.patience} and {self.min_delta}"
            )

    def update(self, epoch: int, figures: dict[str, Any]) -> bool:
        """Add an epoch's figures; return whether it is the best so far."""
        score = self.score(figures)
        if score > self.reference + self.min_delta:
            self.reference, self.waited = score, 0
        else:
            self.waited += 1
        if self.best_epoch and score <= self.best_score:
            return False
        self.best_epoch, self.best_score = epoch, score
        return True

    def score(self, figures: dict[str, Any]) -> float:
        """The monitored figure, with its sign so that larger is better. NaN is worse than any number."""
        score = MONITORS[self.monitor] * float(figures[self.monitor])
        return -math.inf if math.isnan(score) else score

    @property
    def should_stop(self) -> bool:
        """Whether patience is used up."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` restores."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        vars(self).update(state)
