"""Runs: a configuration in, one folder with the trained network and all results out."""

from __future__ import annotations

from anychannel.runs.config import RunConfig, load_recipe
from anychannel.runs.evaluate import evaluate_run
from anychannel.runs.execute import train_run
from anychannel.runs.predict import Predictor

__all__ = ["Predictor", "RunConfig", "evaluate_run", "load_recipe", "train_run"]
