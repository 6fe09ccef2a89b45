"""``load_dataset``: a folder or a name to three splits of decoded images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data import list_files
from anychannel.data.build import decode_all
from anychannel.data.cache import make_key, memory_path, open_or_build, resolve_cache_dir
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.decode import ReadSettings, decode
from anychannel.data.digests import digest_files
from anychannel.data.listing import Listing, check_splits, select_classes
from anychannel.data.problems import DataError, ImageError, Problems
from anychannel.data.statistics import Statistics, measure, with_statistics

FOLDERS: dict[str, ModuleType] = {
    "lists": list_files,
}


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
) -> ImageDataset:
    """Load a data set; its files are decoded once, later loads open the decoded arrays."""
    root = Path(source).expanduser().resolve()
    problems = Problems()
    listing = select_classes(list_files.read(root, problems, seed=seed), classes)
    check_splits(listing, problems)
    cache = resolve_cache_dir(cache_dir)
    places = [(entry.path, entry.where) for split in SPLITS for entry in listing.splits[split]]
    digests = digest_files(root, places, memory_path(cache, root), problems, verify=verify, progress=progress)
    check_contents(listing, digests, problems)
    named = name_channels(channels, listing, digests, layout)
    settings = ReadSettings(named.names, size, layout)
    contents = {split: [digests.get(e.path, "") for e in listing.splits[split]] for split in SPLITS}
    key = make_key(contents, channels=len(named), size=size, layout=layout)

    def build(folder: Path) -> Statistics:
        arrays = decode_all(listing, digests, settings, folder, problems, progress=progress)
        problems.raise_if_any(root)
        return measure(arrays["train"])

    cached = open_or_build(cache, key, {split: len(listing.splits[split]) for split in SPLITS}, build)
    splits = {
        split: Split(
            cached.images[split],
            np.array([entry.label for entry in listing.splits[split]], dtype=np.int64),
            tuple(entry.path for entry in listing.splits[split]),
        )
        for split in SPLITS
    }
    labels = {split: splits[split].labels.tolist() for split in SPLITS}
    fingerprint = hashlib.blake2b(
        json.dumps([key, labels, listing.classes, named.names]).encode(), digest_size=16
    ).hexdigest()
    return ImageDataset(
        root.name, with_statistics(named, cached.statistics), listing.classes, **splits, fingerprint=fingerprint
    )


def check_contents(listing: Listing, digests: Mapping[str, str], problems: Problems) -> None:
    """Note files of the same content in two splits."""
    seen: dict[str, tuple[str, str]] = {}
    for split in SPLITS:
        for entry in listing.splits[split]:
            digest = digests.get(entry.path)
            if digest is None:
                continue
            first_split, first_path = seen.setdefault(digest, (split, entry.path))
            if first_split != split and first_path != entry.path:
                problems.add(
                    entry.path,
                    f"the same content as {first_path}, which is in {first_split}, while this is in {split} (leakage)",
                    "keep one of them",
                )


def name_channels(
    channels: ChannelSet | str | Sequence[str] | None,
    listing: Listing,
    digests: Mapping[str, str],
    layout: str | None,
) -> ChannelSet:
    """The channels' names: those given, else the folder's own, else R, G, B where the files are RGB."""
    if channels is not None or listing.channels is not None:
        return as_channel_set(channels if channels is not None else listing.channels or ())
    for split in SPLITS:
        for entry in listing.splits[split]:
            if entry.path not in digests:
                continue
            try:
                decoded = decode((listing.root / entry.path).read_bytes(), ReadSettings(layout=layout))
            except (ImageError, OSError):
                continue
            if decoded.meaning == "RGB" and decoded.pixels.dtype == np.uint8:
                return ChannelSet(("R", "G", "B"))
            raise DataError(
                f"{entry.path} has {len(decoded.pixels)} channels and nothing names them; "
                "give channels='first,second,...' in the files' order, or write the names to channels.txt, one a line"
            )
    return ChannelSet(("R", "G", "B"))


def list_datasets() -> list[str]:
    """Names that ``load_dataset`` takes beside folders."""
    return []
