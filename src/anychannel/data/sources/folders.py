"""Sources ``lists`` and ``folders``: a folder of image files, with list files or with a folder for each class.

List files are ``train.txt``, ``val.txt`` and ``test.txt``. They hold ``path label``, one image per line, after a header
if there is one. Paths are relative to the folder and may contain spaces; labels count from 0 or are names of classes.
A third word names the channels of an image that does not have all of them (``path label R,G``). Commas or tabs may
stand for the spaces. ``classes.txt`` (optional) names the classes, one per line. An image with several labels has
``|`` or ``;`` between them (``path 0|3``, ``path forest|river``), and ``|`` alone if it has none; if one line has
several, all images may.

Class folders lie inside ``train/``, ``val/`` and ``test/``, or directly in the folder:

    data/train/cat/1.jpg  data/val/cat/7.jpg  data/test/cat/9.jpg      the splits are given
    data/cat/1.jpg        data/dog/2.jpg                               each class is split 80/10/10 by the seed

Classes are numbered in the alphabetical order of their folders; images may lie in folders below, also linked ones.
Splits have their usual spellings (``Training``, ``validation``, ``dev``, ``test`` ...), see ``SPLIT_NAMES``.

Both take ``channels.txt`` (optional), which names the channels, one per line. ``groups.txt`` (optional) names the
channels of each group, one group per line, as ``camera: R, G, B``. ``channels.csv`` (optional) says which channels each
image has, if not every image has all of them. It names the channels of single images, of folders, or of all paths that
match a pattern:

    path,channels
    drone/*,"R,G,B"
    satellite/2019,R;G;B;NIR
    satellite/2019/7.tif,NIR

``*``, ``?`` and ``[...]`` match any text, slashes too. If several lines match an image, the last one counts. Images
that are not listed have all channels. A file's planes are exactly the channels named, in that order.

Both take images whose bands lie in separate files, with ``bands``: a pattern such as ``{scene}_{band}.tif``, see
``anychannel.data.sources.band_files``. Lists then name scenes, or one file of each. A band without a file is a channel
that the image lacks.
"""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from pathlib import Path, PurePosixPath
from typing import Any

from anychannel.channels import ChannelError, ChannelSet, as_channel_set, parse_groups
from anychannel.data.content import BandFiles, is_folder_image
from anychannel.data.errors import DataError, Problems
from anychannel.data.files.registry import image_suffixes
from anychannel.data.sources.band_files import BandPattern, Scenes, name_bands
from anychannel.data.sources.source import (
    SPLIT_NAMES,
    SPLITS,
    Listing,
    Request,
    Sample,
    Source,
    each_label,
    match_splits,
    number_classes,
    parse_label,
    sort_names,
    split_channels,
)
from anychannel.data.sources.splitting import cut
from anychannel.data.sources.tables import CHANNELS as TABLE
from anychannel.data.sources.tables import LABELS, PATHS, describe_others, find_labels, list_table, read_tables
from anychannel.data.sources.tables import LABELS as HEADINGS
from anychannel.sensors import SENSORS
from anychannel.utils.files import readable
from anychannel.utils.folders import find_file, is_junk, leads_up, path_inside, walk_files
from anychannel.utils.names import normal
from anychannel.utils.plurals import plural

HEADER = ["path", "channels"]
NEEDED = ("train", "val")
"""Splits that a folder must have; without a test split, a run is evaluated on validation images."""
IN_IMAGE = "|".join(re.escape(suffix) for suffix in image_suffixes())
LIST_LINE = re.compile(rf"""["']?(.*?({IN_IMAGE}))["']?(\s*[,;\t]\s*|\s+)(.+)""", re.IGNORECASE)
"""A path that ends as images' names do, what separates it from the label, and the rest."""
LIKE_SPLIT = re.compile(
    rf"({'|'.join(name for names in SPLIT_NAMES.values() for name in names)}|trn|tst)"
    r"[ _-]*(set|data|images|imgs|split)?[ _-]*\d*",
    re.IGNORECASE,
)


