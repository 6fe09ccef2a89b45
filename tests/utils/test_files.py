"""Files are written whole or not at all, and what cannot be written is named."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple

import pytest

from anychannel.utils.files import write_atomically, write_json, write_text

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
