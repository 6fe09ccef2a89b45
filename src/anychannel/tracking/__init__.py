"""Experiment trackers, reached through Accelerate: a run's figures where a team looks at them."""

from __future__ import annotations

from anychannel.tracking.base import TrackingError
from anychannel.tracking.registry import TRACKERS, check_trackers
from anychannel.tracking.tensorboard import TensorBoard
from anychannel.tracking.track import Track, open_track

__all__ = ["TRACKERS", "TensorBoard", "Track", "TrackingError", "check_trackers", "open_track"]