def list_paths(root: Path) -> dict[str, Path]:
    """The list files that are there, by split."""
    stems = [path.stem for path in sorted(root.glob("*.txt")) if path.is_file()]
    return {split: root / f"{stem}.txt" for split, stem in match_splits(stems, root).items()}


def has_lists(root: Path, request: Request) -> bool:  # noqa: ARG001  # lists look alike whatever is asked for
    """Whether the folder holds at least one list file."""
    return bool(list_paths(root))


def read_names(path: Path) -> tuple[str, ...] | None:
    """Read names, one per line; None if there is no such file. Raises DataError if a name repeats or there is none."""
    if not path.is_file():
        return None
    names = tuple(normal(line.strip()) for line in read_lines(path) if line.strip())
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        what = f"{repeated[0]!r} is there twice" if repeated else "it is empty"
        raise DataError(f"{path}: {what}; give each name once, one a line")
    return names


def read_groups(path: Path) -> dict[str, tuple[str, ...]] | None:
    """Read groups, one per line; None if there is no such file. Raises DataError if a line is no group."""
    if not path.is_file():
        return None
    try:
        return parse_groups(line for line in read_lines(path) if line.strip())
    except ChannelError as error:
        raise DataError(f"{path}: {error}") from error


@dataclass
class Folder:
    """A data folder that is being listed: what is wrong in it, and what is left out.

    ``pattern`` says which files are the bands of one image; None: each file is an image. ``unmatched`` are image files
    that it does not fit. ``needed`` are the splits that it must have, and ``seed`` splits classes; None leaves all
    images in ``train``, to be split later.
    """

    root: Path
    problems: Problems
    pattern: BandPattern | None = None
    junk: list[Path] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    needed: tuple[str, ...] = NEEDED
    seed: int | None = 0

    @classmethod
    def of(cls, spec: str, request: Request, bands: str | None) -> Folder:
        """The folder at a path. Raises ValueError if ``bands`` is no pattern."""
        pattern = None if bands is None else BandPattern.parse(bands)
        later: dict[str, Any] = {"needed": (), "seed": None} if request.splits_anew else {"seed": request.seed}
        return cls(Path(spec), Problems(request.skip_bad), pattern, **later)

    def images(self, folder: Path) -> list[Path]:
        """Image files at any depth."""
        return list_images(folder, self.junk)

    def gather(self) -> Scenes | None:
        """The scenes of the whole folder; None if each file is an image. Raises DataError if no file fits."""
        if self.pattern is None:
            return None
        scenes = self.pattern.gather(self.root, self.images(self.root), self.problems)
        self.pattern.refuse_empty(self.root, scenes)
        return scenes

    def finish(
        self, splits: Listing, classes: tuple[str, ...] | None, request: Request, how: str, **known: Any
    ) -> Source:
        """The source, after what the folder's table and names say about channels; ``known`` are more of its fields."""
        channels: ChannelSet | tuple[str, ...] | None = read_names(self.root / "channels.txt")
        groups = read_groups(self.root / "groups.txt")
        splits = apply_table(self.root, splits, self.problems)
        if self.pattern is not None:
            asked = channels if request.channels is None else request.channels
            named = None if asked is None else as_channel_set(asked)
            channels, splits = name_bands(self.root, splits, named, self.pattern, self.unmatched, self.problems)
        known |= {"groups": groups, "how": how}
        return Source(self.root.name, splits, classes, channels, str(self.root), self.problems, **known)


def open_lists(spec: str, request: Request, *, bands: str | None = None) -> Source:
    """Read the lists. Wrong lines are noted as problems and left out.

    Args:
        spec: the folder.
        request: see ``Request``.
        bands: a pattern of the files with one band each, see ``anychannel.data.sources.band_files``. A line names a
            scene, or one of its files. None: each file is an image.
    """
    folder = Folder.of(spec, request, bands)
    root, problems = folder.root, folder.problems
    paths = list_paths(root)
    missing = [f"{split}.txt" for split in folder.needed if split not in paths]
    if missing:
        found = ", ".join(path.name for path in paths.values())
        raise DataError(
            f"{root} has {found} but no {' and no '.join(missing)}; training needs train.txt and val.txt (test.txt may "
            "be missing)"
        )
    names = read_names(root / "classes.txt")
    scenes = folder.gather()
    splits = {
        split: read_list(paths[split], problems, scenes, names or request.named_classes) if split in paths else []
        for split in SPLITS
    }
    if names is None:
        names = collect_names(splits["train"] or splits["val"] or splits["test"])
    return folder.finish(splits, names, request, "split as listed")


