"""Content digests of files, remembered by size and time of change, so that a second load need not read them again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anychannel.data.content import Stamp
from anychannel.data.errors import Problems
from anychannel.data.sources.samples import Sample
from anychannel.data.workers import count_workers
from anychannel.utils.files import write_text
from anychannel.utils.progress import progress_bar

SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within its clock's tick: do not remember it."""


class FileDigests:
    """Digests of the files of one source.

    Args:
        cache_dir: folder of the cache, which keeps what earlier loads found in ``files/``.
        place: the source, by which it is known again.
        samples: the files.
        problems: gets files that are missing, empty or no files.
        forget: read every file, whatever is remembered.
    """

    def __init__(
        self, cache_dir: Path, place: str, samples: Iterable[Sample], problems: Problems, *, forget: bool
    ) -> None:
        self.memory = cache_dir / "files" / f"{hashlib.blake2b(os.fsencode(place), digest_size=16).hexdigest()}.json"
        self.samples: dict[str, Sample] = {}
        self.stamps: dict[str, Stamp] = {}
        self.started = time.time_ns()
        for sample in samples:
            if self.samples.setdefault(sample.path, sample) is sample:
                self.stamp(sample, problems)
        known = {} if forget else recall(self.memory)
        self.known = {path: known[path][1] for path, stamp in self.stamps.items() if known.get(path, ((),))[0] == stamp}

    def stamp(self, sample: Sample, problems: Problems) -> None:
        """Note size and time of change of a file, or what makes it unusable."""
        try:
            stamp = sample.stamp()
        except FileNotFoundError:
            problems.add(sample.place, "the file is missing", "restore it, or remove its line")
            return
        except (OSError, ValueError) as error:
            problems.add(sample.place, f"cannot be read ({error})", "correct the path or the file's permissions")
            return
        if stamp is None:
            problems.add(sample.place, "it is not a file", "list files, not folders")
        elif stamp[0] == 0:
            problems.add(sample.place, "the file is empty (zero bytes)", "replace or remove it")
        else:
            self.stamps[sample.path] = stamp

    def is_settled(self, path: str) -> bool:
        """Whether a file changed long enough ago to be known by its time of change."""
        return path in self.stamps and self.stamps[path][1] < self.started - SETTLED_NS

    def read_unknown(self, problems: Problems, *, progress: bool) -> Mapping[str, str]:
        """Read the files that are not known, and return the digests of all by path; unreadable ones are noted."""
        unknown = [self.samples[path] for path in self.stamps if path not in self.known]
        if not unknown:
            return self.known

        def read(sample: Sample) -> str | OSError:
            try:
                return sample.find_digest(sample.load()) or ""
            except OSError as error:
                return error

        bar = progress_bar("reading", len(unknown), show=progress)
        with bar as advance, ThreadPoolExecutor(count_workers()) as pool:
            advance(0, note=f"{len(unknown):,} files to see whether they have changed")
            for sample, digest in zip(unknown, pool.map(read, unknown), strict=True):
                if isinstance(digest, OSError):
                    problems.add(sample.place, *unreadable(digest))
                else:
                    self.known[sample.path] = digest
                advance()
        self.remember()
        return self.known

    def note(self, paths: Sequence[str], digests: Sequence[str]) -> None:
        """Take digests that were found elsewhere."""
        self.known.update(zip(paths, digests, strict=True))

    def remember(self) -> None:
        """Keep the digests of settled files for later loads."""
        fresh = {path: [*self.stamps[path], digest] for path, digest in self.known.items() if self.is_settled(path)}
        if fresh:
            before = {path: [*stamp, digest] for path, (stamp, digest) in recall(self.memory).items()}
            write_text(self.memory, json.dumps(before | fresh))


def unreadable(error: OSError) -> tuple[str, str]:
    """What an error of the system says of a file, and the fix."""
    return f"cannot be read ({error.strerror})", "check the file and its permissions"


def recall(memory: Path) -> dict[str, tuple[Stamp, str]]:
    """What ``remember`` wrote; nothing if the file is missing or damaged."""
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
        return {path: ((int(size), int(changed)), str(digest)) for path, (size, changed, digest) in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
