"""Bands in separate files: which files are one image, and which channel each of them is.

A pattern says it, as ``{scene}_{band}.tif``. Fields in it:

    {scene}  {band}   what an image's files have in common, and what they differ in
    {class} {split}   folders that name the class and the split
    {res}             pixel size in metres: of several files of a band, the one with the smallest is read
    *  **/            any text in a name; any folders, or none

Folders before the pattern's first are part of the scene. A pattern whose name has no ending takes every image file. A
name in ``PATTERNS`` stands for how a sensor's files are delivered. A band is the channel with its name, in any case and
with the synonyms of ``anychannel.data.files.names``: ``nir``, ``B8`` and ``B08`` are Sentinel-2's B08.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import normpath
from pathlib import Path

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data.content import BandFiles
from anychannel.data.errors import DataError, ImageError, Problems
from anychannel.data.files.names import readings, squash
from anychannel.data.files.registry import image_suffixes
from anychannel.data.sources.source import Listing, Sample
from anychannel.sensors import SENSORS
from anychannel.utils.names import normal
from anychannel.utils.plurals import plural

FIELDS = {
    "scene": "[^/]+",
    "band": "[^/]+?",
    "class": "[^/]+",
    "split": "[^/]+",
    "res": r"\d+(?:\.\d+)?",
}
FOLDERS = "(?:[^/]+/)*?"
SUFFIX = f"(?:{'|'.join(map(re.escape, image_suffixes()))})"
TOKEN = re.compile(r"\{(\w*)\}|(\*\*/)|(\*)|([^{*]+|\{)")

COMPANIONS = ("TCI", "PVI", "AOT", "WVP", "SCL", "CLD", "SNW")
"""What lies beside the bands in ESA's products: it is left out unless a channel is named so."""
PATTERNS = {
    "sentinel2": rf"(?P<f0>{FOLDERS})(?:R\d0m/)?(?P<scene>[^/]+)_(?P<band>B\d\d|B8A|{'|'.join(COMPANIONS)})"
    rf"(?:_(?P<res>\d+)m)?{SUFFIX}",
}
"""Regular expressions for files as sensors' agencies name them. Sentinel-2's: ``T32TQM_20220101T101411_B02_10m.jp2`` in
``R10m/``, and ``..._B02.jp2``."""


@dataclass(frozen=True)
class Scene:
    """Files that are one image, by their bands' names, and what the pattern found in their paths."""

    files: dict[str, Path]
    fields: Mapping[str, str]


@dataclass
class Scenes:
    """What a pattern finds among files.

    ``unmatched`` are image files that the pattern does not fit. ``keys`` holds the scene's name of each file.
    """

    found: dict[str, Scene] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    def find(self, path: str) -> str | None:
        """Name of the scene that a path names, or of the scene whose file it names; None if there is none."""
        inside = normal(normpath(path))
        key = self.keys.get(inside, inside)
        return key if key in self.found else None

    def note_unknown(self, path: str, place: str, problems: Problems) -> None:
        """Note a path in a list that names no scene."""
        what = f"there is no file of the scene {path}; scenes are named as {next(iter(self.found))}"
        problems.add_image(f"{path} ({place})", what, "correct or remove the line")


