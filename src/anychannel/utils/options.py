"""Checks of option values from files and flags against the annotations of the function that takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from inspect import Parameter, signature
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args

import numpy as np

from anychannel.utils.names import unknown_name


class Kind(NamedTuple):
    """The values that an annotation accepts: a description for messages, a check, and a conversion to the type."""

    description: str
    fits: Callable[[Any], bool]
    plain: Callable[[Any], Any]


def is_boolean(value: Any) -> bool:
    """Whether a value is a Python or NumPy boolean."""
    return isinstance(value, bool | np.bool_)


def is_number(value: Any) -> bool:
    """Whether a value is a number that fits into a float, and not a boolean."""
    try:
        return isinstance(value, Real) and not is_boolean(value) and isinstance(float(value), float)
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of any type (2 or 2.0), and not a boolean."""
    return not is_boolean(value) and (isinstance(value, Integral) or (is_number(value) and float(value).is_integer()))


def is_texts(value: Any) -> bool:
    """Whether a value is a list or tuple of strings."""
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
"""The annotations that values are checked against. Values with any other annotation are not checked."""


def check_options(
    owner: Callable[..., Any], names: Iterable[str], prefix: str = "", *, reserved: Collection[str] = ()
) -> None:
    """Refuse names that are no keyword parameters of a function or class, or that are ``reserved``.

    ``prefix`` stands before each name in messages, as ``"training."``.
    """
    taken = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    valid = [key for key, each in signature(owner).parameters.items() if each.kind in taken and key not in reserved]
    for name in names:
        if name not in valid:
            raise ValueError(unknown_name("setting", prefix + name, [prefix + each for each in valid]))


def coerce_options(owner: Callable[..., Any], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Convert keyword values to the types that a function or class is annotated with: 2.0 becomes 2 for ``int``.

    Names that it does not have pass through. ``prefix`` stands before the name in messages.
    """
    try:
        parameters = signature(owner, eval_str=True).parameters
    except NameError:  # an annotation that only a type checker can resolve
        return dict(values)
    return {
        name: coerce_option(prefix + name, value, parameters[name].annotation) if name in parameters else value
        for name, value in values.items()
    }


def registry_options(
    kind: str, name: str, owner: Callable[..., Any], options: Mapping[str, Any], *, reserved: Collection[str] = ()
) -> dict[str, Any]:
    """Check and convert the options of one entry of a registry, as of the stem ``dofa``, before it is called.

    Raises:
        ValueError: an option is unknown or reserved, or has another type; the message names the entry.
    """
    try:
        check_options(owner, options, reserved=reserved)
    except ValueError as error:
        raise ValueError(f"{kind} {name!r} does not take these options: {error}") from None
    return coerce_options(owner, options)


def coerce_option(name: str, value: Any, annotation: Any) -> Any:
    """Convert one value to an annotation of ``KINDS`` or to a union of them (``int | None``)."""
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if not all(member in KINDS for member in members):
        return value
    kinds = [KINDS[member] for member in members]
    for kind in kinds:
        if kind.fits(value):
            return kind.plain(value)
    raise ValueError(f"{name} must be {' or '.join(kind.description for kind in kinds)}, got {value!r}")
