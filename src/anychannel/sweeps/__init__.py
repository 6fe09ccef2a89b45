"""Searches for the settings of a recipe that do best on validation images. Needs the extra ``sweep`` (Optuna)."""

from __future__ import annotations

from anychannel.utils.extras import need

need("optuna", "sweep", "a sweep")

from anychannel.sweeps.search import Outcome, sweep  # noqa: E402
from anychannel.sweeps.space import SweepError  # noqa: E402

__all__ = ["Outcome", "SweepError", "sweep"]
