"""Temperatures that turn a classifier's logits into probabilities which can be believed: softmax(logits / T).

A network that sees fewer channels is wrong more often, but hardly less sure of itself, so each subset has a temperature
of its own. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. ``fit_temperatures`` measures them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LEAST, MOST = 0.05, 20.0
"""Range of a temperature."""


@dataclass(frozen=True)
class Temperatures:
    """Temperatures of a model with C channels.

    Args:
        sizes: C values, the temperatures of subsets of 1, 2, ... C channels that are not in ``subsets``.
        subsets: temperatures by the subset's key, such as ``"R,G"``; empty if there are too many subsets.
    """

    sizes: tuple[float, ...]
    subsets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(map(float, self.sizes)))  # JSON has lists
        object.__setattr__(self, "subsets", {key: float(value) for key, value in self.subsets.items()})
        if not self.sizes or not all(LEAST <= value <= MOST for value in (*self.sizes, *self.subsets.values())):
            raise ValueError(f"temperatures lie between {LEAST} and {MOST}, got {self.sizes} and {self.subsets}")

    def of(self, names: Sequence[str]) -> float:
        """The temperature of a subset, by its channels in the model's order."""
        return self.subsets.get(",".join(names), self.sizes[min(len(names), len(self.sizes)) - 1])


def of_all_channels(found: Temperatures | None, channels: Sequence[str]) -> Temperatures | None:
    """The temperature of all channels for every subset, for a network whose answers to all channels stay the same."""
    return None if found is None else Temperatures((found.of(channels),) * len(found.sizes))


def temperature_of(model: Any, names: Sequence[str]) -> float:
    """What a model's logits from these channels are divided by for probabilities; 1 if it has no temperatures."""
    found = temperatures_of(model)
    return 1.0 if found is None else found.of([name for name in model.channels.names if name in names])


def temperatures_of(model: Any) -> Temperatures | None:
    """A model's temperatures; None if they were never fitted."""
    found: Temperatures | None = getattr(getattr(model, "spec", None), "temperatures", None)
    return found
