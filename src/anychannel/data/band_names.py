"""Compare the names that a file gives its channels with the names that were given for them.

A wrong order of bands shows in no shape and no type, only in a bad result. So where a file names its channels, each
name has to agree with the one given for its place: as written, by the channel's kind, or by a part of the file's own
text ("B4, central wavelength 665 nm" is B04). Case, spaces and leading zeros do not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from anychannel.data.errors import ImageError

SHORT = {"nearinfrared": "nir", "shortwaveinfrared": "swir", "thermalinfrared": "tir", "panchromatic": "pan"}
NUMBERED = re.compile(r"(band|channel|chan|ch|b|c|layer|sample|image|channel:0)[ _:#-]*(\d+)", re.IGNORECASE)
PARTS = re.compile(r"[,;:()\[\]/|]")


def squash(text: str) -> str:
    """``"B04"`` and ``"b 4"`` -> ``"b4"``, ``"near infrared"`` -> ``"nir"``."""
    words = re.findall(r"[^\W\d_]+|\d+", text.casefold())
    joined = "".join(word.lstrip("0") or "0" if word.isdecimal() else word for word in words)
    for long, short in SHORT.items():
        joined = joined.replace(long, short)
    return re.sub(r"^band(?=\d)", "b", joined)


def readings(text: str) -> set[str]:
    """The whole text and its parts, squashed; a part that is nothing but a number says nothing."""
    found = {squash(part) for part in (text, text.split()[0], *PARTS.split(text)) if part.strip()}
    return {reading for reading in found if reading and not reading.isdecimal()}


def telling(own: Sequence[str | None]) -> tuple[str | None, ...]:
    """The file's names, without those that say nothing: empty ones, and all where they only count the channels."""
    names = [name.strip() if name and name.strip() else None for name in own]
    numbers = [NUMBERED.fullmatch(name) for name in names if name]
    counted = [int(match[2]) for match in numbers if match]
    if counted and len(counted) == len(names) and counted in (list(range(len(names))), list(range(1, len(names) + 1))):
        return (None,) * len(names)
    return tuple(names)


def check_names(own: Sequence[str | None], given: Sequence[str], kinds: Sequence[str | None] = ()) -> None:
    """Refuse names that contradict the file's own.

    Args:
        own: what the file calls its channels, None where it does not say.
        given: what they were said to be, in the same order and of the same number.
        kinds: what the given channels show, where known; a file may say that instead.

    Raises:
        ImageError: the order differs, or a name is another; it lists both.
    """
    named = telling(own)
    accepted = [
        readings(name) | (readings(kind) if kind else set())
        for name, kind in zip(given, kinds or (None,) * len(given), strict=True)
    ]
    found = [None if name is None else readings(name) for name in named]
    if all(reading is None or reading & accepted[place] for place, reading in enumerate(found)):
        return
    theirs = ", ".join(name or "(unnamed)" for name in named)
    both = f"the file says {theirs}; given was {', '.join(given)}"
    if all(reading is None or any(reading & names for names in accepted) for reading in found):
        raise ImageError(
            f"its channels are in another order: {both}",
            "name them in the files' order, or give check_names=False if the file is wrong",
        )
    raise ImageError(
        f"it names its channels otherwise: {both}", "give the file's names, or check_names=False if yours mean the same"
    )
