"""Trackers by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from anychannel.tracking.base import Tracker, TrackingError
from anychannel.tracking.mlflow import MLflow
from anychannel.tracking.tensorboard import TensorBoard
from anychannel.utils.extras import need
from anychannel.utils.names import unknown_name

TRACKERS: dict[str, Callable[[Path, str], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed, before anything is done.

    Raises:
        TrackingError: one is unknown; the message lists the valid ones.
        MissingExtraError: one's package is missing.
    """
    for name in names:
        if name not in TRACKERS:
            raise TrackingError(unknown_name("tracker", name, TRACKERS))
        need(name, "tracking", f"the tracker {name}")
