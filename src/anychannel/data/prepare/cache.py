"""Decoded images on disk: one memory-mapped ``.npy`` per split, whole or not there at all.

    <cache_dir>/images/<sketch>-<key>/   train.npy  val.npy  test.npy  index.json, with a checksum of each block
    <cache_dir>/images/.partial-*        being written; renamed when whole, removed when left over
    <cache_dir>/locks/<sketch>.lock      held while images are written
    <cache_dir>/files/<folder>.json      content digests of a folder's files
    <cache_dir>/names/<key>.json         what first images call their channels

The sketch is known before any image is read: for files it is a digest of their sizes and of the settings that shape the
pixels. The key is a digest of every file's content, in the lists' order, and of the same settings. So files whose
sketch is new are read once, hashed and decoded together.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from anychannel.data.content import Stamp
from anychannel.data.errors import DataError, Problems
from anychannel.data.sources.source import Sample
from anychannel.data.workers import count_workers
from anychannel.utils.checksums import dump_signed, find_checksums, load_signed
from anychannel.utils.files import write_text
from anychannel.utils.progress import progress_bar

ENVIRONMENT_VARIABLE = "ANYCHANNEL_CACHE"
PARTIAL = ".partial-"
INDEX = "index.json"
FORMAT = 5
"""Raised whenever the same sources and settings give another index or other pixels."""
SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within its clock's tick: do not remember it."""


@dataclass(frozen=True)
class Cached:
    """Read-only images by split, and what else is known of them (see ``survey.py``)."""

    images: dict[str, np.ndarray]
    index: dict[str, Any]
    key: str


def resolve_cache_dir(cache_dir: str | Path | None) -> Path:
    """The cache's folder: the one given, else ``$ANYCHANNEL_CACHE``, else ``~/.cache/anychannel``."""
    chosen = cache_dir or os.environ.get(ENVIRONMENT_VARIABLE) or "~/.cache/anychannel"
    return Path(chosen).expanduser().resolve()


def open_or_build(
    cache_dir: Path, sketch: str, find_key: Callable[[], str], build: Callable[[Path], tuple[str, dict[str, Any]]]
) -> Cached:
    """Open images; have them built first if they are not there.

    The sketch is what is known of the images before they are read. ``find_key`` returns the key; it is called if there
    are images of this sketch. ``build`` writes ``<split>.npy`` into the folder it is given, and returns the key and the
    index. Of several processes that ask at once, one builds and the others wait for it.
    """
    cached = find_cached(cache_dir, sketch, find_key)
    if cached is not None:
        return cached
    locks, images = cache_dir / "locks", cache_dir / "images"
    with writing(cache_dir), ExitStack() as stack:
        locks.mkdir(parents=True, exist_ok=True)
        images.mkdir(parents=True, exist_ok=True)
        remove_leftovers(cache_dir)
        stack.enter_context(FileLock(locks / f"{sketch}.lock"))
        cached = find_cached(cache_dir, sketch, find_key, told=True)
        if cached is not None:
            return cached
        partial = Path(tempfile.mkdtemp(dir=images, prefix=f"{PARTIAL}{sketch}-"))
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        key, index = build(partial)
        home = images / f"{sketch}-{key}"
        sums = {file.name: find_checksums(file) for file in partial.iterdir()}
        (partial / INDEX).write_text(dump_signed({"format": FORMAT, "checksums": sums, **index}), encoding="utf-8")
        for file in partial.iterdir():  # on the disk before the folder gets its final name
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        if home.is_file():
            home.unlink()
        shutil.rmtree(home, ignore_errors=True)
        partial.rename(home)
        cached = open_cached(home, key)
    if cached is None:
        raise DataError(f"the cache at {home} vanished or changed while it was opened; load again")
    return cached


@contextmanager
def writing(cache_dir: Path) -> Iterator[None]:
    """Turn an error of the system, such as a full disk, into a DataError that says how to use another folder."""
    try:
        yield
    except OSError as error:
        room = "make room there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise DataError(
            f"the decoded images cannot be written to {cache_dir} ({error.strerror or error}); {room}set "
            f"{ENVIRONMENT_VARIABLE} or cache_dir to another folder"
        ) from error


def find_cached(cache_dir: Path, sketch: str, find_key: Callable[[], str], *, told: bool = False) -> Cached | None:
    """Open the images of a sketch; None if there are none, or not with this key. ``told`` warns of damaged ones."""
    if not any((cache_dir / "images").glob(f"{sketch}-*")):
        return None
    key = find_key()
    return open_cached(cache_dir / "images" / f"{sketch}-{key}", key, told=told)


