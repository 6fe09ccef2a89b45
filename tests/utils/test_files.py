"""Files are written whole or not at all, and what cannot be written is named."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple

import pytest

from anychannel.utils.files import remove_leftovers, seal, seal_holds, write_atomically, write_json, write_text

Usage = namedtuple("Usage", "total used free")


def fail(error):
    def write(temporary):
        temporary.write_text("half")
        raise error

    return write


def test_an_error_of_the_system_names_the_file_and_leaves_the_one_before(tmp_path):
    path = tmp_path / "run" / "weights.bin"
    write_text(path, "before")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(path, fail(OSError(errno.ENOSPC, "No space left on device")))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "before"
    assert [file.name for file in path.parent.iterdir()] == ["weights.bin"]


@pytest.mark.parametrize(("free", "kind"), [(0, OSError), (10**9, RuntimeError)])
def test_a_librarys_own_error_is_a_full_disk_where_the_disk_is_full(free, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - free, free))
    with pytest.raises(kind) as caught:
        write_atomically(tmp_path / "weights.bin", fail(RuntimeError("unexpected pos 576 vs 534")))
    assert ("weights.bin" in str(caught.value)) is (kind is OSError)
    assert not list(tmp_path.iterdir())


def test_what_json_cannot_hold_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_what_killed_writers_left_is_removed_and_what_living_ones_write_stays(tmp_path):
    inside = tmp_path / "weights"
    inside.mkdir()
    kept = [".hidden.settings", ".x.abcdefgh.pt", ".lock", "state.pt"]
    for name in (*kept, ".state.pt.abcd1234.pt", ".run.json.a_b_c_d_.json"):
        (inside / name).write_text("half")

    def write(temporary):
        remove_leftovers(tmp_path)
        assert sorted(path.name for path in inside.iterdir()) == sorted([*kept, temporary.name])
        temporary.write_text("whole")

    write_atomically(inside / "best.bin", write)
    (inside / ".best.bin.abcd1234.bin").write_text("half")
    write_text(inside / "best.bin", "again")
    assert sorted(path.name for path in inside.iterdir()) == sorted([*kept, "best.bin"])


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_seal_breaks_with_any_byte_and_a_file_without_one_is_taken(position, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert seal_holds(path)
    seal(path)
    assert seal_holds(path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert not seal_holds(path)
