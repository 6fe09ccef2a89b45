"""Source ``wds``: tar shards, read from one end to the other through the ``webdataset`` library.

    wds:photos                                       a folder with train-*.tar, val-*.tar and test-*.tar (or .tar.gz)
    wds:shards/train-{000..099}.tar                  files, braces expanded
    wds:https://host/train-{000..099}.tar            http, https, gs, hf and what else webdataset opens
    wds:pipe:aws s3 cp s3://bucket/train-{000..099}.tar -

A sample is the files of one shard that share a name up to the first dot: ``000017.tif`` and ``000017.cls``. Nothing in
a shard is unpickled or executed. A ``pipe:`` runs a shell command, so it needs ``allow_pipe``.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from lzma import LZMAError
from pathlib import Path
from tarfile import TarError
from typing import IO, Any, Literal

from anychannel.data.errors import DataError, ImageError, ShardError
from anychannel.data.limits import check_extent
from anychannel.data.sources.folders import read_names
from anychannel.data.sources.source import SPLITS, Fields, Record, Request, Source, StreamSettings, match_splits
from anychannel.utils.braces import expand_braces
from anychannel.utils.extras import need
from anychannel.utils.folders import is_junk
from anychannel.utils.tar import read_samples

SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:")
MOST_SHARDS = 1_000_000
DAMAGED = (OSError, EOFError, ValueError, TarError, LZMAError, zlib.error)
"""What reading a damaged shard raises."""
ENDINGS = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
"""Files of a folder that are shards."""
END = bytes(1024)
"""The two empty blocks that end a tar file."""


@dataclass(frozen=True)
class TarShards:
    """Tar files, local or wherever webdataset reads from. ``names`` are their addresses."""

    names: Sequence[str]
    fields: Fields
    storage: Literal["disk"] = "disk"

    def stamps(self) -> list[Any]:
        """Address and, of local files, size and time of change."""
        found: list[Any] = []
        for url in self.names:
            if SCHEME.match(url):
                found.append([url])
                continue
            try:
                status = Path(url).stat()
            except OSError as error:
                raise DataError(f"{url}: cannot be read ({error.strerror}); check the shard's path") from error
            found.append([str(Path(url).resolve()), status.st_size, status.st_mtime_ns])
        return found

    def read(self, shard: int) -> Generator[Record]:
        """Yield the samples of a shard, one in memory at a time."""
        need("webdataset", "wds", "a shard")
        url, last = self.names[shard], "before its first sample"
        try:
            with open_shard(url) as stream:
                for key, values in read_samples(stream, lambda size: check_extent(size // 8, "unfolds to")):
                    last = f"after sample {key}"
                    yield Record(f"{url}: {key}", values, self.fields)
        except DAMAGED as error:
            if isinstance(error, DataError) and not isinstance(error, ImageError):
                raise
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else error
            what = f"it cannot be read {last} ({reason}); replace the shard, or leave it out"
            raise ShardError(f"{url}: {what}") from error


def open_shard(url: str) -> IO[bytes]:
    """A shard's bytes. Raises ShardError if a local file was cut between two samples, which reading would not show."""
    if SCHEME.match(url):
        stream: IO[bytes] = import_module("webdataset.gopen").gopen(url)
        return stream
    file = open(url, "rb")  # noqa: SIM115  # whoever reads it closes it
    if url.endswith(".tar"):
        file.seek(max(0, file.seek(0, 2) - len(END)))
        whole = file.read() == END
        file.seek(0)
        if not whole:
            file.close()
            raise ShardError(f"{url}: its end is missing, so it was not written or copied whole; replace the shard")
    return file


