"""Sources ``lists`` and ``folders``: a folder of image files, with list files or with a folder for each class.

List files are ``train.txt``, ``val.txt`` and ``test.txt``. They hold ``path label``, one image per line. Paths are
relative to the folder and may contain spaces; labels count from 0. A third word names the channels of an image that
does not have all of them (``path label R,G``). ``classes.txt`` (optional) names the classes, one per line.

Class folders lie inside ``train/``, ``val/`` and ``test/``, or directly in the folder:

    data/train/cat/1.jpg  data/val/cat/7.jpg  data/test/cat/9.jpg      the splits are given
    data/cat/1.jpg        data/dog/2.jpg                               each class is split 80/10/10 by the seed

Classes are numbered in the alphabetical order of their folders; images may lie in folders below.

Both take ``channels.txt`` (optional), which names the channels, one per line, and ``channels.csv`` (optional), which
says which channels each image has, if not every image has all of them. It names the channels of single images, of
folders, or of all paths that match a pattern:

    path,channels
    drone/*,"R,G,B"
    satellite/2019,R;G;B;NIR
    satellite/2019/7.tif,NIR

``*``, ``?`` and ``[...]`` match any text, slashes too. If several lines match an image, the last one counts. Images
that are not listed have all channels. A file's planes are exactly the channels named, in that order.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import Path, PurePosixPath

from anychannel.data.content import is_folder_image
from anychannel.data.errors import DataError, Problems
from anychannel.data.files.registry import image_suffixes
from anychannel.data.sources.source import SPLITS, Listing, Request, Sample, Source, cut, split_channels
from anychannel.utils.files import readable

TABLE = "channels.csv"
HEADER = ["path", "channels"]
JUNK = ("thumbs.db", "desktop.ini")


def list_paths(root: Path) -> dict[str, Path]:
    """The list files that are there, by split."""
    return {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}


def has_lists(root: Path) -> bool:
    """Whether the folder holds at least one list file."""
    return bool(list_paths(root))


def read_names(path: Path) -> tuple[str, ...] | None:
    """Read names, one per line; None if there is no such file. Raises DataError if a name repeats or there is none."""
    if not path.is_file():
        return None
    names = tuple(line.strip() for line in read_lines(path) if line.strip())
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        what = f"{repeated[0]!r} is there twice" if repeated else "it is empty"
        raise DataError(f"{path}: {what}; give each name once, one a line")
    return names


def open_lists(spec: str, request: Request) -> Source:  # noqa: ARG001
    """Read the lists. Wrong lines are noted as problems and left out."""
    root, problems = Path(spec), Problems()
    paths = list_paths(root)
    missing = [f"{split}.txt" for split in SPLITS if split not in paths]
    if missing:
        found = ", ".join(path.name for path in paths.values())
        raise DataError(f"{root} has {found} but no {' and no '.join(missing)}; all three lists are needed")
    names = read_names(root / "classes.txt")
    splits = {split: read_list(path, problems) for split, path in paths.items()}
    if names is None:
        highest = max((int(sample.label) for sample in splits["train"]), default=-1)
        names = tuple(str(label) for label in range(highest + 1))
        limit = f"train.txt has labels 0 to {highest}"
    else:
        limit = f"classes.txt names {len(names)} classes, so labels are 0 to {len(names) - 1}"
    kept: Listing = {split: [] for split in SPLITS}
    for split, samples in splits.items():
        for sample in samples:
            if int(sample.label) < len(names):
                kept[split].append(sample)
            else:
                problems.add(sample.where, f"label {sample.label} of {sample.path} is out of range", limit)
    channels = read_names(root / "channels.txt")
    return Source(root.name, apply_table(root, kept, problems), names, channels, str(root), problems)


def read_list(path: Path, problems: Problems) -> list[Sample]:
    """Samples of one list. Lines that are not ``path label [channels]`` are noted, empty ones skipped."""
    samples = []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.rsplit(maxsplit=1)
        where = f"{path.name} line {number}"
        channels: tuple[str, ...] | None = None
        if len(words) == 2 and not is_integer(words[1]):
            *longer, column = line.rsplit(maxsplit=2)
            if len(longer) == 2 and is_integer(longer[1]):
                words, channels = longer, split_channels(column)
        if not words:
            continue
        name = words[0].strip()
        if len(words) == 1:
            problems.add(where, f"malformed line {line.strip()!r}", "write 'path label'")
        elif not is_integer(words[1]):
            problems.add(where, f"label {words[1]!r} of {name} is not an integer", "labels are 0, 1, 2, ...")
        elif int(words[1]) < 0:
            problems.add(where, f"label {words[1]} of {name} is out of range", "labels count from 0")
        elif channels == ():
            problems.add(where, f"no channel is named for {name}", "name the file's planes, as R,G")
        else:
            samples.append(Sample(name, int(words[1]), path.parent / name, channels, f"{name} ({where})", where))
    return samples


def is_integer(word: str) -> bool:
    """Whether a word is a whole number, perhaps negative."""
    return word.isascii() and word.removeprefix("-").isdigit()


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


def has_folders(root: Path) -> bool:
    """Whether there are class folders. Beside list files, only class folders in split folders count."""
    if list_paths(root):
        return has_splits(root)
    return any(holds_images(folder) for folder in subfolders(root))


def open_folders(spec: str, request: Request) -> Source:
    """List the images by class. Other files and empty class folders are noted as problems."""
    root, problems = Path(spec), Problems()
    channels = read_names(root / "channels.txt")
    if has_splits(root):
        classes, splits = read_splits(root, problems)
    else:
        classes, splits = split_classes(root, problems, request.seed)
    return Source(root.name, apply_table(root, splits, problems), classes, channels, str(root), problems)


def read_splits(root: Path, problems: Problems) -> tuple[tuple[str, ...], Listing]:
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
    splits: Listing = {split: [] for split in SPLITS}
    for split in SPLITS:
        for folder in subfolders(root / split):
            if folder.name in classes:
                splits[split] += read_class(root, folder, classes.index(folder.name), problems)
            else:
                problems.add(f"{split}/{folder.name}", f"train/ has no class {folder.name!r}", "add or rename it")
    return classes, splits


def split_classes(root: Path, problems: Problems, seed: int) -> tuple[tuple[str, ...], Listing]:
    """Classes and splits of the form ``class/image``; the split of a class depends on its own files and the seed."""
    folders = subfolders(root)
    if len(folders) == 1 and len(subfolders(folders[0])) > 1:
        raise DataError(
            f"{root} holds the one folder {folders[0].name}/; if its folders are the classes, give {folders[0]}"
        )
    classes = name_classes(root, folders)
    splits: Listing = {split: [] for split in SPLITS}
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


@dataclass(frozen=True)
class Line:
    """A line of the table: its number from 1, its place for messages, the images it is about, and their channels."""

    number: int
    place: str
    pattern: str
    names: tuple[str, ...]


def read_lines(path: Path) -> list[str]:
    """A text file's lines. Raises DataError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def read_table(root: Path, problems: Problems) -> list[Line]:
    """The lines of a folder's table, [] if there is no table. Wrong lines are noted and left out.

    Raises DataError if the first line is not ``path,channels``.
    """
    path = root / TABLE
    if not path.is_file():
        return []
    rows = list(csv.reader(read_lines(path)))
    if not rows or [cell.strip() for cell in rows[0]] != HEADER:
        found = ",".join(rows[0]) if rows else ""
        raise DataError(f"{path}: the first line is {found!r}; it has to be {','.join(HEADER)!r}")
    lines = []
    for number, cells in enumerate(rows[1:], start=2):
        place, pattern = f"{TABLE} line {number}", (cells or [""])[0].strip()
        names = split_channels(",".join(cells[1:]))
        if not any(cell.strip() for cell in cells):
            continue
        if pattern and names:
            lines.append(Line(number, place, pattern.rstrip("/"), names))
        else:
            what = "no channel is named" if pattern else "no path is named"
            problems.add(place, what, "write path,channels; channels as R;G")
    return lines


