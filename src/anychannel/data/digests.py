"""Content digests of files, remembered by size and time of change, so that a second load need not read them again."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anychannel.data.content import Stamp, digest_content, read_content, stamp_content
from anychannel.data.listing import Entry, Listing
from anychannel.data.problems import Problems
from anychannel.data.workers import chunked, count_workers
from anychannel.utils.files import write_text
from anychannel.utils.progress import progress_bar

SETTLED_NS = 2_000_000_000
"""A file changed so shortly before it was read may change again within its clock's tick: do not remember it."""


def digest_files(
    listing: Listing,
    memory: Path,
    problems: Problems,
    *,
    verify: bool = False,
    progress: bool = False,
) -> dict[str, str]:
    """Content digests of a listing's files, by path.

    Args:
        listing: what to read.
        memory: JSON file with what earlier loads of this folder found; read, then brought up to date.
        problems: gets the files that are missing, empty or unreadable, which are left out of the result.
        verify: read every file, whatever is remembered.
        progress: show a bar on standard error.
    """
    known = {} if verify else recall(memory)
    stamps: dict[str, Stamp] = {}
    for _, entry in listing.entries:
        if entry.path in stamps:
            continue
        stamp = stamp_of(listing.root, entry, problems)
        if stamp is not None:
            stamps[entry.path] = stamp
    digests = {path: known[path][1] for path, stamp in stamps.items() if path in known and known[path][0] == stamp}
    changed = [path for path in stamps if path not in digests]
    if not changed:
        return digests
    started = time.time_ns()
    with progress_bar("reading", len(changed), show=progress) as advance, ThreadPoolExecutor(count_workers()) as pool:
        advance(0, note=f"{len(changed):,} files to see whether they have changed")
        for chunk in pool.map(
            lambda paths: [(path, read_digest(listing.root / path)) for path in paths], chunked(changed)
        ):
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


def stamp_of(root: Path, entry: Entry, problems: Problems) -> Stamp | None:
    """Size in bytes and time of change in ns, or None where the file is of no use."""
    try:
        stamp = stamp_content(root / entry.path)
    except FileNotFoundError:
        problems.add(entry.place, "the file is missing", "restore it, or remove its line")
        return None
    except (OSError, ValueError) as error:
        problems.add(entry.place, f"cannot be read ({error})", "correct the path or the file's permissions")
        return None
    if stamp is None:
        problems.add(entry.place, "it is not a file", "list files, not folders")
    elif stamp[0] == 0:
        problems.add(entry.place, "the file is empty (zero bytes)", "replace or remove it")
        return None
    return stamp


def read_digest(file: Path) -> str | OSError:
    """Digest of a file's content, or what kept it from being read."""
    try:
        return digest_content(read_content(file))
    except OSError as error:
        return error


def recall(memory: Path) -> dict[str, tuple[Stamp, str]]:
    """What ``digest_files`` wrote; nothing where the file is missing or damaged."""
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
        return {path: ((int(size), int(changed)), str(digest)) for path, (size, changed, digest) in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
