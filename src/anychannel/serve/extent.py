"""Limit the decoded size of an upload, read from its header: a small file can unfold to more than memory holds."""

from __future__ import annotations

from anychannel.data.errors import ImageError
from anychannel.data.files.registry import count_values

MOST_VALUES = 200_000_000
"""Pixels times channels: 4,096 x 4,096 of 11 channels, or 1.6 GB while it is resized."""


def check_extent(data: bytes, most: int = MOST_VALUES) -> None:
    """Refuse a file that would decode to more than ``most`` values.

    Files without a legible header pass, because decoding reports what is wrong with them.

    Raises:
        ImageError: it is too large.
    """
    try:
        values = count_values(data)
    except ImageError:
        return
    if values is not None and values > most:
        raise ImageError(
            f"it decodes to {values:,} values, more than the {most:,} that this service takes", "cut or scale it down"
        )
