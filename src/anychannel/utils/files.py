"""Write files atomically: a reader never sees an incomplete file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from anychannel.utils.names import normal

LOCK = ".lock"
"""Lock file in a run's folder. The process that trains there holds it; the system frees it however the process ends."""

FULL = 2**20
"""A failed write is attributed to a full disk if the disk has fewer free bytes than this."""


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
        inside = sorted(waiting.pop(0).iterdir())
        if junk is not None:
            junk += [file for path in inside if is_junk(path.name) for file in junk_files(path)]
            inside = [path for path in inside if not is_junk(path.name)]
        folders = [path for path in inside if path.is_dir() and not is_file(path)]
        yield from (path for path in inside if path not in folders)
        new = {path.resolve(): path for path in reversed(folders) if not leads_up(path, folder)}
        waiting = [path for path in folders if path in new.values() and path.resolve() not in seen] + waiting
        seen.update(new)


def junk_files(path: Path) -> list[Path]:
    """The files of a junk folder, or the junk file."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def find_file(path: Path) -> Path:
    """The file of this name, whose letters may be composed otherwise on the disk (see ``normal``); else ``path``."""
    if path.exists() or path.parent == path:
        return path
    folder = find_file(path.parent)
    alike = [one for one in folder.iterdir() if normal(one.name) == normal(path.name)] if folder.is_dir() else []
    return alike[0] if alike else path


def is_free(lock: Path) -> bool:
    """Whether no process on this machine holds a lock file."""
    with suppress(Timeout, OSError), FileLock(lock).acquire(timeout=0):
        return True
    return False


def readable(text: str) -> str:
    """Replace the bytes of a file's name that are not UTF-8, so that the text can be encoded as UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it to ``path``, whose folder may be missing.

    An OSError names ``path``, even if a library reports a full disk as another error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        temporary = Path(name)
        os.close(handle)
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except Exception as error:
        if shutil.disk_usage(path.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Check that a file can be written at a path, before its content is computed. Creates nothing."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    refused = {errno.EISDIR: path.is_dir(), errno.ENOTDIR: not folder.is_dir()}
    for reason, holds in {**refused, errno.EACCES: not os.access(folder, os.W_OK)}.items():
        if holds:
            raise OSError(reason, os.strerror(reason), str(path))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
