"""Errors about data. Problems with single images are collected, so that one error reports all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SHOWN = 20
"""Lines of an error."""
NAMED = 5
"""Files that a line names."""
OR_CONVERT = ", or give convert='rgb'"
"""A fix for those who choose how files are read; not for images of a trained network, which are read as in training."""


class DataError(ValueError):
    """Data that cannot be used; the message names every file or line at fault and what to do about it."""


class ImageError(DataError):
    """One image that cannot be used: what is wrong with it, and what to do about it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix


class ColourError(ImageError):
    """An image whose values are not those of channels, as a palette's or CMYK's. ``convert="rgb"`` accepts it."""

    def __init__(self, what: str, fix: str = "convert it to RGB") -> None:
        super().__init__(what, f"{fix}{OR_CONVERT}")


class ShardError(DataError):
    """A shard that cannot be read to its end; the message names it and says what to do."""


@dataclass
class Problems:
    """A list of problems in the order in which they were found.

    With ``skip``, images that cannot be used are left out, and ``skipped`` holds what is wrong with each by its place.
    None means that nobody can ask for that.
    """

    skip: bool | None = None
    lines: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    images: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))

    def add(self, where: str, what: str, fix: str) -> None:
        """Note what is wrong with the file or line ``where``, and the fix. A problem that is known is not repeated."""
        self.lines.setdefault((what, fix), {})[where] = None

    def add_image(self, place: str, what: str, fix: str) -> None:
        """Note an image that cannot be used."""
        if self.skip:
            self.skipped[place] = what
        else:
            self.add(place, what, fix)
            self.images += 1

    @contextmanager
    def noting(self, place: str) -> Iterator[None]:
        """Note an ImageError that is raised inside as a problem of ``place``."""
        try:
            yield
        except ImageError as error:
            self.add(place, error.what, error.fix)

    @contextmanager
    def first(self, source: object) -> Iterator[None]:
        """If a DataError is raised inside, raise these problems in its place, as it may follow from them."""
        try:
            yield
        except DataError:
            self.raise_if_any(source)
            raise

    def raise_if_any(self, source: object) -> None:
        """Raise DataError if there are problems, in ``SHOWN`` lines; more than ``NAMED`` equal ones are one line."""
        if not self.lines:
            return
        count = len(self)
        lines: list[tuple[int, str]] = []
        for (what, fix), places in self.lines.items():
            alike = [*places]
            shown, alike = (alike, []) if len(alike) <= NAMED else (alike[:1], alike[1:])
            more = f" (also {', '.join(alike[: NAMED - 1])} and {len(alike) - NAMED + 1:,} more)" if alike else ""
            lines += [(1 + len(alike), f"\n  - {place}: {what}; {fix}{more}") for place in shown]
        text, left = "".join(line for _, line in lines[:SHOWN]), sum(number for number, _ in lines[SHOWN:])
        rest = f"\n  and {left:,} more" if left else ""
        if self.skip is False and self.images == count:
            rest += f"\n  give skip_bad=True to leave {'them' if count > 1 else 'it'} out"
        raise DataError(f"{count:,} problem{'s' * (count > 1)} in the data at {source}:{text}{rest}")
