"""Decoded images on disk: one memory-mapped ``.npy`` a split, whole or not there at all.

    <cache_dir>/images/<key>/        train.npy  val.npy  test.npy  statistics.json  names.json
    <cache_dir>/images/.partial-*    being written; renamed to <key> when whole, removed when left over
    <cache_dir>/locks/<key>.lock     held while <key> is written
    <cache_dir>/files/<folder>.json  content digests of a folder's files

The key is a digest of every file's content, in the lists' order, and of the settings that shape the pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from anychannel.data.dataset import SPLITS
from anychannel.data.problems import DataError
from anychannel.data.statistics import Statistics

FORMAT = 1
"""Raised whenever the same files and settings give other pixels."""
ENVIRONMENT_VARIABLE = "ANYCHANNEL_CACHE"
PARTIAL = ".partial-"
STATISTICS = "statistics.json"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cached:
    """Read-only images by split, the training split's statistics, and the folder that they lie in."""

    images: Arrays
    statistics: Statistics
    folder: Path


def resolve_cache_dir(cache_dir: str | Path | None) -> Path:
    """The cache's folder: the one given, else ``$ANYCHANNEL_CACHE``, else ``~/.cache/anychannel``."""
    chosen = cache_dir or os.environ.get(ENVIRONMENT_VARIABLE) or "~/.cache/anychannel"
    return Path(chosen).expanduser().resolve()


def memory_path(cache_dir: Path, root: Path) -> Path:
    """Where the content digests of ``root``'s files are kept."""
    return cache_dir / "files" / f"{hashlib.blake2b(os.fsencode(root), digest_size=16).hexdigest()}.json"


def make_key(digests: Mapping[str, Sequence[str]], **settings: object) -> str:
    """Key of the images whose files have these content digests, by split, under these settings."""
    text = json.dumps([FORMAT, {split: list(digests[split]) for split in SPLITS}, settings], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def open_or_build(
    cache_dir: Path, key: str, counts: Mapping[str, int] | None, build: Callable[[Path], Statistics]
) -> Cached:
    """Open the images under ``key``; have them built first where they are not there.

    Of several processes that ask at once, one builds and the others wait for it.

    Args:
        cache_dir: the cache's folder.
        key: see ``make_key``.
        counts: images in each split; None where they are not known before.
        build: writes ``<split>.npy`` for each split into the folder it is given, and returns the statistics.
    """
    home = cache_dir / "images" / key
    cached = open_cached(home, counts)
    if cached is not None:
        return cached
    locks = cache_dir / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(cache_dir)
    with FileLock(locks / f"{key}.lock"):
        cached = open_cached(home, counts)
        if cached is not None:
            return cached
        shutil.rmtree(home, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(dir=home.parent, prefix=f"{PARTIAL}{key}-"))
        try:
            statistics = build(partial)
            (partial / STATISTICS).write_text(json.dumps(asdict(statistics), indent=1), encoding="utf-8")
            for file in partial.iterdir():
                flush(file)
            partial.rename(home)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    cached = open_cached(home, counts)
    if cached is None:
        raise DataError(f"the cache at {home} vanished or changed while it was opened; load again")
    return cached


def open_cached(home: Path, counts: Mapping[str, int] | None) -> Cached | None:
    """Open a finished folder; None where it is missing, damaged or of other counts."""
    try:
        values = json.loads((home / STATISTICS).read_text(encoding="utf-8"))
        images = {split: np.load(home / f"{split}.npy", mmap_mode="r") for split in SPLITS}
        statistics = Statistics(
            tuple(values["mean"]),
            tuple(values["std"]),
            tuple(tuple(row) for row in values["correlation"]),
            tuple((first, second) for first, second in values.get("apart", ())),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = counts is None or {split: len(array) for split, array in images.items()} == dict(counts)
    return Cached(images, statistics, home) if whole else None


def flush(file: Path) -> None:
    """Have the system write a file's content to the disk before the folder gets its final name."""
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def remove_leftovers(cache_dir: Path) -> None:
    """Remove what killed processes left half-written; folders that a live process is writing are locked and stay."""
    for partial in (cache_dir / "images").glob(f"{PARTIAL}*"):
        key = partial.name.removeprefix(PARTIAL).split("-")[0]
        try:
            with FileLock(cache_dir / "locks" / f"{key}.lock", timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue


def check_space(folder: Path, needed: int) -> None:
    """Refuse to start writing what the disk cannot hold.

    Raises:
        DataError: fewer than ``needed`` bytes are free; it says how to use another disk.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"the decoded images need {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free; "
            f"make room, set {ENVIRONMENT_VARIABLE} or cache_dir to a folder on another disk, or take a smaller size"
        )
