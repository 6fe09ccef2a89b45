"""Searches for the settings of a recipe that do best on validation images."""

from __future__ import annotations

from anychannel.sweeps.search import Outcome, sweep
from anychannel.sweeps.space import SweepError

__all__ = ["Outcome", "SweepError", "sweep"]