def collect_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The classes' names, from the samples' labels."""
    labels = [label for sample in samples for label in each_label(sample.label)]
    numbers = [label for label in labels if isinstance(label, int)]
    names = sort_names(labels, "classes.txt")
    return number_classes(max(numbers)) if numbers else names


def has_table(root: Path, request: Request) -> bool:
    """Whether a CSV file lists the images with their labels, and neither lists nor class folders do."""
    if list_paths(root) or find_labels(root, request) is None:
        return False
    folders = [folder for folder in subfolders(root) if holds_images(folder)]
    return len(folders) < 2 or (all(LIKE_SPLIT.fullmatch(folder.name) for folder in folders) and not find_splits(root))


def open_table(spec: str, request: Request, *, bands: str | None = None) -> Source:
    """Read a CSV file of paths and labels. Lines without a label are noted as problems and left out.

    Args:
        spec: the folder.
        request: see ``Request``.
        bands: a pattern of the files with one band each, as in ``open_lists``.
    """
    folder = Folder.of(spec, request, bands)
    found = find_labels(folder.root, request)
    if found is None:
        raise DataError(
            f"{spec} has no one CSV file with a column of paths ('file') and one of labels ('label'), or with a column "
            "of 0 and 1 for each label"
        )
    table, columns = found
    names = read_names(folder.root / "classes.txt") if len(columns) == 1 else columns
    scenes = folder.gather()
    known = names or request.named_classes
    splits, how = list_table(folder.root, table, columns, known, folder.seed, folder.problems, scenes)
    samples = [sample for split in SPLITS for sample in splits[split]]
    if names is None and (request.classes is not None or any(isinstance(sample.label, tuple) for sample in samples)):
        names = collect_names(samples)
    others = describe_others(table, columns, request) if len(columns) > 1 else None
    return folder.finish(splits, names, request, how, other_columns=others)


def read_list(path: Path, problems: Problems, scenes: Scenes | None = None, names: Sequence[str] = ()) -> list[Sample]:
    """Samples of one list. Lines that are not ``path label [channels]`` are noted, empty ones and a header skipped.

    ``names`` are those of the classes, if they are known.

    With ``scenes``, the paths name scenes or their files; a scene of which several files are listed is one sample.
    """
    samples: dict[object, Sample] = {}
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path.name} line {number}"
        found = parse_line(line)
        if found is None:
            problems.add(where, f"malformed line {line.strip()!r}", "write 'path label'")
            continue
        name, label, channels = found
        if not name or (number == 1 and label.lower() in HEADINGS and not is_image(Path(name))):
            continue
        name = path_inside(path.parent, name)
        value = parse_label(label, names, lambda word: int(word) if is_integer(word) else word)
        if channels == ():
            problems.add(where, f"no channel is named for {name}", "name the file's planes, as R,G")
        elif scenes is None:
            image = find_file(path.parent / name)
            samples[number] = Sample(name, value, str(image), channels, f"{name} ({where})", where)
        else:
            key = scenes.find(name)
            if key is None:
                scenes.note_unknown(name, where, problems)
                continue
            sample = Sample(key, value, BandFiles(scenes.found[key].files), channels, f"{key} ({where})", where)
            named = normal(os.path.normpath(name)) == key
            samples.setdefault(number if named else (key, value, channels), sample)
    return list(samples.values())


def parse_line(line: str) -> tuple[str, str, tuple[str, ...] | None] | None:
    """Path, label and channels (None if it names none) of a list's line; None if it has no label."""
    words = line.rsplit(maxsplit=1)
    if not words:
        return "", "", None
    if len(words) == 2 and is_integer(words[1]):
        return words[0].strip(), words[1], None
    *longer, column = line.rsplit(maxsplit=2)
    if len(longer) == 2 and is_integer(longer[1]):
        return longer[0].strip(), longer[1], split_channels(column)
    found = LIST_LINE.fullmatch(line.strip())
    if found is None:
        cells = re.split(r"[,;\s]+", line.strip(), maxsplit=2)
    else:
        mark = found[3].strip(" ")
        cells = [found[1], *(found[4].split(mark, 1) if mark else found[4].split())]
    path, *rest = (cell.strip(" \"'") for cell in cells)
    if not path or len(rest) not in (1, 2) or not rest[0]:
        return None
    return path, normal(rest[0]), split_channels(rest[1]) if len(rest) == 2 else None