@dataclass(frozen=True)
class BandPattern:
    """A pattern, as the user wrote it and compiled."""

    text: str
    compiled: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> BandPattern:
        """Compile a pattern. Raises ValueError if it has an unknown field, or no ``{band}`` or no ``{scene}``."""
        if text in PATTERNS:
            return cls(text, re.compile(PATTERNS[text], re.IGNORECASE))
        example = "as in '{scene}_{band}.tif' or '{band}/{scene}.tif'"
        parts, seen = [f"(?P<f0>{FOLDERS})"], list[str]()
        for number, match in enumerate(TOKEN.finditer(normal(text).removeprefix("./")), start=1):
            name, folders, star, literal = match.groups()
            if name is not None and name in seen:
                parts.append(f"(?P={name})")
            elif name is not None and name in FIELDS:
                parts.append(f"(?P<{name}>{FIELDS[name]})")
                seen.append(name)
            elif name is not None:
                raise ValueError(f"bands={text!r} has the unknown field {{{name}}}; the fields are {fields_text()}")
            elif folders:
                parts.append(f"(?P<f{number}>{FOLDERS})")
            else:
                parts.append("[^/]*" if star else re.escape(literal))
        missing = [f"{{{name}}}" for name in ("scene", "band") if name not in seen]
        if missing:
            raise ValueError(
                f"bands={text!r} does not say where a file's name has its {' and '.join(missing)}; write both, "
                f"{example}, or a sensor's name ({', '.join(PATTERNS)})"
            )
        ending = "" if re.search(SUFFIX + "$", text, re.IGNORECASE) else SUFFIX
        return cls(text, re.compile("".join(parts) + ending, re.IGNORECASE))

    def has(self, name: str) -> bool:
        """Whether the pattern has a field."""
        return name in self.compiled.groupindex

    def depth_of(self, file: Path) -> int | None:
        """How many folders above a file lies the one in which its scene is; None if the pattern does not fit.

        None, too, with ``**/``, by which a path alone does not tell.
        """
        match = None if "**/" in self.text else self.compiled.fullmatch(normal(file.absolute().as_posix().lstrip("/")))
        return None if match is None else match[0].removeprefix(match["f0"]).count("/") + 1

    def gather(self, root: Path, files: Iterable[Path], problems: Problems, place: str = "") -> Scenes:
        """Put the files together that are one image, by their paths below ``root``, which messages call ``place``.

        Two files of one band are noted as a problem, unless ``{res}`` tells which is the finer.
        """
        scenes, finest = Scenes(), dict[tuple[str, str], tuple[float, Path]]()
        for path in files:
            inside = normal(path.relative_to(root).as_posix())
            match = self.compiled.fullmatch(inside)
            if match is None:
                scenes.unmatched.append(inside)
                continue
            found = match.groupdict()
            named = [text for name, text in found.items() if name not in ("band", "res")]
            key = "/".join(part for text in named for part in (text or "").split("/") if part)
            band, metres = found["band"], float(found.get("res") or "inf")
            scenes.keys[inside] = key
            scenes.found.setdefault(key, Scene({}, found))
            before, other = finest.get((key, band), (metres, path))
            if other != path and before == metres:
                names = [one.relative_to(root).as_posix() for one in (other, path)]
                what = f"two files are its band {band!r}: {' and '.join(names)}"
                problems.add(
                    f"{place}{key}",
                    what,
                    "remove one, or name in the pattern what they differ in, as {res} or a folder",
                )
            elif other == path or metres < before:
                finest[key, band] = metres, path
        for (key, band), (_, path) in finest.items():
            scenes.found[key].files[band] = path
        return scenes

    def refuse_empty(self, place: object, scenes: Scenes) -> None:
        """Raise DataError if no file fits."""
        if not scenes.found:
            few = ", ".join(scenes.unmatched[:3])
            others = f"; it holds {few}{', ...' * (len(scenes.unmatched) > 3)}" if few else " and no image file"
            raise DataError(f"no file in {place} fits bands={self.text!r}{others}")


def fields_text() -> str:
    """The fields as they are written."""
    return ", ".join(f"{{{name}}}" for name in FIELDS)


def find_channels(bands: Sequence[str]) -> ChannelSet:
    """The channels that bands are if nobody names them: a sensor's, if all are its bands, else by their names.

    A sensor's bands have their wavelengths and the sensor's order. Other names are in the order of their numbers.
    """
    own = [band for band in bands if band.upper() not in COMPANIONS] or list(bands)
    found: dict[tuple[object, ...], str] = {}
    for sensor, known in SENSORS.items():
        names = [name for name, *_ in known.bands if name.casefold() in {band.casefold() for band in own}]
        if len(names) == len({band.casefold() for band in own}):
            found.setdefault(known.select(tuple(names)), f"{sensor}:{','.join(names)}")
    if len(found) == 1:
        (text,) = found.values()
        return as_channel_set(text)
    different = {min(readings(band), default=band): band for band in reversed(own)}
    return ChannelSet(tuple(sorted(different.values(), key=in_order)))


