"""The limit on what an image unfolds to: a file of a megabyte can declare more than memory holds."""

from __future__ import annotations

import os

from anychannel.data.errors import ImageError

MAX_VALUES = 200_000_000
"""Default limit, in pixels times channels: 4,096 x 4,096 of 11 channels, or 1.6 GB while it is resized."""

VARIABLE = "ANYCHANNEL_MAX_VALUES"
"""Environment variable that sets another limit."""


def check_extent(values: int, verb: str = "decodes to") -> None:
    """Refuse an image of more values than the limit. Decoders call this before they allocate memory for pixels."""
    text = os.environ.get(VARIABLE) or str(MAX_VALUES)
    if not text.isdecimal():
        raise ValueError(f"{VARIABLE} is the largest number of values of an image, got {text!r}")
    if values > int(text):
        raise ImageError(
            f"it {verb} {values:,} values, more than the limit of {int(text):,}",
            f"cut or scale it down, or set {VARIABLE} to a larger number",
        )
