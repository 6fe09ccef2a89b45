"""Shards: pieces of a data set that are read from one end to the other, through the ``webdataset`` library.

    wds:photos                                       a folder with train-*.tar, val-*.tar and test-*.tar (or .tar.gz)
    wds:shards/train-{000..099}.tar                  files, braces expanded
    wds:https://host/train-{000..099}.tar            http, https, gs, hf and what else webdataset opens
    wds:pipe:aws s3 cp s3://bucket/train-{000..099}.tar -

A sample is the files of one shard that share a name up to the first dot: ``000017.tif`` and ``000017.cls``. Nothing in
a shard is unpickled or executed; a ``pipe:`` runs the command that it was given.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from anychannel.data.dataset import SPLITS
from anychannel.data.problems import DataError, ImageError
from anychannel.data.samples import Sample
from anychannel.utils.extras import need

SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:")
ENDINGS = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
"""Files of a folder that are shards."""
END = bytes(1024)
"""The two empty blocks that end a tar file."""


class ShardError(DataError):
    """A shard that cannot be read to its end.

    Args:
        place: the shard, and the last sample that could be read.
        what: is wrong.
        fix: what to do about it.
    """

    def __init__(self, place: str, what: str, fix: str) -> None:
        super().__init__(f"{place}: {what}; {fix}")
        self.place = place
        self.error = ImageError(what, fix)


class Shards(Protocol):
    """The shards of one split."""

    @property
    def names(self) -> Sequence[str]:
        """For messages, each once."""
        ...

    def stamps(self) -> list[Any]:
        """For each shard what changes with its content, as far as can be told without reading it; plain values."""
        ...

    def read(self, shard: int) -> Iterator[Sample]:
        """The samples of a shard in its own order, one in memory at a time.

        Raises:
            ShardError: it cannot be read to its end.
        """
        ...


@dataclass(frozen=True)
class TarShards:
    """Tar files, local or wherever webdataset reads from.

    Args:
        urls: of the shards.
    """

    urls: tuple[str, ...]

    @property
    def names(self) -> Sequence[str]:
        """As ``Shards.names``."""
        return self.urls

    def stamps(self) -> list[Any]:
        """Address and, of local files, size and time of change."""
        found: list[Any] = []
        for url in self.urls:
            if SCHEME.match(url):
                found.append([url])
                continue
            try:
                status = Path(url).stat()
            except OSError as error:
                raise DataError(f"{url}: cannot be read ({error.strerror}); check the shard's path") from error
            found.append([str(Path(url).resolve()), status.st_size, status.st_mtime_ns])
        return found

    def read(self, shard: int) -> Iterator[Sample]:
        """As ``Shards.read``."""
        need("webdataset", "wds", "a shard")
        gopen, iterators = import_module("webdataset.gopen"), import_module("webdataset.tariterators")
        url, last = self.urls[shard], "before its first sample"
        try:
            check_end(url)
            with gopen.gopen(url) as stream:
                files = iterators.tar_file_expander([{"url": url, "stream": stream}])
                for found in iterators.group_by_keys(files):
                    fields = {name: value for name, value in found.items() if not name.startswith("__")}
                    last = f"after sample {found['__key__']}"
                    yield Sample(f"{url}: {found['__key__']}", fields)
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            if isinstance(error, DataError):
                raise
            reason = str(error.args[0] if error.args else error).split(" @ ")[0]
            if isinstance(error, FileNotFoundError):
                reason = "there is no such file"
            raise ShardError(
                url, f"it cannot be read {last} ({reason})", "replace the shard, or leave it out"
            ) from error


def check_end(url: str) -> None:
    """Refuse a local, uncompressed tar file that was cut between two samples, which reading it would not show.

    Raises:
        ShardError: its end is missing.
        OSError: it cannot be read.
    """
    if SCHEME.match(url) or not url.endswith(".tar"):
        return
    with Path(url).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(END)))
        if file.read() != END:
            raise ShardError(url, "its end is missing, so it was not written or copied whole", "replace the shard")


def find_tar_shards(spec: str, val: str | None, test: str | None) -> dict[str, TarShards]:
    """The shards of each split.

    Args:
        spec: a folder, or the training split's shards.
        val, test: the other splits' shards; not with a folder.

    Raises:
        DataError: there are none, a split is not told, or a shard is in two splits.
    """
    folder = Path(spec).expanduser()
    if not SCHEME.match(spec) and folder.is_dir():
        if val is not None or test is not None:
            raise DataError(f"{spec} is a folder, whose files' names tell the splits; leave val and test out")
        files = sorted(str(file) for file in folder.resolve().iterdir() if file.name.endswith(ENDINGS))
        specs = {split: [file for file in files if Path(file).name.startswith(split)] for split in SPLITS}
        absent = [split for split, found in specs.items() if not found]
        if absent:
            raise DataError(
                f"{folder} has no shards named {absent[0]}*.tar; name the shards train-000.tar, val-000.tar ..."
            )
    else:
        told = {"train": spec, "val": val, "test": test}
        for split, text in told.items():
            if text is None:
                raise DataError(f"nothing tells the shards of {split}; give {split}='{split}-{{000..001}}.tar'")
        specs = {split: expand(text) for split, text in told.items() if text is not None}
    seen: dict[str, str] = {}
    for split, urls in specs.items():
        for url in urls:
            if url in seen:
                raise DataError(f"shard {url} is listed twice, in {seen[url]} and {split}; keep one of them")
            seen[url] = split
    return {split: TarShards(tuple(urls)) for split, urls in specs.items()}


def make_absolute(spec: str) -> str:
    """The same shards, however local ones are looked at from elsewhere."""
    return spec if SCHEME.match(spec) else str(Path.cwd() / Path(spec).expanduser())


def expand(spec: str) -> list[str]:
    """Addresses of shards, with braces (``{000..009}``) expanded as webdataset does, and ``*`` for local files.

    Raises:
        DataError: no local file matches.
    """
    need("webdataset", "wds", "a list of shards")
    urls: list[str] = []
    for url in import_module("webdataset.shardlists").expand_urls(spec):
        if SCHEME.match(url):
            urls.append(url)
            continue
        path = Path(url).expanduser()
        found = sorted(path.parent.glob(path.name)) if set("*?[") & set(path.name) else [path]
        if not found or not all(one.is_file() for one in found):
            raise DataError(f"{url}: there is no such shard; check the path and the braces of {spec!r}")
        urls += [str(one.resolve()) for one in found]
    return urls
