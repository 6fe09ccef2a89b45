"""What a run tells its trackers, each value once however often the run is killed and resumed.

The store itself is asked what it holds, so nothing is logged twice, and what a kill kept from being logged is made good
from ``metrics.jsonl``. An outage of the store does not stop training.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anychannel.evaluation import Evaluation
from anychannel.tracking.base import Settings, Tracker
from anychannel.tracking.registry import TRACKERS

METRICS = "metrics.jsonl"
UNUSUAL = re.compile(r"[^-./\w]", re.ASCII)
"""What TensorBoard or MLflow would not have in a figure's name."""


class Track:
    """The trackers of one run; without any it does nothing.

    Args:
        trackers: by name, opened.
    """

    def __init__(self, trackers: Mapping[str, Tracker] | None = None) -> None:
        self.trackers = dict(trackers or {})
        self.logged = {name: tracker.logged() for name, tracker in self.trackers.items()}
        self.waiting: dict[str, list[tuple[int, dict[str, float]]]] = {name: [] for name in self.trackers}

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """Log a row of ``metrics.jsonl`` at the step of its epoch: ``train_loss`` as ``train/loss``."""
        values = {
            re.sub("^(train|val)_", r"\1/", key): float(value)
            for key, value in row.items()
            if key != "epoch" and not isinstance(value, bool)
        }
        self.send(values, int(row["epoch"]))

    def log_evaluation(self, evaluation: Evaluation, epoch: int) -> None:
        """Log each subset's accuracy, as ``test/accuracy/R.G``, and their mean, at the step of the epoch given."""
        values = {
            f"{evaluation.split}/accuracy/{UNUSUAL.sub('_', key.replace(',', '.'))}": float(figures["accuracy"])
            for key, figures in evaluation.subsets.items()
            if "accuracy" in figures
        }
        if values:
            values[f"{evaluation.split}/mean_accuracy"] = sum(values.values()) / len(values)
        self.send(values, epoch)

    def send(self, values: dict[str, float], step: int) -> None:
        """Log values with all that wait, each unless the store has it at this step.

        Where a tracker fails they wait for the next time, and a warning says so.
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
            except Exception as error:  # the store's own kinds; hours of training matter more than its curve
                warn(f"the tracker {name} does not take figures now ({error}); they are logged with the next ones")

    def close(self, *, finished: bool) -> None:
        """Close all trackers; what one has not taken is lost to it, and a warning says so."""
        for name, tracker in self.trackers.items():
            try:
                tracker.close(finished=finished)
            except Exception as error:  # as in ``send``
                warn(f"the tracker {name} could not be closed ({error})")
            if finished and self.waiting[name]:
                steps = ", ".join(str(step) for step, _ in self.waiting[name])
                warn(f"the tracker {name} never took the figures of epoch {steps}, which the run's folder holds")


def warn(message: str) -> None:
    """Say that the run goes on without a tracker."""
    warnings.warn(f"{message}; the run goes on", RuntimeWarning, stacklevel=3)


def open_track(names: Sequence[str], home: Path, *, name: str, settings: Mapping[str, Any]) -> Track:
    """Open a run's trackers, tell them its settings, and catch up on epochs of ``metrics.jsonl`` that they lack.

    Args:
        names: keys of ``TRACKERS``.
        home: the run's folder.
        name: the run's name.
        settings: its configuration as one flat table.

    Raises:
        TrackingError, MissingExtraError: a tracker cannot be used.
    """
    opened: dict[str, Tracker] = {}
    try:
        for key in names:
            opened[key] = TRACKERS[key](home, name)
            opened[key].configure(plain(settings))
        track = Track(opened)
    except BaseException:
        for tracker in opened.values():
            tracker.close(finished=False)
        raise
    if (home / METRICS).is_file():
        for line in (home / METRICS).read_text(encoding="utf-8").splitlines():
            track.log_epoch(json.loads(line))
    return track


def plain(settings: Mapping[str, Any]) -> Settings:
    """Values that trackers take; lists become text."""
    return {
        key: value if isinstance(value, str | bool | int | float) else str(value) for key, value in settings.items()
    }
