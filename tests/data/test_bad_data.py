"""Bad data is reported together, each file by name with its fix, before anything is trained."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from anychannel.data import DataError, load_dataset
from anychannel.data.errors import SHOWN, Problems
from tests.helpers.image_files import add_line, write_image

WHOLE = np.zeros((3, 6, 6), np.uint8)


def missing(root: Path) -> str:
    (root / "images/train_1.png").unlink()
    return r"images/train_1\.png \(train\.txt line 2\): the file is missing; restore it, or remove its line"


def zero_bytes(root: Path) -> str:
    (root / "images/val_1.png").write_bytes(b"")
    return r"images/val_1\.png \(val\.txt line 2\): the file is empty \(zero bytes\); replace or remove it"


def truncated(root: Path) -> str:
    path = root / "images/test_0.png"
    path.write_bytes(path.read_bytes()[:-30])
    return r"images/test_0\.png \(test\.txt line 1\): it is truncated or damaged \(.*\); replace or remove it"


def channel_count(root: Path) -> str:
    write_image(root / "images/train_2.png", np.zeros((1, 6, 6), np.uint8))
    return r"images/train_2\.png \(train\.txt line 3\): it has 1 channel \(greyscale\), but 3 expected \(R, G, B\); "


def number_type(root: Path) -> str:
    write_image(root / "images/train_3.png", np.zeros((3, 6, 6), np.uint16))
    return r"images/train_3\.png .*: it holds uint16 values, but images/train_0\.png holds uint8; bring all files to"


def other_size(root: Path) -> str:
    write_image(root / "images/train_4.png", np.zeros((3, 6, 9), np.uint8))
    return r"images/train_4\.png .*: it is 6 x 9 pixels, but images/train_0\.png is 6 x 6; give a size"


def no_integer(root: Path) -> str:
    add_line(root, "train", "images/x.png cat")
    return (
        r"images/x\.png \(train\.txt line 7\): its label 'cat' is none of the 2 classes \(0, 1\); correct it; a number"
    )


def out_of_range(root: Path) -> str:
    add_line(root, "test", "images/x.png 2")
    return r"images/x\.png \(test\.txt line 5\): its label 2 is none of the 2 classes \(0, 1\); correct it; a"


def negative(root: Path) -> str:
    add_line(root, "val", "images/x.png -1")
    return r"images/x\.png \(val\.txt line \d\): its label -1 is none of the 2 classes \(0, 1\); correct it; a"


def malformed(root: Path) -> str:
    add_line(root, "val", "images/val_0.png")
    return r"val\.txt line \d: malformed line 'images/val_0\.png'; write 'path label'"


def same_path(root: Path) -> str:
    add_line(root, "val", "images/./train_0.png 0")
    return (
        r"images/\./train_0\.png \(val\.txt line \d\): the same file is in two splits \(leakage\): "
        r"val, and train as images/train_0\.png \(train\.txt line 1\); keep it in one of them"
    )


def same_content(root: Path) -> str:
    shutil.copy(root / "images/train_0.png", root / "images/test_3.png")
    return (
        r"images/test_3\.png \(test\.txt line 4\): its content is in two splits \(leakage\): "
        r"test, and train as images/train_0\.png \(train\.txt line 1\); keep one of them"
    )


def two_labels(root: Path) -> str:
    add_line(root, "train", "images/train_0.png 1")
    return (
        r"images/train_0\.png \(train\.txt line \d\): the same file has two labels: 1, and 0 in train\.txt line 1; keep"
    )


def a_folder(root: Path) -> str:
    add_line(root, "train", "images 0")
    return r"images \(train\.txt line \d\): it is not a file; list files, not folders"


def empty_split(root: Path) -> str:
    (root / "val.txt").write_text("\n")
    return r"val: this split has no image; train and val both need some"


ALL = [
    missing,
    zero_bytes,
    truncated,
    channel_count,
    number_type,
    other_size,
    no_integer,
    out_of_range,
    negative,
    malformed,
    same_path,
    same_content,
    two_labels,
    a_folder,
]


@pytest.mark.parametrize("harm", [*ALL, empty_split])
def test_each_fault_names_its_file_and_the_fix(lists: Path, harm):
    message = harm(lists)
    with pytest.raises(DataError, match=r"1 problem in the data at .*photos:\n  - " + message):
        load_dataset(lists)


def test_all_faults_are_reported_together(lists: Path):
    messages = [harm(lists) for harm in ALL]
    with pytest.raises(DataError, match=f"^{len(ALL)} problems in the data") as caught:
        load_dataset(lists)
    for message in messages:
        assert caught.match(message)


def test_a_fault_is_reported_again_although_the_rest_is_cached(lists: Path):
    load_dataset(lists)
    message = malformed(lists)
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            load_dataset(lists)


def test_a_label_out_of_range_of_the_named_classes_tells_their_number(lists: Path):
    (lists / "classes.txt").write_text("cat\ndog\n")
    add_line(lists, "train", "images/x.png 7")
    with pytest.raises(
        DataError,
        match=r"its label 7 is none of the 2 classes \(cat, dog\); correct it; a number counts classes from 0",
    ):
        load_dataset(lists)


def test_faults_of_classes_left_out_do_not_matter(lists: Path):
    add_line(lists, "train", "images/nowhere.png 2")
    assert len(load_dataset(lists, classes=2).train) == 6


def test_a_name_given_twice_is_refused(lists: Path):
    (lists / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match=r"classes\.txt: 'cat' is there twice; give each name once, one a line"):
        load_dataset(lists)
    (lists / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"classes\.txt: not UTF-8 text \(.* at byte 3\); save it as UTF-8"):
        load_dataset(lists)


def test_files_in_class_folders_are_checked_too(tmp_path: Path):
    for name in ("cat", "dog"):
        for i in range(4):
            write_image(tmp_path / name / f"{i}.png", np.full((3, 6, 6), 10 * i + len(name) + ord(name[0]), np.uint8))
    (tmp_path / "cat" / "notes.doc").write_text("x")
    (tmp_path / "dog" / "0.png").write_bytes(b"")
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match="3 problems in the data") as caught:
        load_dataset(tmp_path)
    assert caught.match(r"cat/notes\.doc: not named as an image \(\.jpg, .*\); convert, rename or remove it")
    assert caught.match(r"dog/0\.png: the file is empty \(zero bytes\)")
    assert caught.match(r"emu/: no image in this class folder; fill or remove it")


def test_a_class_that_training_lacks_is_reported(tmp_path: Path):
    for value, place in enumerate(("train/cat", "train/dog", "val/cat", "test/cat", "test/Dog")):
        write_image(tmp_path / place / "0.png", np.full((3, 6, 6), value, np.uint8))
    with pytest.raises(DataError, match="test/Dog: train/ has no class 'Dog'; add or rename it"):
        load_dataset(tmp_path)


def test_a_long_list_of_faults_is_cut_and_counted(lists: Path):
    for number in range(SHOWN + 5):
        add_line(lists, "train", f"images/train_0.png {number + 2}")
    with pytest.raises(DataError, match=rf"{SHOWN + 5} problems[\s\S]*\n  and 5 more$") as caught:
        load_dataset(lists)
    assert str(caught.value).count("\n") == SHOWN + 1


def test_equal_faults_are_one_line_with_their_number(lists: Path):
    for number in range(25):
        add_line(lists, "train", f"images/gone_{number}.png 0")
    line = r"  - images/gone_0\.png \(train\.txt line 7\): the file is missing; restore it, or remove its line \(also "
    with pytest.raises(
        DataError, match=rf"^25 problems in .*:\n{line}images/gone_1\.png .* and 20 more\)\n  give skip_bad=True to"
    ):
        load_dataset(lists)


def test_nothing_is_cached_of_bad_data(lists: Path, cache_dir: Path):
    truncated(lists)
    with pytest.raises(DataError):
        load_dataset(lists)
    assert not list(cache_dir.glob("images/*"))


def test_no_problem_raises_nothing():
    Problems().raise_if_any("here")


@pytest.mark.parametrize("splits", [("",), ("train", "val", "test")])
def test_class_folders_whose_names_are_no_utf_8_are_named(splits, tmp_path):
    for split in splits:
        for name in (b"caf\xe9", b"tea"):
            for i in range(3):
                write_image(tmp_path / split / os.fsdecode(name) / f"{i}.png", WHOLE + i)
    with pytest.raises(
        DataError, match="class folders whose names are no UTF-8 \\(caf\N{REPLACEMENT CHARACTER}\\); rename"
    ):
        load_dataset(tmp_path, cache_dir=tmp_path / "cache")
