"""Channel names in files: compare them with the names given by the user, or take them where none are given.

A wrong order of bands does not show in the shape or type of an array, only in a bad result. So if a file names its
channels, each name has to agree with the given one or with the channel's kind. Whole names decide, those between
separators included: "B4, central wavelength 665 nm" is B04, "red edge 1" is not red. Case, spaces and leading zeros do
not count, and ``SYNONYMS`` are one name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.errors import DataError, ImageError
from anychannel.data.files.decoded import Decoded
from anychannel.utils.names import normal

RGB = ChannelSet(("R", "G", "B"))

SYNONYMS: dict[str, tuple[str, ...]] = {
    "coastal aerosol": ("coastal", "aerosol"),
    "blue": ("B",),
    "green": ("G",),
    "red": ("R",),
    "red edge 1": ("rededge071", "RE1"),
    "red edge 2": ("rededge075", "RE2"),
    "red edge 3": ("rededge078", "RE3"),
    "near infrared": ("NIR",),
    "narrow near infrared": ("narrow NIR", "NIR narrow", "near infrared narrow", "nir08"),
    "water vapour": ("water vapor", "nir09"),
    "shortwave infrared 1": ("SWIR 1", "swir16"),
    "shortwave infrared 2": ("SWIR 2", "swir22"),
    "thermal infrared 1": ("TIR 1", "TIRS 1", "lwir11"),
    "thermal infrared 2": ("TIR 2", "TIRS 2", "lwir12"),
    "panchromatic": ("pan",),
    "Hoechst 33342": ("Hoechst",),
    "MitoTracker Deep Red": ("MitoTracker",),
}
"""Other names for the kinds in ``anychannel.sensors``: the common band names of STAC's Electro-Optical extension 2.0
(with Sentinel-2's bands in its table), the abbreviations in ESA's SentiWiki and in USGS's band designations, the short
names of dyes in Bray et al. 2016."""

MASK = re.compile(r"(?<![a-z])(scl|qa|qc|fmask|labels?|classification)(?![a-z])|mask(?![a-z])", re.IGNORECASE)
"""Channels of classes or flags, whose values do not mix."""

NUMBERED = re.compile(r"(band|channel|chan|ch|b|c|layer|sample|image|channel:0)[ _:#-]*(\d+)", re.IGNORECASE)
PARTS = re.compile(r"[,;:()\[\]/|]|\s[-\N{EN DASH}]\s")


def squash(text: str) -> str:
    """``"B04"``, ``"b 4"`` and ``"Band 4"`` -> ``"b4"``."""
    words = re.findall(r"[^\W\d_]+|\d+", normal(text).casefold())
    joined = "".join(word.lstrip("0") or "0" if word.isdecimal() else word for word in words)
    return re.sub(r"^band(?=\d)", "b", joined)


KINDS = {squash(name): squash(kind) for kind, names in SYNONYMS.items() for name in names}


def is_mask(name: str, kind: str | None = None) -> bool:
    """Whether a channel holds classes or flags, as Sentinel-2's SCL and Landsat's QA_PIXEL do."""
    return any(MASK.search(text) for text in (name, kind or ""))


def readings(text: str) -> set[str]:
    """Return the whole text and its parts, squashed, without plain numbers; one name for all synonyms."""
    found = {squash(part) for part in (text, *PARTS.split(text))}
    return {KINDS.get(reading, reading) for reading in found if reading and not reading.isdecimal()}


def informative_names(own: Sequence[str | None]) -> tuple[str | None, ...]:
    """Return the file's names with None for empty ones, and for all if they only number the channels."""
    names = [name.strip() if name and name.strip() else None for name in own]
    numbers = [NUMBERED.fullmatch(name) for name in names if name]
    counted = [int(match[2]) for match in numbers if match]
    if counted and len(counted) == len(names) and counted in (list(range(len(names))), list(range(1, len(names) + 1))):
        return (None,) * len(names)
    return tuple(names)


def check_names(own: Sequence[str | None], given: Sequence[str], kinds: Sequence[str | None] = ()) -> None:
    """Refuse given names that contradict the file's own, in order or meaning, unless it names another number of them.

    ``own`` has None for a channel without a name. A file may also use the ``kinds`` of the given channels as names.
    """
    if len(own) != len(given):
        return
    named = informative_names(own)
    accepted = [
        readings(name) | (readings(kind) if kind else set())
        for name, kind in zip(given, kinds or (None,) * len(given), strict=True)
    ]
    found = [None if name is None else readings(name) for name in named]
    known = set().union(*accepted)
    if all(
        reading is None or (reading & mine and not (reading - mine) & known)  # "B05 (red)" is not B04 if there is a B05
        for reading, mine in zip(found, accepted, strict=True)
    ):
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


def channels_from_file(found: Decoded, source: str, place: str, *, file: bool = True) -> ChannelSet:
    """Return the channels that the first readable image names itself; R, G, B for an 8-bit RGB picture.

    ``source`` and ``place`` name the data set and the image in the error; ``file`` says whether the user may also write
    names to a file in the data folder.
    """
    own = [name for name in informative_names(found.names) if name]
    if len(own) == len(found.pixels):
        return ChannelSet(tuple(own))
    if found.meaning == "RGB" and found.pixels.dtype == np.uint8:
        return RGB
    raise DataError(
        f"nothing names the channels of {source}; {place} has {len(found.pixels)} of "
        f"{found.pixels.dtype.name}{found.meaning and f' ({found.meaning})'}. Give channels='first,second,...' in "
        f"the files' order{', or write the names to channels.txt, one a line' if file else ''}"
    )
