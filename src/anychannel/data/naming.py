"""The channels' names where nobody gave any: what an image itself says."""

from __future__ import annotations

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.band_names import telling
from anychannel.data.decoded import Decoded
from anychannel.data.errors import DataError

RGB = ChannelSet(("R", "G", "B"))


def own_names(found: Decoded, source: str, place: str, *, file: bool = True) -> ChannelSet:
    """The names that an image tells, or R, G, B if it is an 8-bit RGB picture.

    Args:
        found: the first image that could be read.
        source, place: the data set and where in it the image lies, for messages.
        file: whether names may also be written to a file in the data folder.

    Raises:
        DataError: it tells none; the message says what it holds and how to name the channels.
    """
    own = [name for name in telling(found.names) if name]
    if len(own) == len(found.pixels):
        return ChannelSet(tuple(own))
    if found.meaning == "RGB" and found.pixels.dtype == np.uint8:
        return RGB
    raise DataError(
        f"nothing names the channels of {source}; {place} has {len(found.pixels)} of "
        f"{found.pixels.dtype.name}{found.meaning and f' ({found.meaning})'}. Give channels='first,second,...' in "
        f"the files' order{', or write the names to channels.txt, one a line' if file else ''}"
    )
