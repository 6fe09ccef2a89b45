"""Walk folders as users have them: with links, with what desktops leave behind, with accents encoded either way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from anychannel.utils.names import normal

JUNK = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "zbthumbnail.info", "icon\r", "__macosx", "@eadir"),
    *("@tmp", "@recycle", "#recycle", "@recently-snapshot", "#snapshot", "@sharebin", "$recycle.bin", "lost+found"),
)
"""What desktops and network drives leave in folders, beside hidden files: thumbnails, settings, deleted files."""


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by a desktop or network drive."""
    return name.startswith(".") or name.lower() in JUNK


def leads_up(path: Path, folder: Path) -> bool:
    """Whether a path in a folder is a link to this folder or to one that contains it."""
    return path.is_symlink() and folder.resolve().is_relative_to(path.resolve())


def walk_files(
    folder: Path, *, is_file: Callable[[Path], bool] = Path.is_file, junk: list[Path] | None = None
) -> Iterator[Path]:
    """All files at any depth, those of a folder before those of its subfolders, in the order of their names.

    Linked folders are followed, each once and never upwards. ``is_file`` says which folders count as files. ``junk``
    gets the files that ``is_junk`` refuses; None yields all.
    """
    seen = {folder.resolve()}
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop(0)) as listed:
            inside = sorted(listed, key=lambda entry: entry.name)
        folders = []
        for entry in inside:
            path = Path(entry.path)
            if junk is not None and is_junk(entry.name):
                junk += junk_files(path)
            elif (path if entry.is_symlink() else entry).is_dir() and not is_file(path):  # a link may lead to itself
                folders.append(path)
            else:
                yield path
        new = {path.resolve(): path for path in reversed(folders) if not leads_up(path, folder)}
        waiting = [path for path in folders if path in new.values() and path.resolve() not in seen] + waiting
        seen.update(new)


def junk_files(path: Path) -> list[Path]:
    """The files of a junk folder, or the junk file."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def path_inside(root: Path, text: str) -> str:
    """A path in a list, as seen from the folder ``root``: absolute ones relative, and with slashes for backslashes."""
    if "\\" in text and not (root / text).exists():
        text = text.replace("\\", "/")
    path = Path(text)
    return path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else text


def find_file(path: Path) -> Path:
    """The file of this name, whose letters may be composed otherwise on the disk (see ``normal``); else ``path``."""
    if path.exists() or path.parent == path:
        return path
    folder = find_file(path.parent)
    alike = [one for one in folder.iterdir() if normal(one.name) == normal(path.name)] if folder.is_dir() else []
    return alike[0] if alike else path
