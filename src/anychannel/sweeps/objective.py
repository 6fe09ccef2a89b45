"""The objective of a sweep: validation metrics at the epoch whose weights a run keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from anychannel.data import ImageDataset
from anychannel.evaluation import load_evaluation
from anychannel.results.metrics import main_figures
from anychannel.results.run import read_record
from anychannel.sweeps.space import SweepError
from anychannel.training.class_counts import has_uneven_classes
from anychannel.training.early_stopping import ALL_FIGURES, MONITORS, mean_of_kinds
from anychannel.training.metrics import read_metrics

SUBSETS = {f"mean_subset_{figure}": figure for figure in ALL_FIGURES}
OBJECTIVES = {**MONITORS, **dict.fromkeys(SUBSETS, 1.0)}
"""Metrics of an epoch, and the means over a run's channel subsets; -1.0 for those that are minimised."""


def choose_metric(metric: str, dataset: ImageDataset) -> str:
    """The metric that ``auto`` stands for: ``val_balanced_accuracy`` if classes are uneven, else ``val_accuracy``.

    Of several labels an image it is ``val_mean_average_precision``.
    """
    if metric != "auto":
        return metric
    if dataset.has_several:
        return "val_mean_average_precision"
    uneven = has_uneven_classes(dataset.train, dataset.val, len(dataset.classes))
    return "val_balanced_accuracy" if uneven else "val_accuracy"


def curve_of(metric: str, row: Mapping[str, Any]) -> float | None:
    """The value of one epoch for pruning; None if the epoch does not measure it.

    For ``mean_subset_accuracy`` this is ``val_mean_accuracy``, and so on. Training without channel sampling does not
    measure it, so its trials are not pruned.
    """
    value = row.get(mean_of_kinds(SUBSETS[metric]) if metric in SUBSETS else metric)
    return None if value is None else float(value)


def value_of(metric: str, folder: Path) -> float:
    """The objective of a finished run. A mean over subsets leaves out subsets that no image has."""
    if metric in SUBSETS:
        subsets = load_evaluation(folder, "val").subsets
        refused = [key for key, figures in subsets.items() if "refused" in figures and figures.get("n") != 0]
        if refused:
            raise SweepError(f"the network refuses {' / '.join(refused)}, so its {metric} is not known")
        measured = [main_figures(figures) for figures in subsets.values() if "refused" not in figures]
        if SUBSETS[metric] not in measured[0]:
            raise SweepError(f"{metric} is not measured of these images; use one of {', '.join(measured[0])}")
        return float(mean(figures[SUBSETS[metric]] for figures in measured))
    best = read_record(folder)["best_epoch"]
    value = curve_of(metric, next(row for row in read_metrics(folder) if row["epoch"] == best))
    if value is None or not math.isfinite(value):
        raise SweepError(f"the run has no {metric} ({value}); only a sampler that drops channels measures it")
    return value
