"""Content digests of files, remembered by size and time of change, so that a second load need not read them again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anychannel.data.problems import Problems
from anychannel.data.workers import chunked, count_workers
from anychannel.files import write_text
from anychannel.progress import progress_bar

SETTLED_NS = 2_000_000_000
"""A file changed so shortly before it was read may change again within its clock's tick: do not remember it."""

Stamp = tuple[int, int]


def digest_bytes(data: bytes) -> str:
    """BLAKE2b of a file's bytes, 128 bits in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_files(
    root: Path,
    places: Iterable[tuple[str, str]],
    memory: Path,
    problems: Problems,
    *,
    verify: bool = False,
    progress: bool = False,
) -> dict[str, str]:
    """Digests of files by path.

    Args:
        root: folder to which the paths are relative.
        places: (path, where it is listed) of each file.
        memory: JSON file with what earlier loads of ``root`` found; read, then brought up to date.
        problems: gets the files that are missing, empty or unreadable, which are left out of the result.
        verify: read every file, whatever is remembered.
        progress: show a bar on standard error.
    """
    known = {} if verify else recall(memory)
    stamps: dict[str, Stamp] = {}
    for path, where in places:
        if path in stamps:
            continue
        stamp = stamp_of(root / path, path, where, problems)
        if stamp is not None:
            stamps[path] = stamp
    digests = {path: known[path][1] for path, stamp in stamps.items() if path in known and known[path][0] == stamp}
    changed = [path for path in stamps if path not in digests]
    if not changed:
        return digests
    started = time.time_ns()
    with progress_bar("reading", len(changed), show=progress) as advance, ThreadPoolExecutor(count_workers()) as pool:
        for chunk in pool.map(lambda paths: [(p, read_digest(root / p)) for p in paths], chunked(changed)):
            for path, digest in chunk:
                if isinstance(digest, OSError):
                    problems.add(path, f"cannot be read ({digest.strerror})", "check the file and its permissions")
                else:
                    digests[path] = digest
            advance(len(chunk))
    fresh = {
        path: (stamps[path], digests[path])
        for path in changed
        if path in digests and stamps[path][1] < started - SETTLED_NS
    }
    if fresh:
        remembered = {**recall(memory), **fresh}
        write_text(memory, json.dumps({path: [*stamp, digest] for path, (stamp, digest) in remembered.items()}))
    return digests


def stamp_of(file: Path, path: str, where: str, problems: Problems) -> Stamp | None:
    """Size in bytes and time of change in ns, or None where the file is of no use."""
    at = path if where == path else f"{path} ({where})"
    try:
        status = file.stat()
    except OSError:
        problems.add(at, "the file is missing", "restore it or remove its line")
        return None
    if not file.is_file():
        problems.add(at, "it is not a file", "list files, not folders")
        return None
    if status.st_size == 0:
        problems.add(at, "the file is empty (zero bytes)", "replace or remove it")
        return None
    return status.st_size, status.st_mtime_ns


def read_digest(file: Path) -> str | OSError:
    """Digest of a file's content, or what kept it from being read."""
    try:
        return digest_bytes(file.read_bytes())
    except OSError as error:
        return error


def recall(memory: Path) -> dict[str, tuple[Stamp, str]]:
    """What ``digest_files`` wrote; nothing where the file is missing or damaged."""
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
        return {path: ((int(size), int(changed)), str(digest)) for path, (size, changed, digest) in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
