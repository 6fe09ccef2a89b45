"""Experiment trackers, used through Accelerate: TensorBoard and MLflow."""

from __future__ import annotations

from anychannel.tracking.base import TrackingError
from anychannel.tracking.tensorboard import TensorBoard
from anychannel.tracking.track import TRACKERS, Track, check_trackers, open_track

__all__ = ["TRACKERS", "TensorBoard", "Track", "TrackingError", "check_trackers", "open_track"]
