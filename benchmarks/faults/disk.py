"""Section ``disk``: disks that are full, limits on the size of files, and folders that cannot be written.

A limit on the size of files (``ulimit -f``) stops a write in its middle as a full disk does, and needs no rights. Other
errors of the system are put in the place of a function that writes.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from anychannel.data import DataError, load_dataset
from anychannel.data.prepare import cache
from anychannel.export import export_model
from anychannel.models import load_model
from anychannel.models.saving import save_model
from anychannel.utils.files import write_json
from anychannel.utils.growing_array import GrowingArray
from benchmarks.faults.case import Case
from benchmarks.faults.small_run import invoke, trained

CACHE = "When the cache cannot be written, the error names its folder and the remedy; nothing half-written stays."
READ = "A cache that is whole is read from a disk that cannot be written."
COMMANDS = "A command that cannot write its file ends with one line that names it; the file before it stays as it was."
MODEL = "A model that cannot be written whole leaves the one before it, and an error that names the file."

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def photos(folder: Path) -> Path:
    """24 photographs of two classes."""
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("left", "right"):
            (folder / "photos" / split / label).mkdir(parents=True)
            for i in range(4):
                pixels = random.integers(0, 255, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / label / f"{i}.png")
    return folder / "photos"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def failing(number: int) -> Callable[..., Any]:
    """A function that fails with an error of the system."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def load(folder: Path, cache_dir: Path) -> np.ndarray:
    pixels: np.ndarray = np.array(load_dataset(folder / "photos", channels="R,G,B", cache_dir=cache_dir).train.images)
    return pixels


def refused(folder: Path, cache_dir: Path) -> None:
    """Loading names the cache and the remedy, leaves nothing half-written, and works elsewhere."""
    try:
        load(folder, cache_dir)
    except DataError as error:
        text = str(error)
    else:
        raise AssertionError("it was written")
    if str(cache_dir) not in text or "set ANYCHANNEL_CACHE or cache_dir to another folder" not in text:
        raise AssertionError(text)
    images = cache_dir / "images"
    assert not images.is_dir() or list(images.iterdir()) == []


def check_size(size: int, folder: Path) -> None:
    photos(folder)
    with largest_file(size):
        refused(folder, folder / "cache")
    assert len(load(folder, folder / "cache")) == 8


def check_failing(owner: Any, name: str, number: int, folder: Path) -> None:
    photos(folder)
    with patch.object(owner, name, failing(number)):
        refused(folder, folder / "cache")
    assert len(load(folder, folder / "cache")) == 8


def check_write(number: int, after: int, folder: Path) -> None:
    """The disk is full after some images."""
    photos(folder)
    append, count = GrowingArray.append, 0

    def fill(array: GrowingArray, image: np.ndarray) -> None:
        nonlocal count
        count += 1
        if count > after:
            failing(number)()
        append(array, image)

    with patch.object(GrowingArray, "append", fill):
        refused(folder, folder / "cache")
    assert len(load(folder, folder / "cache")) == 8


def check_place(make: Callable[[Path], Path], folder: Path) -> None:
    photos(folder)
    refused(folder, make(folder))
    assert len(load(folder, folder / "cache")) == 8


