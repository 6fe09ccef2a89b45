"""JSON values as typed records: the fields of a dataclass or TypedDict are the keys of the JSON object."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints


def parse(kind: Any, value: Any) -> Any:
    """Convert what ``json.loads`` gives to a type; ValueError, which names the field, if it does not fit.

    The type is a dataclass, a TypedDict, ``tuple[X, ...]``, ``dict[str, X]``, ``X | None``, a plain type or Any. Keys
    that it does not name are ignored, and so is ``null`` where a field has a default. A number for ``float | None``
    that is not finite, or not a number, becomes None.
    """
    if kind is Any:
        return value
    if kind in (bool, int, float, str):
        if isinstance(value, int if kind is float else kind) or (kind is float and isinstance(value, float)):
            return kind(value)
        raise ValueError(f"expected {kind.__name__}, got {str(value)[:40]!r}")
    origin, members = get_origin(kind), get_args(kind)
    if origin is UnionType or NoneType in members:
        return number(value) if float in members else None if value is None else parse(members[0], value)
    if origin is tuple and isinstance(value, list):
        if members[0] is int and all(type(each) is int for each in value):
            return tuple(value)  # a confusion matrix has many
        return tuple(parse(members[0], each) for each in value)
    if not isinstance(value, dict):
        raise ValueError(f"expected {'a list' if origin is tuple else 'an object'}, got {str(value)[:40]!r}")
    if origin is dict:
        return {key: parse_field(key, members[1], each) for key, each in value.items()}
    types, required = layout(kind)
    missing = required - value.keys()
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} missing")
    given = {name: each for name, each in value.items() if name in types and (each is not None or name in required)}
    return kind(**{name: parse_field(name, types[name], each) for name, each in given.items()})


def parse_field(name: str, kind: Any, value: Any) -> Any:
    """``parse``, with the field's name in the message of an error."""
    try:
        return parse(kind, value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@cache
def layout(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The types of a record's fields, and the names of those without a default."""
    types = get_type_hints(kind)
    if not is_dataclass(kind):
        return types, frozenset(kind.__required_keys__)
    optional = {field.name for field in fields(kind) if (field.default, field.default_factory) != (MISSING, MISSING)}
    return types, frozenset(types.keys() - optional)


def number(value: Any) -> float | None:
    """``value`` as a finite float, or None if it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