def open_tar_shards(
    spec: str,
    request: Request,
    *,
    val: str | None = None,
    test: str | None = None,
    image: str | Sequence[str] | None = None,
    label: str = "cls",
    held: str | None = None,
    class_names: Sequence[str] | None = None,
    epoch_images: int | None = None,
    statistics_images: int | None = None,
    buffer: int = 4096,
    lanes: int | None = None,
    workers: int = 0,
) -> Source:
    """Find the shards of each split; training images are read as a ``Stream``.

    Args:
        spec: a folder with ``train*.tar``, ``val*.tar`` and ``test*.tar``, or the training shards.
        request: the options that all sources take.
        val, test: the other splits' shards, if ``spec`` is no folder.
        image, label, held: see ``Fields``.
        class_names: in the labels' order; None takes a folder's ``classes.txt``, else what the labels say.
        epoch_images, statistics_images, buffer, lanes, workers: see ``StreamSettings``.
    """
    urls = find_shards(spec, val, test)
    for url in chain.from_iterable(urls.values()):
        if url.startswith("pipe:") and not request.allow_pipe:
            raise DataError(
                f"{url!r} runs a command, which nothing read from a run or a recipe does; type it for `anychannel "
                "train` with --allow-pipe, or give load_dataset(..., allow_pipe=True)"
            )
    folder = Path(spec).expanduser()
    local = not SCHEME.match(spec)
    names = None if class_names is None else tuple(class_names)
    if names is None and local:
        names = read_names(folder / "classes.txt")
    fields = Fields(image if image is None or isinstance(image, str) else tuple(image), label, held, names)
    name = spec if not local else (folder if folder.is_dir() else folder.parent).resolve().name
    stream = StreamSettings(epoch_images, statistics_images, buffer, lanes, workers)
    splits = {split: TarShards(found, fields) for split, found in urls.items()}
    return Source(name, splits, names, fields.planes, stream=stream)


def find_shards(spec: str, val: str | None, test: str | None) -> dict[str, list[str]]:
    """The addresses of each split's shards; see ``open_tar_shards``."""
    folder = Path(spec).expanduser()
    if not SCHEME.match(spec) and folder.is_dir():
        if val is not None or test is not None:
            raise DataError(f"{spec} is a folder, where file names give the splits; leave val and test out")
        there = filter(Path.is_file, folder.resolve().iterdir())
        files = [file for file in sorted(there) if file.name.endswith(ENDINGS)]
        words = {file: re.split(r"[^a-z]", file.name.casefold())[0] for file in files if not is_junk(file.name)}
        names = match_splits(dict.fromkeys(words.values()), folder)
        found = {split: [str(file) for file in words if words[file] == names.get(split)] for split in SPLITS}
        others = [file.name for file in words if words[file] not in names.values()]
        if others:
            raise DataError(f"{folder / others[0]} belongs to no split ({len(others)} in all); rename or move it")
        absent = [split for split, urls in found.items() if not urls and split != "test"]
        if absent:
            raise DataError(
                f"{folder} has no shards named {absent[0]}*.tar; name the shards train-000.tar, val-000.tar ..."
            )
    else:
        given = {"train": spec, "val": val, "test": test}
        for split, text in given.items():
            if text is None and split != "test":
                raise DataError(f"the shards of {split} are missing; give {split}='{split}-{{000..001}}.tar'")
        found = {split: [] if text is None else expand(text) for split, text in given.items()}
    seen: dict[str, str] = {}
    for split, urls in found.items():
        for url in urls:
            if url in seen:
                raise DataError(f"shard {url} is listed twice, in {seen[url]} and {split}; keep one of them")
            seen[url] = split
    return found


def make_absolute(spec: str) -> str:
    """The same shards, as seen from any folder."""
    return spec if SCHEME.match(spec) else str(Path.cwd() / Path(spec).expanduser())


def expand(spec: str) -> list[str]:
    """Addresses of shards, with braces (``{000..009}``) expanded as webdataset does, and ``*`` for local files.

    Raises DataError if no local file matches, or there are more than a million.
    """
    need("webdataset", "wds", "a list of shards")
    try:
        found = [url for part in spec.split("::") for url in expand_braces(part, MOST_SHARDS)]
    except ValueError as error:
        raise DataError(str(error)) from error
    urls: list[str] = []
    for url in found:
        url = re.sub("^(file:(//)?)+", "", url)
        if SCHEME.match(url):
            urls.append(url)
            continue
        path = Path(url).expanduser()
        files = sorted(path.parent.glob(path.name)) if set("*?[") & set(path.name) else [path]
        if not files or not all(one.is_file() for one in files):
            raise DataError(f"{url}: there is no such shard; check the path and the braces of {spec!r}")
        urls += [str(one.resolve()) for one in files]
    return urls
