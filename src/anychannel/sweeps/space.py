"""What a sweep may vary: the recipe's keys, each with a range or a choice.

    "training.lr" = { low = 0.01, high = 0.5, log = true }
    "training.batch_size" = { low = 64, high = 256, step = 64 }
    stem = { choices = ["static", "completion"] }

A range of two whole numbers is of whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anychannel.runs.config import ConfigError, RunConfig, merge, nest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FORM = "give { low = ..., high = ... } (with log = true or step = ...) or { choices = [...] }"


class SweepError(ValueError):
    """A sweep cannot be done as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Domain:
    """The values of one key.

    Args:
        low, high: ends of a range, both included; None for a choice.
        log: draw from the range on a logarithmic scale.
        step: distance of the range's values; None takes every number.
        choices: text, numbers and booleans to choose from; empty for a range.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[str | float | bool, ...] = ()

    def examples(self) -> tuple[Any, ...]:
        """Both ends and, of a range of every number, one with decimals between them; or all choices."""
        if self.choices or self.low is None or self.high is None:
            return self.choices
        every = isinstance(self.low, float) and self.step is None
        return (self.low, self.high, self.low + (self.high - self.low) / math.pi)[: 3 if every else 2]

    def distribution(self) -> BaseDistribution:
        """As Optuna takes it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


def parse_space(values: Mapping[str, Any], prefix: str = "") -> dict[str, Domain]:
    """Read a space; keys may be dotted or in tables.

    Raises:
        SweepError: an entry is neither a range nor a choice, or an impossible one.
    """
    space: dict[str, Domain] = {}
    for key, value in values.items():
        name = prefix + key
        if not isinstance(value, Mapping):
            raise SweepError(f"{name} in the space is {value!r}; {FORM}")
        if any(word in value and not isinstance(value[word], Mapping) for word in ("low", "high", "choices")):
            space[name] = parse_domain(name, value)
        else:
            space |= parse_space(value, f"{name}.")
    if not space and not prefix:
        raise SweepError(f"the space is empty; for each key to vary, {FORM}")
    return space


def parse_domain(name: str, value: Mapping[str, Any]) -> Domain:
    """Read one entry."""
    choices = value.get("choices")
    if choices is not None:
        scalars = isinstance(choices, list) and all(isinstance(each, str | bool | int | float) for each in choices)
        if set(value) != {"choices"} or not scalars or len({*map(repr, choices)}) < max(len(choices), 1):
            raise SweepError(f"{name} in the space is {dict(value)}; choices are different texts, numbers or booleans")
        return Domain(choices=tuple(choices))
    low, high, step = (value.get(word) for word in ("low", "high", "step"))
    log = value.get("log", False)
    known = is_number(low) and is_number(high) and (step is None or is_number(step)) and isinstance(log, bool)
    if low is None or high is None or not known or set(value) - {"low", "high", "log", "step"}:
        raise SweepError(f"{name} in the space is {dict(value)}; {FORM}")
    if low > high or (log and (low <= 0 or step is not None)) or (step is not None and step <= 0):
        raise SweepError(
            f"{name} in the space is {dict(value)}; low must not exceed high, log needs low > 0 and no step, and a "
            "step is positive"
        )
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and isinstance(step, float):
        raise SweepError(f"{name} in the space is {dict(value)}; a range of whole numbers has a whole step")
    return Domain(low if whole else float(low), high if whole else float(high), log, step)


def is_number(value: Any) -> bool:
    """Whether it is one, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_space(recipe: Mapping[str, Any], space: Mapping[str, Domain]) -> None:
    """Refuse a space with keys or values that no recipe may have.

    Raises:
        SweepError: naming the key, and what a recipe takes there.
    """
    for turn in range(max(len(domain.examples()) for domain in space.values())):
        values = {name: domain.examples()[min(turn, len(domain.examples()) - 1)] for name, domain in space.items()}
        try:
            RunConfig.from_dict(merge(recipe, nest(values)))
        except ConfigError as error:
            raise SweepError(f"the recipe cannot be varied so ({values}): {error}") from error
