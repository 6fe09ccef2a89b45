"""``load_dataset``: a folder or a name to three splits of decoded images."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, as_channel_set
from anychannel.data import huggingface, shards
from anychannel.data.assemble import assemble
from anychannel.data.bands import DEFAULT_BANDS, hide_channels, make_bands, parse_count
from anychannel.data.build import decode_all
from anychannel.data.cache import make_key, memory_path, open_or_build, resolve_cache_dir
from anychannel.data.content import digest_content
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.digests import digest_files
from anychannel.data.files.names import RGB, channels_from_file, names_agree, save_file_names
from anychannel.data.files.read import ReadSettings, decode
from anychannel.data.files.resize import resize_and_crop
from anychannel.data.listing import (
    Listing,
    check_contents,
    check_splits,
    choose_classes,
    select_classes,
    warn_of_absent_classes,
)
from anychannel.data.load_huggingface import load_hf
from anychannel.data.load_stream import Request, load_wds
from anychannel.data.partial import describe_planes, find_present, resolve, tell_channels
from anychannel.data.problems import DataError, ImageError, Problems
from anychannel.data.sources import find_folder, find_form, split_name
from anychannel.data.statistics import Statistics, measure
from anychannel.utils.options import coerce_options


@dataclass(frozen=True)
class Source:
    """Data that are named by a word before a colon, and take options of their own.

    Args:
        load: takes what follows the colon, a ``Request``, and its options by keyword.
        make_absolute: what follows the colon, so that it means the same from another folder.
    """

    load: Callable[..., ImageDataset]
    make_absolute: Callable[[str], str]


SOURCES = {
    "hf": Source(load_hf, huggingface.make_absolute),
    "wds": Source(load_wds, shards.make_absolute),
}
"""By the word before the colon."""


def load_dataset(
    source: str | Path,
    *,
    channels: ChannelSet | str | Sequence[str] | None = None,
    size: int | None = None,
    classes: int | Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
    verify: bool = False,
    layout: str | None = None,
    form: str | None = None,
    nodata: float | str | None = None,
    scaled: bool = False,
    check_names: bool = True,
    partial: float = 0.0,
    **options: Any,
) -> ImageDataset:
    """Load a data set. Files are decoded once, into a cache on disk; later loads open it.

    Images may each have some of the channels only, as told by the lists or by ``channels.csv``; see ``data.partial``.

    Args:
        source: a folder (with list files, or one folder a class), or a name in ``list_datasets()``, as ``bands:8``;
            a folder of that name is ``./bands``; or what ``SOURCES`` names, as ``wds:train-{000..009}.tar``.
        channels: names of the files' channels in the files' order, or a sensor (see ``as_channel_set``). None takes
            the folder's ``channels.txt``, else the files' own names, else R, G, B for 8-bit RGB files.
        size: side of the square to which images are resized and cropped; None keeps the files' size, one for all.
        classes: use only the first so many classes, or those named; labels are counted anew in that order.
        cache_dir: folder of the cache; None takes ``$ANYCHANNEL_CACHE``, else ``~/.cache/anychannel``.
        seed: decides the split of class folders without one, and the embedded data.
        progress: show bars with the time left on standard error.
        verify: read every file again, even if neither its size nor its time of change differs from the last load's.
        layout: ``planar`` or ``interleaved``, for TIFFs and arrays that do not say which axis holds their channels.
        form: ``lists`` or ``folders``, for folders that look like both.
        nodata: for files that mark values as no data: None refuses them, ``"keep"`` takes them as they are, a number is
            put in their place.
        scaled: turn stored into physical values (float32) by the scale and offset that the files declare.
        check_names: refuse files whose own names of their channels contradict the names given.
        partial: for embedded data: share of the images that lack channels, in [0, 1]; see ``hide_channels``.
        options: of the source, where it is named by a word and a colon: see ``load_hf`` and ``load_wds``.

    Raises:
        DataError: the folder cannot be read as a data set, or lists every file that cannot be used, with the fix.
        ChannelError: the channels' names cannot be used.
        ValueError: another argument is of another type, out of range or unknown; the message says what is valid.

    Warns:
        UserWarning: a folder has the name of the embedded data that were asked for; or names channels that are
            constant, pairs of channels that no image has together, or classes without an image, over the training
            split.
    """
    given = {"size": size, "seed": seed, "layout": layout, "form": form, "nodata": nodata, "partial": partial}
    coerce_options(load_dataset, given | {"verify": verify, "scaled": scaled, "check_names": check_names})
    settings = ReadSettings(None, size, layout, nodata, scaled, check_names)
    scheme, _, rest = source.partition(":") if isinstance(source, str) else ("", "", "")
    if scheme in SOURCES:
        check_options(SOURCES[scheme].load, scheme, options)
        if form is not None or partial:
            raise ValueError(f"form and partial say nothing of {source!r}; leave them out")
        request = Request(channels, classes, cache_dir, seed, progress, verify, settings)
        return SOURCES[scheme].load(rest, request, **coerce_options(SOURCES[scheme].load, options))
    if options:
        raise TypeError(
            f"{', '.join(options)} {'is' if len(options) == 1 else 'are'} no option of load_dataset, or only of "
            f"{' and '.join(f'{name}:...' for name in SOURCES)}"
        )
    name = split_name(source) if isinstance(source, str) else None
    if name is not None:
        if Path(source).is_dir():
            message = f"{source!r} is the embedded data set; for the folder of that name give ./{source}"
            warnings.warn(message, stacklevel=2)
        if form is not None or settings != ReadSettings(size=size):
            raise ValueError(
                f"layout, form, nodata, scaled and check_names tell how to read files, but {source!r} is embedded; "
                "leave them out"
            )
        return load_bands(name[1], channels=channels, size=size, classes=classes, seed=seed, partial=partial)
    root = find_folder(source)
    if partial:
        raise ValueError(
            "partial hides channels of embedded data; of files, a third word in their list's line or channels.csv says "
            "which channels they hold"
        )
    problems = Problems()
    listing = tell_channels(find_form(root, form).read(root, problems, seed=seed), problems)
    listing = select_classes(listing, classes)
    check_splits(listing, problems)
    cache = resolve_cache_dir(cache_dir)
    digests = digest_files(listing, memory_path(cache, root), problems, verify=verify, progress=progress)
    check_contents(listing, digests, problems)
    named = name_channels(channels, listing, digests, settings)
    settings = settings.naming(named)
    holdings = resolve(listing, named, settings, problems)
    if problems:
        decode_all(listing, digests, holdings, None, problems, progress=progress)
        problems.raise_if_any(root)
    warn_of_absent_classes(listing)

    present = find_present(listing, holdings, len(named))

    def build(folder: Path) -> Statistics:
        built = decode_all(listing, digests, holdings, folder, problems, progress=progress)
        problems.raise_if_any(root)
        save_file_names(folder, built.own_names)
        return measure(built.arrays["train"], present["train"])

    contents = {split: [digests[entry.path] for entry in listing.splits[split]] for split in SPLITS}
    shaping = settings.beyond_size() | describe_planes(listing, holdings)
    key = make_key(contents, channels=len(named), size=size, layout=layout, **shaping)
    cached = open_or_build(cache, key, {split: len(contents[split]) for split in SPLITS}, build)
    if check_names and not names_agree(cached.folder, named):
        built = decode_all(listing, digests, holdings, None, problems, progress=progress)
        problems.raise_if_any(root)
        save_file_names(cached.folder, built.own_names)
    splits = {
        split: Split(
            cached.images[split],
            np.array([entry.label for entry in listing.splits[split]], dtype=np.int64),
            tuple(entry.path for entry in listing.splits[split]),
            present[split],
            contents[split],
        )
        for split in SPLITS
    }
    return assemble(root.name, named, listing.classes, splits, cached.statistics, key)


def check_options(load: Callable[..., ImageDataset], scheme: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a source does not have.

    Raises:
        TypeError: lists those that it has.
    """
    valid = [name for name, given in signature(load).parameters.items() if given.kind is given.KEYWORD_ONLY]
    for name in options:
        if name not in valid:
            raise TypeError(f"unknown option {name!r} of {scheme}:...; its options are {', '.join(valid)}")


