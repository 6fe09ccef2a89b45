"""Source: list files. ``train.txt``, ``val.txt`` and ``test.txt`` hold ``path label``, one image a line.

Paths are relative to the folder and may contain spaces; labels count from 0. A third word names the channels of an
image that does not hold all of them (``path label R,G``). ``classes.txt`` (optional) gives the
classes' names and ``channels.txt`` (optional) the channels' names, one a line.
"""

from __future__ import annotations

from pathlib import Path

from anychannel.data.dataset import SPLITS
from anychannel.data.listing import Entry, Listing, split_channels
from anychannel.data.problems import DataError, Problems

LOOKS_FOR = "list files train.txt, val.txt and test.txt with 'path label' on each line"


def list_paths(root: Path) -> dict[str, Path]:
    """The list files that are there, by split."""
    return {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}


def looks_like(root: Path) -> bool:
    """Whether the folder holds at least one list file."""
    return bool(list_paths(root))


def read_names(path: Path) -> tuple[str, ...] | None:
    """Names, one a line, or None where there is no such file.

    Raises:
        DataError: a name repeats or there is none.
    """
    if not path.is_file():
        return None
    names = tuple(line.strip() for line in read_lines(path) if line.strip())
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        what = f"{repeated[0]!r} is there twice" if repeated else "it is empty"
        raise DataError(f"{path}: {what}; give each name once, one a line")
    return names


def read_lines(path: Path) -> list[str]:
    """A text file's lines.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def read(root: Path, problems: Problems, *, seed: int = 0) -> Listing:  # noqa: ARG001
    """Read the lists; wrong lines are noted in ``problems`` and left out.

    Args:
        root: the data folder.
        problems: gets malformed lines and labels that are out of range.
        seed: unused, the lists are the splits.

    Raises:
        DataError: a list is missing, or a file of names cannot be used.
    """
    paths = list_paths(root)
    missing = [f"{split}.txt" for split in SPLITS if split not in paths]
    if missing:
        found = ", ".join(path.name for path in paths.values())
        raise DataError(f"{root} has {found} but no {' and no '.join(missing)}; all three lists are needed")
    names = read_names(root / "classes.txt")
    splits = {split: read_list(path, problems) for split, path in paths.items()}
    if names is None:
        highest = max((entry.label for entry in splits["train"]), default=-1)
        names = tuple(str(label) for label in range(highest + 1))
        limit = f"train.txt has labels 0 to {highest}"
    else:
        limit = f"classes.txt names {len(names)} classes, so labels are 0 to {len(names) - 1}"
    kept = {}
    for split, entries in splits.items():
        for entry in entries:
            if entry.label >= len(names):
                problems.add(entry.where, f"label {entry.label} of {entry.path} is out of range", limit)
        kept[split] = tuple(entry for entry in entries if entry.label < len(names))
    return Listing(root, names, kept, read_names(root / "channels.txt"))


def read_list(path: Path, problems: Problems) -> list[Entry]:
    """Entries of one list; lines that are not ``path label [channels]`` are noted and left out, empty ones skipped."""
    entries = []
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
        if len(words) == 1:
            problems.add(where, f"malformed line {line.strip()!r}", "write 'path label'")
        elif not is_integer(words[1]):
            problems.add(
                where, f"label {words[1]!r} of {words[0].strip()} is not an integer", "labels are 0, 1, 2, ..."
            )
        elif int(words[1]) < 0:
            problems.add(where, f"label {words[1]} of {words[0].strip()} is out of range", "labels count from 0")
        elif channels == ():
            problems.add(where, f"no channel is named for {words[0].strip()}", "name the file's planes, as R,G")
        else:
            entries.append(Entry(words[0].strip(), int(words[1]), where, channels))
    return entries


def is_integer(word: str) -> bool:
    """Whether a word is a whole number, perhaps negative."""
    return word.isascii() and word.removeprefix("-").isdigit()
