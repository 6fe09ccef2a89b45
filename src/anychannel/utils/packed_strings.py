"""Many strings in one array: a tuple of 250,000 short ones takes 20 to 30 MB, packed they take a third of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import overload

import numpy as np


class PackedStrings(Sequence[str]):
    """A read-only sequence of strings, equal to any sequence of the same strings."""

    __slots__ = ("data", "ends")

    def __init__(self, strings: Iterable[str]) -> None:
        parts = [text.encode("utf-8", "surrogatepass") for text in strings]
        self.data = b"".join(parts)
        self.ends = np.fromiter(accumulate(map(len, parts), initial=0), np.int64, len(parts) + 1)

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> tuple[str, ...]: ...

    def __getitem__(self, row: int | slice) -> str | tuple[str, ...]:
        if isinstance(row, slice):
            return tuple(self[i] for i in range(*row.indices(len(self))))
        place = range(len(self))[row]
        return self.data[self.ends[place] : self.ends[place + 1]].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))
