"""Logs the metrics of a run to its trackers, each value once, however often the run is killed and resumed.

Each tracker's store is asked which steps it has, so nothing is logged twice. Epochs that a kill kept from a store are
read again from ``metrics.jsonl``. An outage of a store does not stop training.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from anychannel.evaluation import Evaluation
from anychannel.results.metrics import main_figures
from anychannel.tracking.base import Settings, Tracker, TrackingError
from anychannel.tracking.mlflow import MLflow
from anychannel.tracking.tensorboard import TensorBoard
from anychannel.training.metrics import read_metrics
from anychannel.utils.extras import need
from anychannel.utils.names import unknown_name

TRACKERS: dict[str, Callable[[Path, str], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
UNUSUAL = re.compile(r"[^-./\w]", re.ASCII)
"""Characters that TensorBoard or MLflow refuses in the name of a metric."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed."""
    for name in names:
        if name not in TRACKERS:
            raise TrackingError(unknown_name("tracker", name, TRACKERS))
        need(name, "tracking", f"the tracker {name}")


class Track:
    """The opened trackers of one run, by name. Without trackers it does nothing."""

    def __init__(self, trackers: Mapping[str, Tracker] | None = None) -> None:
        self.trackers = dict(trackers or {})
        self.logged = {name: tracker.logged() for name, tracker in self.trackers.items()}
        self.waiting: dict[str, list[tuple[int, dict[str, float]]]] = {name: [] for name in self.trackers}

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """Log the finite figures of an epoch's row at its step. ``train_loss`` becomes ``train/loss``."""
        values = {
            re.sub("^(train|val)_", r"\1/", key): float(value)
            for key, value in row.items()
            if key != "epoch" and not isinstance(value, bool) and math.isfinite(value)
        }
        self.send(values, int(row["epoch"]))

    def log_evaluation(self, evaluation: Evaluation, epoch: int) -> None:
        """Log the figures of each subset, as ``test/accuracy/R.G``, and their means, at the step of an epoch."""
        measured = {key: main_figures(one) for key, one in evaluation.subsets.items() if "refused" not in one}
        values: dict[str, float] = {}
        for name in next(iter(measured.values()), ()):
            for key, figures in measured.items():
                tag = f"{evaluation.split}/{name}/{UNUSUAL.sub('_', key.replace(',', '.'))}"
                values[tag] = float(figures[name])
            values[f"{evaluation.split}/mean_{name}"] = fmean(figures[name] for figures in measured.values())
        self.send(values, epoch)

    def send(self, values: dict[str, float], step: int) -> None:
        """Log new values and all that wait. A value that the store already has at its step is not logged again.

        If a tracker fails, its values wait for the next call, with a warning.
        """
        for name, tracker in self.trackers.items():
            waiting, logged = self.waiting[name], self.logged[name]
            waiting.append((step, values))
            try:
                while waiting:
                    at, found = waiting[0]
                    new = {tag: value for tag, value in found.items() if at not in logged.get(tag, ())}
                    if new:
                        tracker.log(new, at)
                    for tag in new:
                        logged.setdefault(tag, set()).add(at)
                    waiting.pop(0)
            except Exception as error:  # of any store; hours of training matter more than their curve
                warn(f"the tracker {name} does not take figures now ({error}); they are logged with the next ones")

    def close(self, *, finished: bool) -> None:
        """Close all trackers. Values that a tracker has not taken are lost to it, with a warning."""
        for name, tracker in self.trackers.items():
            try:
                tracker.close(finished=finished)
            except Exception as error:  # as in ``send``
                warn(f"the tracker {name} could not be closed ({error})")
            if finished and self.waiting[name]:
                steps = ", ".join(str(step) for step, _ in self.waiting[name])
                warn(f"the tracker {name} never took the figures of epoch {steps}, which the run's folder holds")


def warn(message: str) -> None:
    """Warn that the run goes on without a tracker."""
    warnings.warn(f"{message}; the run goes on", RuntimeWarning, stacklevel=3)


def open_track(names: Sequence[str], home: Path, *, name: str, settings: Mapping[str, Any]) -> Track:
    """Open the trackers of a run, store its settings, and log the epochs of ``metrics.jsonl`` that they lack.

    ``names`` are keys of ``TRACKERS``. ``settings`` is the run's configuration as one flat table.
    """
    known: Settings = {key: v if isinstance(v, str | bool | int | float) else str(v) for key, v in settings.items()}
    opened: dict[str, Tracker] = {}
    try:
        for key in names:
            opened[key] = TRACKERS[key](home, name)
            opened[key].configure(known)
        track = Track(opened)
    except BaseException:
        for tracker in opened.values():
            tracker.close(finished=False)
        raise
    for row in read_metrics(home):
        track.log_epoch(row)
    return track
