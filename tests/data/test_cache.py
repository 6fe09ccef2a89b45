"""Files are decoded once; a changed file is decoded again; nothing half-written is ever used."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from anychannel.data import DataError, ImageDataset, Split, load_dataset
from anychannel.data.prepare import cache, survey
from anychannel.data.prepare.cache import PARTIAL, resolve_cache_dir
from anychannel.data.sources.reader import Reader
from anychannel.data.sources.source import Sample
from anychannel.utils.checksums import dump_signed, load_signed
from tests.helpers.image_files import age, write_image

OTHER = np.random.default_rng(9).integers(0, 256, (3, 6, 6), dtype=np.uint8)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were decoded, by path."""
    seen: list[str] = []
    decode = Reader.decode

    def count(reader: Reader, sample: Sample, loaded):
        seen.append(sample.path)
        return decode(reader, sample, loaded)

    monkeypatch.setattr(Reader, "decode", count)
    return seen


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened, by path."""
    seen: list[str] = []
    load = Sample.load

    def count(sample: Sample):
        seen.append(sample.path)
        return load(sample)

    monkeypatch.setattr(Sample, "load", count)
    return seen


def splits_of(data: ImageDataset) -> tuple[Split, ...]:
    return data.train, data.val, data.test


def folders(cache_dir: Path) -> set[str]:
    return {path.name for path in (cache_dir / "images").iterdir()}


@pytest.mark.parametrize("channels", [None, "R,G,B"])
def test_the_first_load_opens_each_file_once_and_the_second_none(lists: Path, channels, decoded: list, opened: list):
    age(lists)
    first = load_dataset(lists, channels=channels)
    assert sorted(opened) == sorted(decoded) == sorted(path for split in splits_of(first) for path in split.paths)
    decoded.clear()
    opened.clear()
    second = load_dataset(lists, channels=channels)
    assert decoded == opened == []
    assert second.fingerprint == first.fingerprint
    assert second.channels == first.channels
    assert isinstance(second.train.images, np.memmap)
    np.testing.assert_array_equal(second.train.images, first.train.images)


def test_files_that_changed_just_now_are_read_again(lists: Path, decoded: list, opened: list):
    """A clock's tick later they could have changed once more with the same time."""
    load_dataset(lists, channels="R,G,B")
    opened.clear()
    decoded.clear()
    load_dataset(lists, channels="R,G,B")
    assert len(opened) == 12
    assert decoded == []


def test_a_changed_file_is_read_and_everything_decoded_again(lists: Path, decoded: list, opened: list):
    age(lists)
    before = load_dataset(lists)
    opened.clear()
    decoded.clear()
    write_image(lists / "images/train_2.png", OTHER)
    after = load_dataset(lists)
    assert opened[0] == "images/train_2.png"
    assert sorted(opened[1:]) == sorted(decoded) == sorted(set(opened))
    np.testing.assert_array_equal(after.train.images[2], OTHER)
    np.testing.assert_array_equal(after.train.images[3], before.train.images[3])
    assert after.fingerprint != before.fingerprint
    assert after.channels.mean != before.channels.mean