def file_there(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file"


def check_read_only(folder: Path) -> None:
    photos(folder)
    for path in (folder / "photos").rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    first = load(folder, folder / "cache")
    full = failing(errno.EROFS)
    with patch.object(Path, "mkdir", full), patch.object(tempfile, "mkstemp", full), largest_file(0):
        assert np.array_equal(load(folder, folder / "cache"), first)


def run_command(size: int, *arguments: object) -> str:
    """Run anychannel in a process that cannot write larger files; it has to fail. Returns what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "anychannel", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
    )
    if done.returncode != 2 or "Traceback" in done.stderr or "terminate" in done.stderr:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stderr


def named(text: str, file: Path) -> None:
    """The last line names the file and the limit."""
    last = text.strip().splitlines()[-1]
    if f"{file} cannot be read or written: File too large; raise the limit" not in last:
        raise AssertionError(text)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


def check_export(suffix: str, size: int, folder: Path) -> None:
    out = folder / f"model{suffix}"
    out.write_text("before")
    text = run_command(size, "export", trained(), "--out", out, "--format", suffix[1:])
    named(text, out)
    assert out.read_text() == "before"
    assert leftovers(folder) == []


def check_export_here(suffix: str, number: int, folder: Path) -> None:
    model, out = load_model(trained()), folder / f"model{suffix}"
    with patch.object(Path, "replace", failing(number)):
        try:
            export_model(model, out, format=suffix[1:], image_size=16)
        except OSError as error:
            assert (error.errno, error.filename) == (number, str(out))  # noqa: PT017
        else:
            raise AssertionError("it was written")
    assert list(folder.iterdir()) == []


def check_train(size: int, folder: Path) -> None:
    settings = ("--data", "bands:3", "--size", 8, "--model", "compact_k7", "--stem", "static", "--sampler", "full")
    more = ("--model-option", "width=16", "--epochs", 1, "--batch-size", 64, "--device", "cpu", "--no-cost")
    text = run_command(size, "train", *settings, *more, "--out", folder / "run", "--cache", folder / "cache")
    assert "cannot be read or written: File too large" in text, text
    assert leftovers(folder) == []
    record = folder / "run" / "run.json"
    assert not record.exists() or json.loads(record.read_text())["status"] == "failed"


def check_evaluate(folder: Path) -> None:
    run = Path(copytree(trained(), folder / "run"))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    text = run_command(2000, "evaluate", run, "--save", "--cache", trained().parent / "cache")
    named(text, run / "evaluation" / "test_predictions.npz")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def check_report(folder: Path) -> None:
    run = Path(copytree(trained(), folder / "run"))
    invoke("report", run, "--out", folder / "report.html")
    before = (folder / "report.html").read_bytes()
    named(run_command(2000, "report", run, "--out", folder / "report.html"), folder / "report.html")
    assert (folder / "report.html").read_bytes() == before
    assert leftovers(folder) == []


def check_model(size: int, folder: Path) -> None:
    model = load_model(trained())
    save_model(model, folder / "model")
    before = {file: file.read_bytes() for file in (folder / "model").rglob("*") if file.is_file()}
    with largest_file(size):
        try:
            save_model(model, folder / "model")
        except OSError as error:
            assert error.errno == errno.EFBIG  # noqa: PT017
            assert Path(str(error.filename)) in before  # noqa: PT017
        else:
            raise AssertionError("it was written")
    assert {file: file.read_bytes() for file in (folder / "model").rglob("*") if file.is_file()} == before


def check_json(number: int, folder: Path) -> None:
    write_json(folder / "a.json", {"a": 1})
    with patch.object(Path, "write_text", failing(number)):
        try:
            write_json(folder / "a.json", {"a": 2})
        except OSError as error:
            assert (error.errno, error.filename) == (number, str(folder / "a.json"))  # noqa: PT017
        else:
            raise AssertionError("it was written")
    assert (folder / "a.json").read_text() == '{\n "a": 1\n}\n'
    assert len(list(folder.iterdir())) == 1


def cases() -> list[Case]:
    """The cache, then what commands write."""
    found = [
        Case(CACHE, f"files of {size} bytes", partial(check_size, size), short=True) for size in (0, 100, 1000, 6200)
    ]
    places: dict[str, tuple[Any, str]] = {
        "folder": (tempfile, "mkdtemp"),
        "checksums": (cache, "find_checksums"),
        "fsync": (os, "fsync"),
        "rename": (Path, "rename"),
    }
    for number in ERRORS:
        name = errno.errorcode[number]
        found += [Case(CACHE, f"{name}, {place}", partial(check_failing, *places[place], number)) for place in places]
        found += [Case(CACHE, f"{name}, after {n} images", partial(check_write, number, n)) for n in (0, 5, 20)]
        found.append(Case(MODEL, f"{name}, JSON", partial(check_json, number), short=True))
    found += [
        Case(CACHE, "a file", partial(check_place, file_there), short=True),
        Case(CACHE, "below a file", partial(check_place, lambda folder: file_there(folder) / "cache"), short=True),
        Case(CACHE, "/proc", partial(check_place, lambda _: Path("/proc/anychannel")), short=True),
        Case(READ, "no file can be written", check_read_only, short=True),
        Case(COMMANDS, "evaluate --save", check_evaluate),
        Case(COMMANDS, "report", check_report),
    ]
    found += [
        Case(COMMANDS, f"export {s}, {size}", partial(check_export, s, size))
        for s in (".onnx", ".pt2")
        for size in (4096, 20_000, 60_000)
    ]
    found += [
        Case(COMMANDS, f"export {s}, {errno.errorcode[n]}", partial(check_export_here, s, n))
        for s in (".onnx", ".pt2")
        for n in (errno.ENOSPC, errno.EACCES)
    ]
    found += [
        Case(COMMANDS, f"train, files of {size} bytes", partial(check_train, size)) for size in (300, 4096, 50_000)
    ]
    found += [Case(MODEL, f"files of {size} bytes", partial(check_model, size)) for size in (0, 100, 10_000, 50_000)]
    return found