def open_cached(home: Path, key: str, *, told: bool = False) -> Cached | None:
    """Open a finished folder; None if it is missing or damaged."""
    try:
        index = load_signed((home / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']}, that of this version of anychannel {FORMAT}")
        for name, sums in index["checksums"].items():
            if find_checksums(home / name) != sums:
                raise ValueError(f"{name} is damaged")
        images = {split: np.load(home / f"{split}.npy", mmap_mode="r") for split in index["arrays"]}
    except (OSError, ValueError) as error:
        if told and home.exists():
            warnings.warn(f"the images in the cache {home} are decoded again, since {error}", stacklevel=2)
        return None
    return Cached(images, index, key)


def remove_leftovers(cache_dir: Path) -> None:
    """Remove what killed processes left half-written; folders that a live process is writing are locked and stay."""
    for partial in (cache_dir / "images").glob(f"{PARTIAL}*"):
        sketch = partial.name.removeprefix(PARTIAL).split("-")[0]
        try:
            with FileLock(cache_dir / "locks" / f"{sketch}.lock", timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue


def check_space(folder: Path, needed: int) -> None:
    """Raise DataError if fewer than ``needed`` bytes are free; it says how to use another disk."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"the decoded images need {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free; "
            f"make room, set {ENVIRONMENT_VARIABLE} or cache_dir to a folder on another disk, or take a smaller size"
        )


class FileDigests:
    """Content digests of the files of one source, remembered by size and time of change.

    ``place`` is the source, by which it is known again. Files that are missing, empty or no files are noted as
    problems. ``forget`` reads every file, whatever is remembered.
    """

    def __init__(
        self, cache_dir: Path, place: str, samples: Iterable[Sample], problems: Problems, *, forget: bool
    ) -> None:
        self.memory = cache_dir / "files" / f"{hashlib.blake2b(os.fsencode(place), digest_size=16).hexdigest()}.json"
        self.samples: dict[str, Sample] = {}
        self.stamps: dict[str, Stamp] = {}
        self.started = time.time_ns()
        for sample in samples:
            if self.samples.setdefault(sample.path, sample) is sample:
                self.stamp(sample, problems)
        known = {} if forget else recall(self.memory)
        self.known = {path: known[path][1] for path, stamp in self.stamps.items() if known.get(path, ((),))[0] == stamp}

    def stamp(self, sample: Sample, problems: Problems) -> None:
        """Note size and time of change of a file, or what makes it unusable."""
        try:
            stamp = sample.stamp()
        except FileNotFoundError:
            problems.add_image(sample.place, "the file is missing", "restore it, or remove its line")
            return
        except (OSError, ValueError) as error:
            problems.add_image(sample.place, f"cannot be read ({error})", "correct the path or the file's permissions")
            return
        if stamp is None:
            problems.add(sample.place, "it is not a file", "list files, not folders")
        elif stamp[0] == 0:
            problems.add_image(sample.place, "the file is empty (zero bytes)", "replace or remove it")
        else:
            self.stamps[sample.path] = stamp

    def is_settled(self, path: str) -> bool:
        """Whether a file changed long enough ago to be known by its time of change."""
        return path in self.stamps and self.stamps[path][1] < self.started - SETTLED_NS

    def read_unknown(self, problems: Problems, *, progress: bool) -> Mapping[str, str]:
        """Read the files that are not known, and return the digests of all by path; unreadable ones are noted."""
        unknown = [self.samples[path] for path in self.stamps if path not in self.known]
        if not unknown:
            return self.known

        def read(sample: Sample) -> str | OSError:
            try:
                return sample.find_digest(sample.load()) or ""
            except OSError as error:
                return error

        bar = progress_bar("reading", len(unknown), show=progress)
        with bar as advance, ThreadPoolExecutor(count_workers()) as pool:
            advance(0, note=f"{len(unknown):,} files to see whether they have changed")
            for sample, digest in zip(unknown, pool.map(read, unknown), strict=True):
                if isinstance(digest, OSError):
                    problems.add_image(sample.place, *unreadable(digest))
                else:
                    self.known[sample.path] = digest
                advance()
        self.remember()
        return self.known

    def remember(self) -> None:
        """Keep the digests of settled files for later loads."""
        fresh = {path: [*self.stamps[path], digest] for path, digest in self.known.items() if self.is_settled(path)}
        if fresh:
            before = {path: [*stamp, digest] for path, (stamp, digest) in recall(self.memory).items()}
            with suppress(OSError):  # they are read again then
                write_text(self.memory, json.dumps(before | fresh))


def unreadable(error: OSError) -> tuple[str, str]:
    """What an error of the system says of a file, and the fix."""
    return f"cannot be read ({error.strerror})", "check the file and its permissions"


def recall(memory: Path) -> dict[str, tuple[Stamp, str]]:
    """What ``remember`` wrote; nothing if the file is missing or damaged."""
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
        return {path: (tuple(map(int, stamp)), str(digest)) for path, (*stamp, digest) in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
