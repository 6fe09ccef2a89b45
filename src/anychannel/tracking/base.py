"""What every tracker can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Settings = Mapping[str, str | bool | int | float]


class TrackingError(ValueError):
    """A tracker cannot be used; the message says which one and what to do."""


class Tracker(Protocol):
    """One experiment of one tracker, opened anew or gone on with.

    It is made from the run's folder and name, and keeps in the folder what it needs to find the experiment again.
    """

    def logged(self) -> dict[str, set[int]]:
        """Steps that the store holds of each figure."""
        ...

    def configure(self, settings: Settings) -> None:
        """Keep the run's settings, unless the store has them."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add one value to each of these figures."""
        ...

    def close(self, *, finished: bool) -> None:
        """Let go of the experiment, and say whether the run came to its end."""
        ...
