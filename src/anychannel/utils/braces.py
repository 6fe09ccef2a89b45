"""Expand braces in names, ``a-{000..009}.tar`` or ``{a,b}.tar``, to a bounded number of names."""

from __future__ import annotations

import re
from importlib import import_module
from math import prod

INNERMOST = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(-?\d{1,18}|\w)\.\.(-?\d{1,18}|\w)")
COUNT = re.compile(r"\0(\d+)\0")


def expand_braces(text: str, most: int) -> list[str]:
    """The names that a text stands for. Raises ValueError if they are more than ``most``, before it writes them out."""
    left = text.replace("\0", "")
    while INNERMOST.search(left):
        left = INNERMOST.sub(lambda group: f"\0{min(count_names(group[1]), most + 1)}\0", left)
    if count_product(left) > most:
        raise ValueError(f"{text[:100]!r} stands for more than {most:,} names; correct its braces")
    names: list[str] = list(import_module("braceexpand").braceexpand(text))  # a requirement of webdataset
    return names


def count_names(inner: str) -> int:
    """Number of names for the inside of a pair of braces, in which counts stand for inner pairs."""
    if ends := RANGE.match(inner):
        first, last = (int(end) if end.lstrip("-").isdigit() else ord(end) for end in ends.groups())
        return abs(last - first) + 1
    return sum(map(count_product, inner.split(",")))


def count_product(text: str) -> int:
    """Product of the counts in a text."""
    return prod(map(int, COUNT.findall(text)))