def apply_table(root: Path, splits: Mapping[str, Sequence[Sample]], problems: Problems) -> Listing:
    """Give each sample the channels that the folder's table names for it.

    Lines that cannot be read or match no image are noted as problems, also images whose list file says something else,
    and files that are listed twice with different channels.
    """
    lines = read_table(root, problems)
    literal = {line.pattern: line for line in lines}  # of equal patterns the last line is kept
    wild = [(re.compile(translate(line.pattern)), line) for line in lines if set("*?[") & set(line.pattern)]
    used: set[int] = set()
    listed: dict[str, Sample] = {}

    def apply(sample: Sample) -> Sample:
        path = PurePosixPath(os.path.normpath(sample.path))
        places = (str(path), *map(str, path.parents))
        found = [literal[place] for place in places if place in literal]
        found += [line for pattern, line in wild if pattern.match(str(path))]
        used.update(line.number for line in found)
        if found:
            line = max(found, key=lambda line: line.number)
            if sample.channels not in (None, line.names):
                what = f"its line says channels {','.join(sample.channels or ())}, but {line.place} "
                problems.add(sample.place, what + ",".join(line.names), "keep one of them")
            sample = replace(sample, channels=line.names, channels_from=line.place)
        first = listed.setdefault(str(path), sample)
        if first.channels != sample.channels:
            what = f"the same file has other channels in {first.where}"
            problems.add(sample.place, what, "give one file's channels once")
        return sample

    if not lines and all(sample.channels is None for samples in splits.values() for sample in samples):
        return {split: list(samples) for split, samples in splits.items()}
    found = {split: [apply(sample) for sample in samples] for split, samples in splits.items()}
    for line in lines:
        if line.number not in used and literal[line.pattern] is line:
            problems.add(line.place, f"no image matches {line.pattern!r}", "correct or remove it")
    return found
