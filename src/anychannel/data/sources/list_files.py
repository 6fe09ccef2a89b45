"""Source: list files. ``train.txt``, ``val.txt`` and ``test.txt`` hold ``path label``, one image per line.

Paths are relative to the folder and may contain spaces; labels count from 0. A third word names the channels of an
image that does not have all of them (``path label R,G``). ``classes.txt`` (optional) names the classes and
``channels.txt`` (optional) the channels, one per line.
"""

from __future__ import annotations

from pathlib import Path

from anychannel.data.errors import DataError, Problems
from anychannel.data.sources.channel_table import apply_table, read_lines
from anychannel.data.sources.samples import Sample, split_channels
from anychannel.data.sources.source import SPLITS, Request, Source


def list_paths(root: Path) -> dict[str, Path]:
    """The list files that are there, by split."""
    return {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}


def looks_like(root: Path) -> bool:
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
    """Read the lists. Wrong lines are noted as problems and left out.

    Args:
        spec: the data folder.
        request: not used, as the lists are the splits.

    Raises:
        DataError: a list is missing, or a file of names cannot be used.
    """
    root, problems = Path(spec), Problems()
    paths = list_paths(root)
    missing = [f"{split}.txt" for split in SPLITS if split not in paths]
    if missing:
        found = ", ".join(path.name for path in paths.values())
        raise DataError(f"{root} has {found} but no {' and no '.join(missing)}; all three lists are needed")
    names = read_names(root / "classes.txt")
    splits = {split: read_list(path, problems) for split, path in paths.items()}
    if names is None:
        highest = max((label for _, label in splits["train"]), default=-1)
        names = tuple(str(label) for label in range(highest + 1))
        limit = f"train.txt has labels 0 to {highest}"
    else:
        limit = f"classes.txt names {len(names)} classes, so labels are 0 to {len(names) - 1}"
    kept: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for split, listed in splits.items():
        for sample, label in listed:
            if label < len(names):
                kept[split].append(sample)
            else:
                problems.add(sample.where, f"label {label} of {sample.path} is out of range", limit)
    channels = read_names(root / "channels.txt")
    return Source(root.name, apply_table(root, kept, problems), names, channels, str(root), problems)


def read_list(path: Path, problems: Problems) -> list[tuple[Sample, int]]:
    """Samples and labels of one list. Lines that are not ``path label [channels]`` are noted, empty ones skipped."""
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
            label = int(words[1])
            samples.append((Sample(name, label, path.parent / name, channels, f"{name} ({where})", where), label))
    return samples


def is_integer(word: str) -> bool:
    """Whether a word is a whole number, perhaps negative."""
    return word.isascii() and word.removeprefix("-").isdigit()
