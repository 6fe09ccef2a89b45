"""What a sweep optimises: figures of the validation images at the epoch whose weights a run keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from anychannel.evaluation import load_evaluation
from anychannel.results.run import read_record
from anychannel.sweeps.space import SweepError
from anychannel.training.early_stopping import MONITORS

SUBSETS = "mean_subset_accuracy"
OBJECTIVES = {**MONITORS, SUBSETS: 1.0}
"""Figures of an epoch, and the mean accuracy over all of a run's channel subsets; the sign makes larger better."""


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The epochs that a run has written down; none where it has not begun."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def curve_of(metric: str, row: Mapping[str, Any]) -> float | None:
    """What an epoch shows of a trial's promise; None where it does not measure it.

    For ``mean_subset_accuracy`` it is ``val_mean_accuracy``, which training that shows all channels alone does not
    measure; such a trial is not pruned.
    """
    value = row.get("val_mean_accuracy" if metric == SUBSETS else metric)
    return None if value is None else float(value)


def value_of(metric: str, folder: Path) -> float:
    """The objective of a finished run; a mean over subsets is over those that some image has.

    Raises:
        SweepError: the run does not measure it.
    """
    if metric == SUBSETS:
        subsets = load_evaluation(folder, "val").subsets
        refused = [key for key, figures in subsets.items() if "refused" in figures and figures.get("n") != 0]
        if refused:
            raise SweepError(f"the network refuses {' / '.join(refused)}, so its {metric} is not known")
        return float(mean(figures["accuracy"] for figures in subsets.values() if "accuracy" in figures))
    best = read_record(folder)["best_epoch"]
    value = curve_of(metric, next(row for row in read_rows(folder) if row["epoch"] == best))
    if value is None or not math.isfinite(value):
        raise SweepError(
            f"the run has no {metric} ({value}); figures of missing channels need a sampler that shows subsets"
        )
    return value
