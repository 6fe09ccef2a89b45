"""Paths that cannot be used: one line that names them, and no traceback."""

from __future__ import annotations

import pytest
from PIL import Image
from typer.testing import CliRunner

from anychannel.cli import app
from anychannel.utils.files import check_place
from tests.helpers.run_folders import make_run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("train", "--data", "bands", "--out", "file/run"),
            "file/run cannot be read or written: a file stands where a fol",
        ),
        (("train", "--data", "bands", "--out", "x" * 300), "cannot be read or written: File name too long"),
        (
            ("train", "--data", "photos", "--cache", "file", "--out", "run"),
            "/file (Not a directory); set ANYCHANNEL_CACHE or --cache to another folder",
        ),
        (
            ("train", "--config", "folder", "--out", "run"),
            "folder cannot be read or written: it is a folder, and a file",
        ),
        (
            ("report", "made", "--out", "folder"),
            "folder cannot be read or written: it is a folder, and a file is needed",
        ),
        (
            ("report", "made", "--out", "file/x.html"),
            "file cannot be read or written: a file stands where a folder is n",
        ),
    ],
)
def test_a_path_that_cannot_be_used_is_named_with_the_reason(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    make_run(tmp_path / "made")
    for number in range(8):
        photo = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (number, 0, 0)).save(photo)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2, done.exception
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_for_a_file_is_checked_before_there_is_one(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    check_place(tmp_path / "new" / "folder" / "x.onnx")
    check_place(tmp_path / "file")
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "file" / "x", NotADirectoryError)):
        with pytest.raises(error):
            check_place(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
