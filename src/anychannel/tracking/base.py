"""What all trackers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

Settings = Mapping[str, str | bool | int | float]


class TrackingError(ValueError):
    """A tracker cannot be used; the message names it and says what to do."""


class Tracker(ABC):
    """One experiment of one tracker, new or continued.

    A tracker is made from the run's folder and name. It keeps in the folder what it needs to find the experiment again.
    """

    tracker: GeneralTracker

    @abstractmethod
    def logged(self) -> dict[str, set[int]]:
        """The steps that the store has for each metric."""

    @abstractmethod
    def is_configured(self) -> bool:
        """Whether the store has the run's settings."""

    def configure(self, settings: Settings) -> None:
        """Store the run's settings, unless the store has them."""
        if not self.is_configured():
            self.tracker.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Store one value of each metric."""
        self.tracker.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:  # noqa: ARG002
        """Close the experiment; ``finished`` is whether the run is complete."""
        self.tracker.finish()