def test_a_change_that_keeps_size_and_time_is_found_by_verify(lists: Path):
    age(lists)
    before = load_dataset(lists)
    a, b = lists / "images/train_0.png", lists / "images/train_2.png"
    status, content = a.stat(), a.read_bytes()
    changed = bytearray(content)
    changed[-20] ^= 1
    a.write_bytes(bytes(changed))
    os.utime(a, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_dataset(lists).fingerprint == before.fingerprint
    with pytest.raises(DataError, match=r"train_0\.png .*: it is truncated or damaged"):
        load_dataset(lists, verify=True)
    assert b.exists()


def test_the_same_content_elsewhere_is_not_decoded_again(lists: Path, tmp_path: Path, decoded: list):
    load_dataset(lists)
    moved = lists.rename(tmp_path / "moved")
    decoded.clear()
    assert load_dataset(moved).name == "moved"
    assert decoded == []


def test_each_setting_that_shapes_pixels_has_its_own_cache(lists: Path, cache_dir: Path):
    load_dataset(lists)
    load_dataset(lists, size=4)
    load_dataset(lists, size=6)
    assert len(folders(cache_dir)) == 3
    load_dataset(lists, channels="x,y,z")
    assert len(folders(cache_dir)) == 3


def test_names_and_labels_are_part_of_the_fingerprint(lists: Path):
    first = load_dataset(lists).fingerprint
    assert load_dataset(lists, channels="x,y,z").fingerprint != first
    (lists / "classes.txt").write_text("cat\ndog\n")
    assert load_dataset(lists).fingerprint != first


def test_the_folder_is_the_one_given_or_the_environments_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANYCHANNEL_CACHE", str(tmp_path / "environment"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolve_cache_dir(tmp_path / "given") == tmp_path / "given"
    assert resolve_cache_dir(None) == tmp_path / "environment"
    monkeypatch.delenv("ANYCHANNEL_CACHE")
    assert resolve_cache_dir(None) == tmp_path / "home" / ".cache" / "anychannel"


@pytest.mark.parametrize(
    "harm", ["cut array", "empty array", "flipped bit", "no array", "no index", "broken index", "fewer rows", "a file"]
)
def test_a_damaged_cache_is_made_anew(lists: Path, cache_dir: Path, decoded: list, harm: str):
    first = load_dataset(lists)
    expected = np.array(first.train.images)
    (home,) = (cache_dir / "images").iterdir()
    array = home / "train.npy"
    if harm == "cut array":
        array.write_bytes(array.read_bytes()[:-100])
    elif harm == "empty array":
        array.write_bytes(b"")
    elif harm == "flipped bit":
        content = bytearray(array.read_bytes())
        content[-5] ^= 8
        array.write_bytes(content)
    elif harm == "no array":
        array.unlink()
    elif harm == "a file":
        shutil.rmtree(home)
        home.write_text("")
    elif harm == "no index":
        (home / "index.json").unlink()
    elif harm == "broken index":
        (home / "index.json").write_text('{"statistics": {"mean": [1')
    else:
        np.save(array, expected[:2])
    decoded.clear()
    with pytest.warns(UserWarning, match="the images in the cache .* are decoded again, since"):
        again = load_dataset(lists)
    np.testing.assert_array_equal(again.train.images, expected)
    assert len(set(decoded)) == 12


def test_a_cache_of_another_format_is_made_anew_by_name(lists: Path, cache_dir: Path):
    load_dataset(lists)
    (index,) = cache_dir.glob("images/*/index.json")
    index.write_text(dump_signed(load_signed(index.read_text()) | {"format": 99}))
    with pytest.warns(UserWarning, match=r"decoded again, since its format is 99, that of this version of anychannel"):
        load_dataset(lists)


@pytest.mark.parametrize("content", ["", '["x", "y", "z"]', "\xff"])
def test_damaged_names_of_channels_are_read_again(lists: Path, cache_dir: Path, content: str):
    age(lists)
    first = load_dataset(lists)
    (names,) = cache_dir.glob("names/*.json")
    names.write_text(content, encoding="latin-1")
    assert load_dataset(lists).channels == first.channels


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(lists: Path, cache_dir: Path, monkeypatch):
    message = rf"cannot be written to {cache_dir} \(.*\); make room there, or set ANYCHANNEL_CACHE or cache_dir to"

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for owner, name in ((os, "fsync"), (cache, "find_checksums"), (Path, "rename"), (cache.tempfile, "mkdtemp")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(DataError, match=message):
                load_dataset(lists)
        assert folders(cache_dir) == set()


def test_a_limit_on_file_sizes_is_named_and_nothing_stays(lists: Path, cache_dir: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written to .* \(File too large\); set ANYCHANNEL_CACHE"):
            load_dataset(lists)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folders(cache_dir) == set()


def test_a_damaged_memory_of_digests_is_ignored(lists: Path, cache_dir: Path, opened: list):
    age(lists)
    load_dataset(lists)
    (memory,) = (cache_dir / "files").iterdir()
    assert len(json.loads(memory.read_text())) == 12
    memory.write_text('{"images/train_0.png": 3}')
    opened.clear()
    load_dataset(lists)
    assert len(opened) == 12


def run(code: str, cache_dir: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "ANYCHANNEL_CACHE": str(cache_dir), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, text=True, stdout=subprocess.PIPE
    )


def test_what_a_killed_process_left_is_never_used_and_cleared_away(lists: Path, cache_dir: Path):
    killed = run(
        f"""
        import os
        from anychannel.data import load_dataset
        from anychannel.data.sources.reader import Reader
        decode, calls = Reader.decode, []
        def die(reader, sample, loaded):
            calls.append(1)
            if len(calls) == 5:
                os._exit(9)
            return decode(reader, sample, loaded)
        Reader.decode = die
        load_dataset({str(lists)!r})
        """,
        cache_dir,
    )
    killed.communicate(timeout=120)
    assert killed.returncode == 9
    (left,) = folders(cache_dir)
    assert left.startswith(PARTIAL)
    assert len(load_dataset(lists).train) == 6
    (whole,) = folders(cache_dir)
    assert not whole.startswith(PARTIAL)


def test_leftovers_of_other_data_are_cleared_but_not_what_a_live_process_writes(lists: Path, cache_dir: Path):
    (cache_dir / "locks").mkdir()
    for key in ("dead", "alive"):
        (cache_dir / "images" / f"{PARTIAL}{key}-x").mkdir(parents=True)
    with cache.FileLock(cache_dir / "locks" / "alive.lock"):
        load_dataset(lists)
    assert f"{PARTIAL}alive-x" in folders(cache_dir)
    assert f"{PARTIAL}dead-x" not in folders(cache_dir)


def test_of_two_processes_one_decodes_and_both_get_the_data(lists: Path, cache_dir: Path, tmp_path: Path):
    code = f"""
        import time
        from pathlib import Path
        from anychannel.data import load_dataset
        from anychannel.data.sources.reader import Reader
        decode = Reader.decode
        def slowly(reader, sample, loaded):
            with open({str(tmp_path / "log")!r}, "a") as log:
                log.write(sample.path + "\\n")
            time.sleep(0.1)
            return decode(reader, sample, loaded)
        Reader.decode = slowly
        Path({str(tmp_path)!r}, f"ready_{{id}}").touch()
        while len(list(Path({str(tmp_path)!r}).glob("ready_*"))) < 2:
            time.sleep(0.01)
        data = load_dataset({str(lists)!r})
        print(data.fingerprint, int(data.train.images.sum()))
        """
    processes = [run(code.replace("{id}", name), cache_dir) for name in "ab"]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    data = load_dataset(lists)
    assert first == second == f"{data.fingerprint} {int(data.train.images.sum())}\n"
    assert sorted((tmp_path / "log").read_text().split()) == sorted(
        path for split in splits_of(data) for path in split.paths
    )


def test_a_file_that_changes_while_it_is_read_is_reported(
    lists: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    load = Sample.load

    def change(sample: Sample):
        if sample.path.endswith("test_1.png"):
            write_image(lists / sample.path, OTHER)
        return load(sample)

    monkeypatch.setattr(Sample, "load", change)
    with pytest.raises(DataError, match=r"test_1\.png .*: it changed while the data was being read; load again"):
        load_dataset(lists)
    assert folders(cache_dir) == set()


def many_files(root: Path) -> Path:
    """200 grey images of one value each, which says where it belongs; more than one piece of work holds."""
    lines = []
    for value in range(200):
        write_image(root / f"{value}.png", np.full((1, 4, 4), value, np.uint8))
        lines.append(f"{value}.png {value % 2}\n")
    for split, part in (("train", lines[:150]), ("val", lines[150:170]), ("test", lines[170:])):
        (root / f"{split}.txt").write_text("".join(part))
    return root


def test_an_interrupt_drops_the_work_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    decode, calls = Reader.decode, []

    def slowly(reader: Reader, sample: Sample, loaded):
        calls.append(sample)
        time.sleep(0.005)
        return decode(reader, sample, loaded)

    @contextmanager
    def interrupted(*args, **options):
        def advance(steps: int = 1, note: str | None = None) -> None:
            if calls[1:]:
                raise KeyboardInterrupt

        yield advance

    root = many_files(tmp_path)
    monkeypatch.setattr(Reader, "decode", slowly)
    monkeypatch.setattr(survey, "progress_bar", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset(root, channels="grey")
    assert len(calls) < 150


def test_a_full_disk_is_told_before_anything_is_written(lists: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: usage)
    message = "the decoded images need 0.0 GB, but .* has 0.0 GB free; make room, set ANYCHANNEL_CACHE or cache_dir"
    with pytest.raises(DataError, match=message):
        load_dataset(lists)


def test_many_files_are_decoded_into_their_own_rows(tmp_path: Path):
    data = load_dataset(many_files(tmp_path), channels="grey")
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(150))
    assert data.val.images[:, 0, 3, 3].tolist() == list(range(150, 170))
    assert data.test.images[:, 0, 1, 2].tolist() == list(range(170, 200))


def test_progress_is_shown_on_standard_error_when_asked_for(lists: Path, capsys: pytest.CaptureFixture[str]):
    load_dataset(lists)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    load_dataset(lists, size=5, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "decoding  12 images into" in captured.err
    load_dataset(lists, size=5, progress=True)
    assert "reading  12 files" in capsys.readouterr().err
