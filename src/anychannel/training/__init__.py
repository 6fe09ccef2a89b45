"""Training: the loop, its settings, early stopping, checkpoints."""

from __future__ import annotations

from anychannel.training.early_stopping import EarlyStopping
from anychannel.training.finite_updates import TrainingError
from anychannel.training.loop import FitResult, fit
from anychannel.training.settings import TrainingSettings

__all__ = ["EarlyStopping", "FitResult", "TrainingError", "TrainingSettings", "fit"]