def is_integer(word: str) -> bool:
    """Whether a word is a whole number of up to 18 digits, perhaps negative."""
    return len(word) < 20 and word.isascii() and word.removeprefix("-").isdigit()


def subfolders(folder: Path) -> list[Path]:
    """Folders directly inside, in alphabetical order, without junk and folders that are one image."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not is_junk(path.name)]
    return sorted(path for path in inside if not is_folder_image(path) and not leads_up(path, folder))


def is_image(path: Path) -> bool:
    """Whether an image file may have this name."""
    return path.suffix.lower() in image_suffixes()


def list_images(folder: Path, junk: list[Path]) -> list[Path]:
    """Image files at any depth, a folder's own files first; ``junk`` gets the files that are left out."""
    return [file for file in walk_files(folder, is_file=is_folder_image, junk=junk) if is_image(file)]


def holds_images(folder: Path) -> bool:
    """Whether there is an image at any depth."""
    return any(is_image(path) for path in walk_files(folder, is_file=is_folder_image, junk=[]))


def find_splits(root: Path) -> dict[str, Path]:
    """The folders of the splits that are there, if one of them holds class folders; else none."""
    names = match_splits([path.name for path in subfolders(root)], root)
    found = {split: root / name for split, name in names.items()}
    return found if any(map(subfolders, found.values())) else {}


def has_folders(root: Path, request: Request) -> bool:
    """Whether there are class folders. Beside list files, only class folders in split folders count."""
    if list_paths(root):
        return bool(find_splits(root))
    if has_table(root, request):
        return False
    return any(holds_images(folder) for folder in subfolders(root))


def open_folders(spec: str, request: Request, *, bands: str | None = None) -> Source:
    """List the images by class. Other files and empty class folders are noted as problems.

    Args:
        spec: the folder.
        request: see ``Request``.
        bands: a pattern of the files with one band each, below a class folder, or below the data folder if it has
            ``{class}``; see ``anychannel.data.sources.band_files``. None: each file is an image.
    """
    folder = Folder.of(spec, request, bands)
    root, junk = folder.root, folder.junk
    found = find_splits(root)
    if folder.pattern is not None and folder.pattern.has("class"):
        classes, splits = sort_scenes(folder, folder.pattern)
    elif folder.pattern is not None and folder.pattern.has("split"):
        raise ValueError(f"bands={bands!r} names {{split}} without {{class}}; write both, or none of them")
    elif found:
        classes, splits = read_splits(folder, found)
    else:
        classes, splits = split_classes(folder)
    if junk:
        text = f"{root}: hidden files and those of desktops and network drives are left out: {len(junk):,} ({junk[0]}"
        warnings.warn(f"{text}{', ...' * (len(junk) > 1)})", stacklevel=5)
    how = "split by folders" if found or (folder.pattern is not None and folder.pattern.has("split")) else ""
    if not how:
        unused = [f"{table.file.name}, column {name}" for table in read_tables(root) if (name := table.find(["split"]))]
        how = f"split at random{f' (and not as in {unused[0]})' if unused else ''}"
    return folder.finish(splits, classes, request, how)


