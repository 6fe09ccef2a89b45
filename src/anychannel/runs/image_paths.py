"""The image files that a person names: files, folders, patterns, lists of paths, standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from anychannel.data.content import is_folder_image
from anychannel.data.errors import DataError, Problems
from anychannel.data.files.registry import image_suffixes
from anychannel.data.sources.folders import apply_table, is_image, read_names
from anychannel.data.sources.source import Sample
from anychannel.utils.folders import find_file, walk_files

LISTS = (".txt", ".lst", ".list")
"""Endings of the names of text files that hold one path a line."""
STANDARD_INPUT = "-"


class ImagePath(NamedTuple):
    """An image file, and the names of its channels in their order if its folder tells them."""

    path: str
    channels: tuple[str, ...] | None = None


def find_images(named: str | Path | Sequence[str | Path]) -> list[ImagePath]:
    """List the image files that paths name, in the order of the paths and of the names in each folder.

    A path is a file; a folder, of which all images at any depth are taken; a pattern with ``*``, ``?``, ``[...]`` or
    ``**``; a text file (``LISTS``) with one path a line, relative to its folder or else to the current one; or ``-``,
    which reads such lines from standard input. A folder may name its images' channels, in ``channels.txt`` and
    ``channels.csv`` (see ``anychannel.data.sources.folders``). Paths that do not exist are kept, so that whoever reads
    them can say so.

    Raises:
        FileNotFoundError: no path exists.
        DataError: a folder or list holds no image, or a line of ``channels.csv`` is wrong.
    """
    paths = [named] if isinstance(named, str | Path) else named
    found = [image for path in paths for image in expand(str(path))]
    if not found:
        raise DataError("no image file is named; give files, folders, patterns, a list of paths, or '-'")
    if not any(os.path.lexists(find_file(Path(image.path))) for image in found):
        raise FileNotFoundError(2, os.strerror(2), found[0].path)
    return found


def expand(path: str) -> Iterator[ImagePath]:
    """The images that one path names."""
    place = find_file(Path(path)) if path else Path(path)
    if path == STANDARD_INPUT:
        yield from read_list(sys.stdin.buffer.read(), "standard input", Path())
    elif place.is_dir() and not is_folder_image(place):
        yield from images_in(place)
    elif place.is_file() and place.suffix.lower() in LISTS:
        yield from read_list(place.read_bytes(), str(place), place.parent)
    elif has_magic(path) and not place.exists() and (matches := sorted(glob(os.path.expanduser(path), recursive=True))):
        for match in matches:
            if not has_magic(match) or os.path.exists(match):
                yield from expand(match)
    else:
        yield ImagePath(str(place))


def images_in(folder: Path) -> list[ImagePath]:
    """All images at any depth of a folder, without hidden files and what desktops leave behind."""
    files = [file for file in walk_files(folder, is_file=is_folder_image, junk=[]) if is_image(file)]
    if not files:
        raise DataError(f"{folder} holds no image file ({', '.join(image_suffixes())})")
    problems = Problems()
    usual = read_names(folder / "channels.txt")
    samples = [Sample(file.relative_to(folder).as_posix(), 0, file) for file in files]
    listed = apply_table(folder, {"": samples}, problems)[""]
    problems.raise_if_any(folder)
    return [ImagePath(str(sample.image), sample.channels or usual) for sample in listed]


def read_list(content: bytes, name: str, folder: Path) -> Iterator[ImagePath]:
    """The images of a list with one path a line, or with zero bytes between paths, as ``find -print0`` writes them."""
    text = os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))
    lines = text.split("\0") if "\0" in text else [line.strip() for line in text.splitlines()]
    paths = [line for line in lines if line]
    if not paths:
        raise DataError(f"{name} names no image file; write one path a line")
    for path in paths:
        inside = find_file(folder / path)
        yield from expand(str(inside if inside.exists() or not find_file(Path(path)).exists() else path))
