"""A run: configuration in, one folder with everything about it out."""

from __future__ import annotations

from anychannel.runs.config import RunConfig, load_recipe
from anychannel.runs.execute import evaluate_run, train_run

__all__ = ["RunConfig", "evaluate_run", "load_recipe", "train_run"]