def read_splits(folder: Folder, found: Mapping[str, Path]) -> tuple[tuple[str, ...], Listing]:
    """Classes and splits of the form ``train/class/image``."""
    root = folder.root
    listed = ", ".join(f"{path.name}/" for path in found.values())
    check_splits(folder, [path.name for path in found.values()], found)
    others = [path.name for path in subfolders(root) if path not in found.values() and holds_images(path)]
    if others:
        raise DataError(
            f"{root} has images in {others[0]}/ beside {listed}, so that it is not clear what the splits are; move "
            f"{others[0]}/ out of the data folder or into the splits"
        )
    train = found.get("train") or next(iter(found.values()))
    classes = name_classes(train, subfolders(train), folder.pattern)
    splits: Listing = {split: [] for split in SPLITS}
    for split in found:
        for inner in subfolders(found[split]):
            name = normal(inner.name)
            if name in classes:
                splits[split] += read_class(folder, inner, classes.index(name))
            else:
                place = inner.relative_to(root).as_posix()
                folder.problems.add(place, f"{train.name}/ has no class {name!r}", "add or rename it")
    return classes, splits


def check_splits(folder: Folder, names: Sequence[str], found: Container[str]) -> None:
    """Raise DataError if a split that is needed has no folder."""
    root, missing = folder.root, [f"{split}/" for split in folder.needed if split not in found]
    if missing:
        listed = ", ".join(f"{name}/" for name in names)
        raise DataError(
            f"{root} has {listed} but no {' and no '.join(missing)}; training needs train/ and val/ (test/ may be "
            "missing)"
        )


def split_classes(folder: Folder) -> tuple[tuple[str, ...], Listing]:
    """Classes and splits of the form ``class/image``; the split of a class depends on its own files and the seed."""
    root = folder.root
    folders = subfolders(root)
    if len(folders) == 1 and len(subfolders(folders[0])) > 1:
        raise DataError(
            f"{root} holds the one folder {folders[0].name}/; if its folders are the classes, give {folders[0]}"
        )
    tables = read_tables(root) if len(folders) == 1 else []
    if tables and not any(table.find(LABELS) for table in tables):
        known = "; ".join(f"{table.file.name} has {', '.join(table.columns)}" for table in tables)
        raise DataError(
            f"{root} has images in one folder, {folders[0].name}/, and no CSV file with a column of labels: {known}; "
            f"call this column {LABELS[0]}, write 0 or 1 in a column for each of several labels (classes='a,b' names "
            "these columns), or put the images into a folder for each class"
        )
    classes = name_classes(root, folders, folder.pattern)
    return classes, cut_classes(
        classes, [read_class(folder, inner, label) for label, inner in enumerate(folders)], folder.problems, folder.seed
    )


def cut_classes(
    classes: Sequence[str], samples: Sequence[Sequence[Sample]], problems: Problems, seed: int | None
) -> Listing:
    """Split each class's samples by the seed; ``None`` leaves all in ``train``."""
    splits: Listing = {split: [] for split in SPLITS}
    for name, found in zip(classes, samples, strict=True):
        if seed is None:
            splits["train"] += found
            continue
        if 0 < len(found) < 3:
            problems.add(
                f"{name}/",
                f"{plural(len(found), 'image')} cannot be split into train, val and test",
                "add images, at least 3 a class, or remove the folder",
            )
            continue
        for split, rows in cut(name, len(found), seed).items():
            splits[split] += [found[row] for row in rows]
    return splits


def sort_scenes(folder: Folder, pattern: BandPattern) -> tuple[tuple[str, ...], Listing]:
    """Classes and splits of scenes whose pattern names their class, and perhaps their split."""
    root, problems = folder.root, folder.problems
    scenes = pattern.gather(root, folder.images(root), problems)
    found = {key: scene for key, scene in scenes.found.items() if not scene.fields["f0"]}
    folder.unmatched += [*scenes.unmatched, *(file for file, key in scenes.keys.items() if key not in found)]
    pattern.refuse_empty(root, Scenes(dict(found), folder.unmatched))
    classes = tuple(sorted({scene.fields["class"] for scene in found.values()}))
    if not pattern.has("split"):
        sorted_samples: list[list[Sample]] = [[] for _ in classes]
        for key, scene in found.items():
            label = classes.index(scene.fields["class"])
            sorted_samples[label].append(Sample(key, label, BandFiles(scene.files)))
        return classes, cut_classes(classes, sorted_samples, problems, folder.seed)
    names = sorted({scene.fields["split"] for scene in found.values()})
    split_of = {name: split for split, name in match_splits(names, root).items()}
    check_splits(folder, names, split_of.values())
    splits: Listing = {split: [] for split in SPLITS}
    for key, scene in found.items():
        if scene.fields["split"] in split_of:
            sample = Sample(key, classes.index(scene.fields["class"]), BandFiles(scene.files))
            splits[split_of[scene.fields["split"]]].append(sample)
        else:
            problems.add(
                f"{scene.fields['split']}/", "it is no split", f"rename it ({', '.join(SPLITS)}), or remove it"
            )
    return classes, splits