def in_order(name: str) -> list[tuple[int, str]]:
    """Sorts names by the numbers in them: B2 before B10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", squash(name))]


def match_bands(bands: Sequence[str], channels: ChannelSet) -> dict[str, str]:
    """The channel of each band, for bands that are one: that of its name, else of its synonym, else of what it shows.

    What a band shows is known if it has a synonym for its name, or if all are bands of one sensor. Raises DataError if
    a band may be two channels.
    """
    found = {}
    own = find_channels(bands)
    shown = {name.casefold(): kind for name, kind in zip(own.names, own.kinds, strict=True)}
    for band in bands:
        kind, named = shown.get(band.casefold()), [(name, readings(name)) for name in channels.names]
        kinds = [readings(text) if text else set() for text in channels.kinds]
        mine = readings(band) | (readings(kind) if kind else set())
        fits = (
            [name for name in channels.names if name.casefold() == normal(band).casefold()]
            or [name for name, theirs in named if readings(band) & theirs]
            or [name for (name, theirs), shows in zip(named, kinds, strict=True) if mine & (theirs | shows)]
        )
        if len(fits) > 1:
            raise DataError(f"band {band!r} may be the channels {' and '.join(fits)}; rename one of them")
        if fits:
            (found[band],) = fits
    return found


def name_planes(files: Mapping[str, Path], known: Mapping[str, str]) -> BandFiles:
    """An image's files by their channels, in the order of their names. Raises ImageError if two are one channel.

    The order does not depend on the channels', as a cached image of these files and planes may have another one.
    """
    mine: dict[str, str] = {}
    for band in files:
        if band in known and mine.setdefault(known[band], band) != band:
            both = [files[one].name for one in (mine[known[band]], band)]
            raise ImageError(f"{' and '.join(both)} both are its channel {known[band]}", "keep one of them")
    return BandFiles({name: files[mine[name]] for name in sorted(mine)})


def files_of(sample: Sample) -> Mapping[str, Path]:
    """A sample's files by band."""
    return sample.image.files if isinstance(sample.image, BandFiles) else {}


def name_bands(
    root: Path,
    splits: Mapping[str, Sequence[Sample]],
    channels: ChannelSet | None,
    pattern: BandPattern,
    unmatched: Sequence[str],
    problems: Problems,
) -> tuple[ChannelSet, Listing]:
    """The channels and the samples with a file for each channel that they have.

    ``channels`` are those asked for; None: those that the bands are. ``unmatched`` are image files beside the samples.
    Samples without a file of any channel are left out. Wrong samples are noted and left out.

    Raises DataError if there is no file, or none is of a channel.
    """
    bands = list(dict.fromkeys(band for samples in splits.values() for one in samples for band in files_of(one)))
    if not bands:
        problems.raise_if_any(root)
        pattern.refuse_empty(root, Scenes(unmatched=list(unmatched)))
    asked, channels = channels is not None, find_channels(bands) if channels is None else channels
    known = match_bands(bands, channels)
    if not known:
        raise DataError(
            f"{root} has files of the bands {', '.join(bands)}, and none is one of the channels "
            f"{', '.join(channels.names)}; name the channels as the files do"
        )
    named: Listing = {split: [] for split in splits}
    for split, samples in splits.items():
        for sample in samples:
            with problems.noting(sample.place):
                files = name_planes(files_of(sample), known).files
                absent = [name for name in sample.channels or () if name in channels.names and name not in files]
                if absent:
                    what = f"there is no file of its channel {', '.join(absent)}"
                    problems.add(sample.channels_from or sample.where, what, "leave it out, or add the file")
                    continue
                held = tuple(files) if sample.channels is None else sample.channels
                image = BandFiles({name: files[name] for name in held if name in files})
                if image.files:
                    named[split].append(replace(sample, image=image, channels=held))
    left = describe_left([] if asked else [band for band in bands if band not in known], unmatched, pattern)
    if left:
        warnings.warn(f"{root}: left out are {left}", stacklevel=6)
    return channels, named


def describe_left(bands: Sequence[str], unmatched: Sequence[str], pattern: BandPattern) -> str:
    """What of the image files is not read, as the end of a sentence; "" if nothing."""
    texts = [f"the files of {', '.join(sorted(bands, key=in_order))} (name channels so to read them)"] if bands else []
    if unmatched:
        few = ", ".join(unmatched[:3]) + ", ..." * (len(unmatched) > 3)
        texts.append(f"{plural(len(unmatched), 'image file')} that bands={pattern.text!r} does not fit ({few})")
    return " and ".join(texts)
