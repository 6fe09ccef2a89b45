"""The interface of a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Settings = Mapping[str, str | bool | int | float]


class TrackingError(ValueError):
    """A tracker cannot be used; the message names it and says what to do."""


class Tracker(Protocol):
    """One experiment of one tracker, new or continued.

    A tracker is made from the run's folder and name. It keeps in the folder what it needs to find the experiment again.
    """

    def logged(self) -> dict[str, set[int]]:
        """The steps that the store has for each metric."""
        ...

    def configure(self, settings: Settings) -> None:
        """Store the run's settings, unless the store has them."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Store one value of each metric."""
        ...

    def close(self, *, finished: bool) -> None:
        """Close the experiment; ``finished`` is whether the run is complete."""
        ...
