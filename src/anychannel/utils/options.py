"""Values from files and flags, held to the annotations of what takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, get_args

import numpy as np


@dataclass(frozen=True)
class Kind:
    """What an annotation takes: in words, as a test, and as a plain value."""

    words: str
    fits: Callable[[Any], bool]
    plain: Callable[[Any], Any]


def is_boolean(value: Any) -> bool:
    """Python's or NumPy's, and no text or number that stands for one."""
    return isinstance(value, bool | np.bool_)


def is_number(value: Any) -> bool:
    """A number that a float can hold, and no boolean."""
    try:
        return isinstance(value, Real) and not is_boolean(value) and isinstance(float(value), float)
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    """A whole number of any type, as 2 or 2.0, and no boolean."""
    return not is_boolean(value) and (isinstance(value, Integral) or (is_number(value) and float(value).is_integer()))


def is_texts(value: Any) -> bool:
    """A list or tuple of texts."""
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


KINDS: dict[Any, Kind] = {
    bool: Kind("true or false", is_boolean, bool),
    int: Kind("a whole number", is_whole, int),
    float: Kind("a number", is_number, float),
    str: Kind("text", lambda value: isinstance(value, str), str),
    dict[str, Any]: Kind("a table", lambda value: isinstance(value, Mapping), dict),
    tuple[str, ...]: Kind("a list of texts", is_texts, tuple),
    NoneType: Kind("left out", lambda value: value is None, lambda value: value),
}
"""Annotations that values are held to; what is annotated otherwise is left to whoever takes it."""


def coerce_options(owner: Callable[..., Any], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keyword values as what a function or class says it takes: 2.0 is 2 where a whole number is due.

    Args:
        owner: whose parameters' annotations tell; names that it does not have pass through.
        values: by the parameter's name.
        prefix: what an error puts before the name.

    Raises:
        ValueError: a value is of another type; the message names it.
    """
    try:
        parameters = signature(owner, eval_str=True).parameters
    except NameError:  # annotations that only a type checker can read
        return dict(values)
    return {
        name: coerce_option(prefix + name, value, parameters[name].annotation) if name in parameters else value
        for name, value in values.items()
    }


def coerce_option(name: str, value: Any, annotation: Any) -> Any:
    """One value as an annotation of ``KINDS``, or one of several (``int | None``), says.

    Raises:
        ValueError: it is of another type.
    """
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if not all(member in KINDS for member in members):
        return value
    kinds = [KINDS[member] for member in members]
    for kind in kinds:
        if kind.fits(value):
            return kind.plain(value)
    raise ValueError(f"{name} must be {' or '.join(kind.words for kind in kinds)}, got {value!r}")
