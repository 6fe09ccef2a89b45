"""Expand braces in names, ``a-{000..009}.tar`` or ``{a,b}.tar``, to a bounded number of names."""

from __future__ import annotations

import re
from importlib import import_module
from math import prod

INNERMOST = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(-?\d{1,18}|\w)\.\.(-?\d{1,18}|\w)")


def expand_braces(text: str, most: int) -> list[str]:
    """The names that a text stands for. Raises ValueError if they are more than ``most``, before it writes them out."""

    def product(part: str) -> int:
        return prod(map(int, re.findall(r"\0(\d+)\0", part)))  # of the counts that stand for pairs of braces

    def count(pair: re.Match[str]) -> str:
        found = sum(map(product, pair[1].split(",")))
        if ends := RANGE.match(pair[1]):
            first, last = (int(end) if end.lstrip("-").isdigit() else ord(end) for end in ends.groups())
            found = abs(last - first) + 1
        return f"\0{min(found, most + 1)}\0"

    left = text.replace("\0", "")
    while INNERMOST.search(left):
        left = INNERMOST.sub(count, left)
    if product(left) > most:
        raise ValueError(f"{text[:100]!r} stands for more than {most:,} names; correct its braces")
    names: list[str] = list(import_module("braceexpand").braceexpand(text))  # a requirement of webdataset
    return names
