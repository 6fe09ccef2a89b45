"""Errors about data. Problems with single images are collected, so that one error reports all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SHOWN = 20


class DataError(ValueError):
    """Data that cannot be used; the message names every file or line at fault and what to do about it."""


class ImageError(DataError):
    """One image that cannot be used: what is wrong with it, and what to do about it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix


class ShardError(DataError):
    """A shard that cannot be read to its end; the message names it and says what to do."""


@dataclass
class Problems:
    """A list of problems in the order in which they were found."""

    lines: dict[str, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, where: str, what: str, fix: str) -> None:
        """Note what is wrong with the file or line ``where``, and the fix. A problem that is known is not repeated."""
        self.lines[f"{where}: {what}; {fix}"] = None

    @contextmanager
    def noting(self, place: str) -> Iterator[None]:
        """Note an ImageError that is raised inside as a problem of ``place``."""
        try:
            yield
        except ImageError as error:
            self.add(place, error.what, error.fix)

    def raise_if_any(self, source: object) -> None:
        """Raise DataError if there are problems: it lists the first ``SHOWN``, then how many more there are."""
        if not self.lines:
            return
        count = len(self.lines)
        shown = "".join(f"\n  - {line}" for line in list(self.lines)[:SHOWN])
        rest = f"\n  and {count - SHOWN:,} more" if count > SHOWN else ""
        raise DataError(f"{count:,} problem{'s' * (count > 1)} in the data at {source}:{shown}{rest}")