def load_bands(
    argument: str | None,
    *,
    channels: ChannelSet | str | Sequence[str] | None,
    size: int | None,
    classes: int | Sequence[str] | None,
    seed: int,
    partial: float = 0.0,
) -> ImageDataset:
    """The embedded bands, made in memory; ``channels`` renames them, and tells their number if ``argument`` does not.

    Raises:
        ChannelError: there are not as many names as bands.
        ValueError: ``partial`` is out of range, or there is one band alone.
    """
    named = None if channels is None else as_channel_set(channels)
    count = parse_count(argument) if argument is not None else DEFAULT_BANDS if named is None else len(named)
    made = make_bands(count, seed=seed)
    if named is not None and len(named) != count:
        raise ChannelError(
            f"bands:{count} has {count} channels, but {len(named)} names are given: {', '.join(named.names)}"
        )
    kept = choose_classes(made.classes, classes)
    label_of = np.full(len(made.classes), -1)
    label_of[[made.classes.index(name) for name in kept]] = range(len(kept))
    splits = {}
    for split, whole in made.splits.items():
        rows = np.flatnonzero(label_of[whole.labels] >= 0)
        images = whole.images[rows]
        digests = [digest_content(image.tobytes()) for image in images]
        if size is not None:
            images = np.stack([resize_and_crop(image, size) for image in images])
        present = hide_channels(len(whole), count, partial, seed=seed, split=split)[rows] if partial else None
        if present is not None:
            images = np.where(present[:, :, None, None], images, 0).astype(images.dtype)
        images.flags.writeable = False
        splits[split] = Split(
            images, label_of[whole.labels[rows]], tuple(whole.paths[row] for row in rows.tolist()), present, digests
        )
    pixels = hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        pixels.update(np.ascontiguousarray(splits[split].images).data)
        present = splits[split].present
        pixels.update(b"" if present is None else np.packbits(present).tobytes())
    statistics = measure(splits["train"].images, splits["train"].present)
    return assemble(f"bands:{count}", named or made.channels, kept, splits, statistics, pixels.hexdigest())


def name_channels(
    channels: ChannelSet | str | Sequence[str] | None,
    listing: Listing,
    digests: Mapping[str, str],
    settings: ReadSettings,
) -> ChannelSet:
    """The channels' names: those given, else the folder's, else the first readable file's, else R, G, B if it is RGB.

    Raises:
        DataError: nothing names the channels; it says how many there are, or that the images each name their own.
    """
    if channels is not None:
        return as_channel_set(channels)
    if listing.channels is not None:
        return as_channel_set(listing.channels)
    whole = [entry for _, entry in listing.entries if entry.channels is None]
    if listing.entries and not whole:
        raise DataError(
            f"every image of {listing.root} names its own channels, but nothing names them all and their order; give "
            "channels='first,second,...', or write the names to channels.txt, one a line"
        )
    for entry in whole:
        if entry.path not in digests:
            continue
        try:
            found = decode(listing.read(entry), settings)
        except (ImageError, OSError):
            continue
        return channels_from_file(found, str(listing.root), entry.path)
    return RGB
