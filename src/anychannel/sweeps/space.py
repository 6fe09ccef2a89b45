"""The search space: settings of the recipe, each with a range or a choice.

    "training.lr" = { low = 0.01, high = 0.5, log = true }
    "training.batch_size" = { low = 64, high = 256, step = 64 }
    stem = { choices = ["static", "completion"] }

A range between two whole numbers is a range of whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from anychannel.runs.config import ConfigError, RunConfig, merge, nest
from anychannel.utils.options import check_options, coerce_options

FORM = "give { low = ..., high = ... } (with log = true or step = ...) or { choices = [...] }"


class SweepError(ValueError):
    """A sweep cannot be done as requested; the message says why and what to do."""


def parse_space(values: Mapping[str, Any], prefix: str = "") -> dict[str, BaseDistribution]:
    """Read a space. Keys may be dotted or in nested tables."""
    space: dict[str, BaseDistribution] = {}
    for key, value in values.items():
        name = prefix + key
        if not isinstance(value, Mapping):
            raise SweepError(f"{name} in the space is {value!r}; {FORM}")
        if any(word in value and not isinstance(value[word], Mapping) for word in ("low", "high", "choices")):
            try:
                space[name] = parse_choices(value) if "choices" in value else parse_range(value)
            except ValueError as error:
                raise SweepError(f"{name} in the space is {dict(value)}; {error}") from error
        else:
            space |= parse_space(value, f"{name}.")
    if not space and not prefix:
        raise SweepError(f"the space is empty; for each setting to vary, {FORM}")
    return space


def parse_choices(value: Mapping[str, Any]) -> CategoricalDistribution:
    """Read ``{ choices = [...] }``."""
    choices = value["choices"]
    scalars = isinstance(choices, list) and all(isinstance(each, str | bool | int | float) for each in choices)
    if set(value) != {"choices"} or not scalars or len({*map(repr, choices)}) < max(len(choices), 1):
        raise ValueError("choices are different texts, numbers or booleans")
    return CategoricalDistribution(choices)


def parse_range(value: Mapping[str, Any]) -> IntDistribution | FloatDistribution:
    """Read ``{ low = ..., high = ... }``."""
    if "low" not in value or "high" not in value:
        raise ValueError(FORM)
    whole = isinstance(value["low"], int) and isinstance(value["high"], int)
    kind: type[IntDistribution | FloatDistribution] = IntDistribution if whole else FloatDistribution
    check_options(kind, value)
    return kind(**coerce_options(kind, value))


def typical_values(domain: BaseDistribution) -> tuple[Any, ...]:
    """All choices; or both ends of a range and, if it is continuous, a number with decimals between them."""
    if isinstance(domain, CategoricalDistribution):
        return tuple(domain.choices)
    continuous = isinstance(domain, FloatDistribution) and domain.step is None
    return (domain.low, domain.high, domain.low + (domain.high - domain.low) / math.pi)[: 3 if continuous else 2]


def check_space(recipe: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> None:
    """Refuse a space with settings or values that a recipe cannot have."""
    tried = {name: typical_values(domain) for name, domain in space.items()}
    for turn in range(max(map(len, tried.values()))):
        values = {name: options[min(turn, len(options) - 1)] for name, options in tried.items()}
        try:
            RunConfig.from_dict(merge(recipe, nest(values)))
        except ConfigError as error:
            raise SweepError(f"the recipe cannot have {values}: {error}") from error
