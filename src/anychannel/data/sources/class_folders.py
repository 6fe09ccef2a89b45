"""Source: one folder for each class, either inside ``train/``, ``val/`` and ``test/`` or directly.

    data/train/cat/1.jpg  data/val/cat/7.jpg  data/test/cat/9.jpg      the splits are given
    data/cat/1.jpg        data/dog/2.jpg                               each class is split 80/10/10 by the seed

Classes are numbered in the alphabetical order of their folders; images may lie in folders below. ``channels.txt``
(optional) names the channels, one per line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from anychannel.data.content import is_folder_image
from anychannel.data.errors import DataError, Problems
from anychannel.data.files.registry import image_suffixes
from anychannel.data.sources.channel_table import apply_table
from anychannel.data.sources.list_files import read_names
from anychannel.data.sources.samples import Sample
from anychannel.data.sources.source import SPLITS, Request, Source
from anychannel.data.sources.splitting import cut
from anychannel.utils.files import readable

JUNK = ("thumbs.db", "desktop.ini")

Splits = dict[str, list[Sample]]


def subfolders(folder: Path) -> list[Path]:
    """Folders directly inside, in alphabetical order, without hidden ones and folders that are one image."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not is_folder_image(path)
    )


def files_below(folder: Path) -> Iterator[Path]:
    """All files at any depth, in a fixed order, without hidden ones and those that desktops leave behind.

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
    """Whether an image file may have this name."""
    return path.suffix.lower() in image_suffixes()


def holds_images(folder: Path) -> bool:
    """Whether there is an image at any depth."""
    return any(is_image(path) for path in files_below(folder))


def has_splits(root: Path) -> bool:
    """Whether there is a ``train``, ``val`` or ``test`` folder with class folders."""
    return any((root / split).is_dir() and subfolders(root / split) for split in SPLITS)


def looks_like(root: Path) -> bool:
    """Whether there are class folders. Beside list files, only class folders in split folders count."""
    if any((root / f"{split}.txt").is_file() for split in SPLITS):
        return has_splits(root)
    return any(holds_images(folder) for folder in subfolders(root))


def open_class_folders(spec: str, request: Request) -> Source:
    """List the images by class. Other files and empty class folders are noted as problems.

    Args:
        spec: the data folder.
        request: its seed decides the split if the folders do not.

    Raises:
        DataError: the folders have neither of the two forms, or mix them.
    """
    root, problems = Path(spec), Problems()
    channels = read_names(root / "channels.txt")
    if has_splits(root):
        classes, splits = read_splits(root, problems)
    else:
        classes, splits = split_classes(root, problems, request.seed)
    return Source(root.name, apply_table(root, splits, problems), classes, channels, str(root), problems)


def read_splits(root: Path, problems: Problems) -> tuple[tuple[str, ...], Splits]:
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
    splits: Splits = {split: [] for split in SPLITS}
    for split in SPLITS:
        for folder in subfolders(root / split):
            if folder.name in classes:
                splits[split] += read_class(root, folder, classes.index(folder.name), problems)
            else:
                problems.add(f"{split}/{folder.name}", f"train/ has no class {folder.name!r}", "add or rename it")
    return classes, splits


def split_classes(root: Path, problems: Problems, seed: int) -> tuple[tuple[str, ...], Splits]:
    """Classes and splits of the form ``class/image``; the split of a class depends on its own files and the seed."""
    folders = subfolders(root)
    if len(folders) == 1 and len(subfolders(folders[0])) > 1:
        raise DataError(
            f"{root} holds the one folder {folders[0].name}/; if its folders are the classes, give {folders[0]}"
        )
    classes = name_classes(root, folders)
    splits: Splits = {split: [] for split in SPLITS}
    for label, folder in enumerate(folders):
        samples = read_class(root, folder, label, problems)
        if 0 < len(samples) < 3:
            problems.add(
                f"{folder.name}/",
                f"{len(samples)} image{'s' * (len(samples) > 1)} cannot be split into train, val and test",
                "add images, at least 3 a class, or remove the folder",
            )
            continue
        for split, rows in cut(folder.name, len(samples), seed).items():
            splits[split] += [samples[row] for row in rows]
    return classes, splits


def name_classes(root: Path, folders: Sequence[Path]) -> tuple[str, ...]:
    """The folders' names. Raises DataError if one is not UTF-8."""
    wrong = [readable(folder.name) for folder in folders if readable(folder.name) != folder.name]
    if wrong:
        raise DataError(
            f"{root} has class folders whose names are no UTF-8 ({', '.join(wrong[:3])}{', ...' * (len(wrong) > 3)}); "
            "rename them"
        )
    return tuple(folder.name for folder in folders)


def read_class(root: Path, folder: Path, label: int, problems: Problems) -> list[Sample]:
    """Images of one class folder."""
    samples = []
    for file in files_below(folder):
        path = file.relative_to(root).as_posix()
        if is_image(file):
            samples.append(Sample(path, label, file))
        else:
            problems.add(path, f"not named as an image ({', '.join(image_suffixes())})", "convert, rename or remove it")
    if not samples:
        problems.add(f"{folder.relative_to(root).as_posix()}/", "no image in this class folder", "fill or remove it")
    return samples


def describe_content(root: Path) -> str:
    """What a folder that is no data set holds, as the end of a message."""
    images = sum(is_image(path) for path in root.iterdir())
    if images:
        return f"; it has {images:,} images that are in no class folder"
    names = sorted(path.name for path in root.iterdir())
    return f"; it has {', '.join(names[:5])}{', ...' * (len(names) > 5)}" if names else "; it is empty"
