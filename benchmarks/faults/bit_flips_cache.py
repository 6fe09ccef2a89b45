"""Bits flipped in the cache of decoded images, and files of it that are cut, emptied or replaced.

The cases are part of the section ``bit_flips``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.data import ImageDataset, load_dataset
from benchmarks.faults.case import Case
from benchmarks.faults.disk import photos
from benchmarks.faults.hostile_runs import shards

FLIP = "A bit that flips in the cache is found when it is opened: the images are decoded again, with a remark."
HARM = "A file of the cache that is cut, empty, foreign or of another version is made anew, with a remark."
MEMORY = "Damage in what the cache remembers of files changes nothing."

PLACES = (0.0, 0.01, 0.1, 0.35, 0.6, 0.85, 0.999)
"""Where a bit flips, as a share of the file."""


def load_files(folder: Path) -> ImageDataset:
    return load_dataset(folder / "photos", cache_dir=folder / "cache")


def load_shards(folder: Path) -> ImageDataset:
    return load_dataset(f"wds:{folder}", channels="R,G,B", cache_dir=folder / "cache")


def write_files(folder: Path) -> None:
    for path in photos(folder).rglob("*.png"):
        os.utime(path, (1e9, 1e9))  # so that it is known by its time of change


SOURCES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], ImageDataset]]] = {
    "files": (write_files, load_files),
    "shards": (shards, load_shards),
}


def describe(data: ImageDataset) -> list[Any]:
    """All that training would see, but for streamed images, which are not in the cache."""
    splits = [data.val, data.test, *([data.train] if data.train.random_access else [])]
    content = [(np.array(split.images).tobytes(), split.labels.tolist(), tuple(split.paths)) for split in splits]  # type: ignore[union-attr]
    return [data.channels, data.classes, data.fingerprint, *content]


def flip(file: Path, place: float, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 1 << bit
    file.write_bytes(content)


def check(source: str, name: str, harm: Callable[[Path], None], remark: str, folder: Path) -> None:
    """Harm a file of the cache; what is loaded stays the same."""
    write, load = SOURCES[source]
    write(folder)
    before = describe(load(folder))
    (file,) = (folder / "cache").glob(name)
    harm(file)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert describe(load(folder)) == before
    texts = [str(one.message) for one in told]
    assert any(remark in text for text in texts) if remark else not texts, texts
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert describe(load(folder)) == before  # it has healed


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def foreign(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def folder_there(file: Path) -> None:
    file.unlink()
    file.mkdir()


def zero_page(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:200] + bytes(len(content[200:600])) + content[600:])


def newer(file: Path) -> None:
    from anychannel.utils.checksums import dump_signed, load_signed

    file.write_text(dump_signed(load_signed(file.read_text()) | {"format": 1000}))


HARMS = {one.__name__: one for one in (empty, cut, longer, foreign, folder_there, zero_page, Path.unlink)}
AGAIN = "are decoded again, since"


def cases() -> list[Case]:
    """Files of the cache by places of a flipped bit, and by other damage."""
    found = []
    for source, names in (
        ("files", ("train.npy", "val.npy", "test.npy", "index.json")),
        ("shards", ("val.npy", "index.json")),
    ):
        for name in names:
            path = f"images/*/{name}"
            for number, place in enumerate(PLACES):
                harm = partial(flip, place=place, bit=number)
                short = number == 3 and name != "val.npy"
                found.append(
                    Case(FLIP, f"{source}, {name} at {place:.1%}", partial(check, source, path, harm, AGAIN), short)
                )
            for label, damage in HARMS.items():
                short = label == "empty" and source == "files"
                found.append(
                    Case(HARM, f"{source}, {name}, {label}", partial(check, source, path, damage, AGAIN), short)
                )
        found.append(
            Case(
                HARM,
                f"{source}, a newer version",
                partial(check, source, "images/*/index.json", newer, "its format is 1000"),
            )
        )
    for folder in ("names", "files"):
        for number, place in enumerate(PLACES):
            harm = partial(flip, place=place, bit=number % 7)
            found.append(
                Case(MEMORY, f"{folder} at {place:.1%}", partial(check, "files", f"{folder}/*.json", harm, ""))
            )
        for label, damage in HARMS.items():
            if label not in ("folder_there", "longer"):
                found.append(
                    Case(MEMORY, f"{folder}, {label}", partial(check, "files", f"{folder}/*.json", damage, ""))
                )
    return found
