"""What the files call their channels, kept with their decoded images.

Names given for the channels shape no pixel, so that images in the cache serve whatever names are given. A wrong order
has to be noticed all the same, without decoding again.
"""

from __future__ import annotations

import json
from pathlib import Path

from anychannel.channels import ChannelSet, Subset
from anychannel.data.band_names import check_names
from anychannel.utils.files import write_text

OwnNames = set[tuple[Subset, tuple[str | None, ...]]]
"""Each way in which the files name their planes: the planes' channels, by position, and the file's names for them."""

FILE = "names.json"


def write_names(folder: Path, found: OwnNames) -> None:
    """Keep them in a folder of the cache."""
    write_text(folder / FILE, json.dumps(sorted((one for one in found if any(one[1])), key=repr)))


def names_agree(folder: Path, named: ChannelSet) -> bool:
    """Whether the files whose images lie in a folder of the cache call their channels as these are; False too where
    it does not say.
    """
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        for planes, names in found:
            given = named.select([named.names[position] for position in planes])
            if len(names) == len(given):
                check_names(names, given.names, given.kinds)
    except (OSError, ValueError, TypeError, IndexError):  # an ImageError is a ValueError
        return False
    return True