def name_classes(root: Path, folders: Sequence[Path], pattern: BandPattern | None = None) -> tuple[str, ...]:
    """The folders' names. Raises DataError if one is not UTF-8 or named like a split, or all are named like bands."""
    wrong = [readable(folder.name) for folder in folders if readable(folder.name) != folder.name]
    if wrong:
        raise DataError(
            f"{root} has class folders whose names are no UTF-8 ({', '.join(wrong[:3])}{', ...' * (len(wrong) > 3)}); "
            "rename them"
        )
    splits = [folder.name for folder in folders if LIKE_SPLIT.fullmatch(folder.name)]
    if splits:
        raise DataError(
            f"{root} has class folders that are named like splits ({', '.join(splits)}); put folders named train, val "
            "and test into the data folder and the class folders into these, or rename the classes"
        )
    names = tuple(normal(folder.name) for folder in folders)
    bands = {band.casefold() for sensor in SENSORS.values() for band, *_ in sensor.bands}
    if pattern is not None and names and all(name.casefold() in bands for name in names):
        raise DataError(
            f"{root} has a folder for each band ({', '.join(names)}) where class folders are expected; name the class "
            "in the pattern, as in bands='{band}/{class}/{scene}.tif'"
        )
    return names


def read_class(data: Folder, folder: Path, label: int) -> list[Sample]:
    """Images of one class folder."""
    root, problems, samples = data.root, data.problems, []
    place = folder.relative_to(root).as_posix()
    if data.pattern is not None:
        scenes = data.pattern.gather(folder, data.images(folder), problems, f"{place}/")
        data.unmatched += [f"{place}/{file}" for file in scenes.unmatched]
        samples = [Sample(f"{place}/{key}", label, BandFiles(one.files)) for key, one in scenes.found.items()]
        if scenes.unmatched and not samples:
            what = f"no file fits bands={data.pattern.text!r}, such as {scenes.unmatched[0]}"
            problems.add(f"{place}/", what, "correct the pattern, or remove the folder")
            return []
    above = f"{root.as_posix().rstrip('/')}/"
    for file in walk_files(folder, is_file=is_folder_image, junk=data.junk) if data.pattern is None else ():
        path = file.as_posix().removeprefix(above)
        if is_image(file):
            samples.append(Sample(path, label, str(file)))
        else:
            problems.add(path, f"not named as an image ({', '.join(image_suffixes())})", "convert, rename or remove it")
    if not samples:
        problems.add(f"{place}/", "no image in this class folder", "fill or remove it")
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

    Raises DataError if the first line is not ``path,channels``, where ``path`` is a name in ``PATHS``.
    """
    path = root / TABLE
    if not path.is_file():
        return []
    rows = list(csv.reader(map(normal, read_lines(path))))
    head = [cell.strip().casefold() for cell in rows[0]] if rows else []
    if len(head) != len(HEADER) or head[0] not in PATHS or head[1] != HEADER[1]:
        found = ",".join(rows[0]) if rows else ""
        others = ", ".join(name for name in PATHS if name != HEADER[0])
        raise DataError(
            f"{path}: the first line is {found!r}; it has to be {','.join(HEADER)!r} (path may also be called {others})"
        )
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
        path = PurePosixPath(normal(os.path.normpath(sample.path)))
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
