"""Source: one folder a class, either inside ``train/``, ``val/`` and ``test/`` or directly.

    data/train/cat/1.jpg  data/val/cat/7.jpg  data/test/cat/9.jpg      the splits are given
    data/cat/1.jpg        data/dog/2.jpg                               split 80/10/10 in each class, by the seed

Classes are numbered in the alphabetical order of their folders; images may lie in folders below. ``channels.txt``
(optional) gives the channels' names, one a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from anychannel.data.content import is_folder_image
from anychannel.data.dataset import SPLITS
from anychannel.data.files.registry import image_suffixes
from anychannel.data.list_files import read_names
from anychannel.data.listing import Entry, Listing
from anychannel.data.problems import DataError, Problems
from anychannel.utils.files import readable

LOOKS_FOR = "class folders with images, directly or inside train/, val/ and test/"
HELD_OUT = 0.1
"""Part of each class that goes to validation, and again to test, where the folders do not say."""
JUNK = ("thumbs.db", "desktop.ini")


def subfolders(folder: Path) -> list[Path]:
    """Folders directly inside that are no image, hidden ones left out, in alphabetical order."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not is_folder_image(path)
    )


def files_below(folder: Path) -> Iterator[Path]:
    """All files at any depth, in a fixed order; hidden ones and those that desktops leave behind are left out.

    A folder that is one image counts as a file.
    """
    for place, folders, files in os.walk(folder):
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(name for name in visible if not is_folder_image(Path(name)))
        files += [name for name in visible if is_folder_image(Path(name))]
        for name in sorted(files):
            if not name.startswith(".") and name.lower() not in JUNK:
                yield Path(place, name)


def is_image(path: Path) -> bool:
    """Whether the name is one that an image file may have."""
    return path.suffix.lower() in image_suffixes()


def holds_images(folder: Path) -> bool:
    """Whether there is an image at any depth."""
    return any(is_image(path) for path in files_below(folder))


def has_splits(root: Path) -> bool:
    """Whether there is a ``train``, ``val`` or ``test`` folder with class folders."""
    return any((root / split).is_dir() and subfolders(root / split) for split in SPLITS)


def looks_like(root: Path) -> bool:
    """Whether there is a folder with images."""
    return any(holds_images(folder) for folder in subfolders(root))


def read(root: Path, problems: Problems, *, seed: int = 0) -> Listing:
    """List the images by class; files that are no images and empty class folders are noted in ``problems``.

    Args:
        root: the data folder.
        problems: gets what is wrong with single folders and files.
        seed: decides the split where the folders do not.

    Raises:
        DataError: the folders are neither of the two forms, or mix them.
    """
    channels = read_names(root / "channels.txt")
    if has_splits(root):
        classes, splits = read_splits(root, problems)
    else:
        classes, splits = split_classes(root, problems, seed)
    return Listing(root, classes, splits, channels)


def read_splits(root: Path, problems: Problems) -> tuple[tuple[str, ...], dict[str, tuple[Entry, ...]]]:
    """Classes and splits of the form ``train/class/image``."""
    missing = [f"{split}/" for split in SPLITS if not (root / split).is_dir()]
    if missing:
        found = ", ".join(f"{split}/" for split in SPLITS if (root / split).is_dir())
        raise DataError(f"{root} has {found} but no {' and no '.join(missing)}; all three folders are needed")
    others = [path.name for path in subfolders(root) if path.name not in SPLITS and holds_images(path)]
    if others:
        raise DataError(
            f"{root} has images in {others[0]}/ beside train/, val/ and test/, so that it is not clear what the splits "
            f"are; move {others[0]}/ out of the data folder or into the splits"
        )
    classes = name_classes(root, subfolders(root / "train"))
    splits = {}
    for split in SPLITS:
        entries: list[Entry] = []
        for folder in subfolders(root / split):
            if folder.name in classes:
                entries += read_class(root, folder, classes.index(folder.name), problems)
            else:
                problems.add(f"{split}/{folder.name}", f"train/ has no class {folder.name!r}", "add or rename it")
        splits[split] = tuple(entries)
    return classes, splits


def split_classes(root: Path, problems: Problems, seed: int) -> tuple[tuple[str, ...], dict[str, tuple[Entry, ...]]]:
    """Classes and splits of the form ``class/image``; how a class is split depends on its own files and the seed."""
    folders = subfolders(root)
    if len(folders) == 1 and len(subfolders(folders[0])) > 1:
        raise DataError(
            f"{root} holds the one folder {folders[0].name}/; if its folders are the classes, give {folders[0]}"
        )
    classes = name_classes(root, folders)
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for label, folder in enumerate(folders):
        entries = read_class(root, folder, label, problems)
        if 0 < len(entries) < 3:
            problems.add(
                f"{folder.name}/",
                f"{len(entries)} image{'s' * (len(entries) > 1)} cannot be split into train, val and test",
                "add images, at least 3 a class, or remove the folder",
            )
            continue
        for split, rows in cut(folder.name, len(entries), seed).items():
            splits[split] += [entries[row] for row in rows]
    return classes, {split: tuple(entries) for split, entries in splits.items()}


def name_classes(root: Path, folders: Sequence[Path]) -> tuple[str, ...]:
    """The folders' names.

    Raises:
        DataError: some are no UTF-8, which names of classes are written in.
    """
    wrong = [readable(folder.name) for folder in folders if readable(folder.name) != folder.name]
    if wrong:
        raise DataError(
            f"{root} has class folders whose names are no UTF-8 ({', '.join(wrong[:3])}{', ...' * (len(wrong) > 3)}); "
            "rename them"
        )
    return tuple(folder.name for folder in folders)


def cut(name: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Split the ``count`` images of class ``name`` 80 / 10 / 10 by the seed and the name: numbers by split."""
    held_out = max(1, round(HELD_OUT * count))
    order = np.random.default_rng([seed, *name.encode()]).permutation(count)
    cuts = {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
    return {split: np.sort(rows) for split, rows in cuts.items()}


def read_class(root: Path, folder: Path, label: int, problems: Problems) -> list[Entry]:
    """Images of one class folder."""
    entries = []
    for file in files_below(folder):
        path = file.relative_to(root).as_posix()
        if is_image(file):
            entries.append(Entry(path, label, path))
        else:
            problems.add(path, f"not named as an image ({', '.join(image_suffixes())})", "convert, rename or remove it")
    if not entries:
        problems.add(f"{folder.relative_to(root).as_posix()}/", "no image in this class folder", "fill or remove it")
    return entries


def describe_content(root: Path) -> str:
    """What a folder that is no data set holds, as the end of a message."""
    images = sum(is_image(path) for path in root.iterdir())
    if images:
        return f"; it has {images:,} images that are in no class folder"
    names = sorted(path.name for path in root.iterdir())
    return f"; it has {', '.join(names[:5])}{', ...' * (len(names) > 5)}" if names else "; it is empty"
