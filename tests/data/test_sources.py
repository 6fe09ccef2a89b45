"""Folders of both forms are recognised and read; what is neither is refused with what was looked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import SPLITS, DataError, list_datasets, load_dataset
from tests.helpers.image_files import add_line, write_image, write_lists
from tests.helpers.shard_files import encode, write_shard

RNG = np.random.default_rng(0)


def add_images(folder: Path, count: int, channels: int = 3) -> None:
    for i in range(count):
        write_image(folder / f"{i:03d}.png", RNG.integers(0, 256, (channels, 6, 6), dtype=np.uint8))


def class_folders(root: Path, sizes: dict[str, int]) -> Path:
    for name, count in sizes.items():
        add_images(root / name, count)
    return root


def split_folders(root: Path) -> Path:
    for split in SPLITS:
        class_folders(root / split, {"dog": 3, "cat": 2})
    return root


def test_list_files_give_images_labels_and_paths_in_their_order(lists: Path):
    data = load_dataset(lists)
    assert data.name == "photos"
    assert data.channels.names == ("R", "G", "B")
    assert data.classes == ("0", "1")
    assert [len(data.train), len(data.val), len(data.test)] == [6, 2, 4]
    assert data.train.images.shape == (6, 3, 6, 6)
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.test.paths == tuple(f"images/test_{i}.png" for i in range(4))
    assert not data.train.images.flags.writeable


def test_names_of_classes_and_channels_are_read_from_their_files(lists: Path):
    (lists / "classes.txt").write_text("cat\ndog\n\n")
    (lists / "channels.txt").write_text("\ufeffnear infrared\nred\nblue\n", encoding="utf-8")
    data = load_dataset(lists)
    assert data.classes == ("cat", "dog")
    assert data.channels.names == ("near infrared", "red", "blue")
    assert load_dataset(lists, channels="x,y,z").channels.names == ("x", "y", "z")


def test_wavelengths_that_are_given_are_kept(lists: Path):
    bands = ChannelSet(("a", "b", "c"), wavelengths_nm=(490.0, 560.0, None))
    assert load_dataset(lists, channels=bands).channels.wavelengths_nm == (490.0, 560.0, None)


def test_a_folder_may_say_wavelengths_or_name_a_sensor(lists: Path):
    (lists / "channels.txt").write_text("red @ 665 nm\ngreen @ 560 nm\nmask\n")
    assert load_dataset(lists).channels.wavelengths_nm == (665.0, 560.0, None)
    (lists / "channels.txt").write_text("sentinel2: B04\nB03\nB02\n")
    assert load_dataset(lists).channels.kinds == ("red", "green", "blue")


def test_a_path_may_hold_spaces(lists: Path):
    path = "images/a b  c.png"
    (lists / "images/train_0.png").rename(lists / path)
    text = (lists / "train.txt").read_text().replace("images/train_0.png", path)
    (lists / "train.txt").write_text(text)
    assert load_dataset(lists).train.paths[0] == path


def test_the_first_classes_can_be_chosen_by_number(lists: Path):
    entries = {split: [(f"images/{split}_{i}.png", 2 - i % 3) for i in range(n)] for split, n in SIZES.items()}
    write_lists(lists, entries)
    data = load_dataset(lists, classes=2)
    assert data.classes == ("0", "1")
    assert data.train.labels.tolist() == [1, 0, 1, 0]
    assert data.train.paths == tuple(f"images/train_{i}.png" for i in (1, 2, 4, 5))


SIZES = {"train": 6, "val": 2, "test": 4}


def test_classes_can_be_chosen_by_name_and_are_numbered_in_the_order_given(tmp_path: Path):
    root = class_folders(tmp_path / "data", {"a": 4, "b": 4, "c": 4})
    data = load_dataset(root, classes=["c", "a"])
    assert data.classes == ("c", "a")
    for split in SPLITS:
        part = getattr(data, split)
        assert [path[0] for path in part.paths] == [data.classes[label] for label in part.labels]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (3, "classes=3 is out of range; the data has 2 classes, take 2 or more of them"),
        (1, "classes=1 is out of range"),
        (["cat", "0"], "unknown class 'cat'; the classes are 0, 1"),
        (["0", "0"], "classes needs two or more names, each once, got 0, 0"),
    ],
)
def test_classes_that_do_not_exist_are_refused(lists: Path, classes, message: str):
    with pytest.raises(ValueError, match=message):
        load_dataset(lists, classes=classes)


def test_split_folders_keep_their_splits(tmp_path: Path):
    data = load_dataset(split_folders(tmp_path / "data"))
    assert data.classes == ("cat", "dog")
    assert [len(data.train), len(data.val), len(data.test)] == [5, 5, 5]
    assert data.val.paths == ("val/cat/000.png", "val/cat/001.png", *(f"val/dog/00{i}.png" for i in range(3)))
    assert data.val.labels.tolist() == [0, 0, 1, 1, 1]


def test_class_folders_are_split_80_10_10_in_each_class(tmp_path: Path):
    data = load_dataset(class_folders(tmp_path / "data", {"cat": 30, "dog": 20}))
    assert {split: np.bincount(getattr(data, split).labels).tolist() for split in SPLITS} == {
        "train": [24, 16],
        "val": [3, 2],
        "test": [3, 2],
    }
    paths = [path for split in SPLITS for path in getattr(data, split).paths]
    assert len(set(paths)) == len(paths) == 50


def test_the_split_is_decided_by_the_seed_and_each_class_alone(tmp_path: Path):
    root = class_folders(tmp_path / "data", {"cat": 30, "dog": 30})
    first, again, other = (load_dataset(root, seed=seed) for seed in (0, 0, 1))
    assert first.test.paths == again.test.paths
    assert first.fingerprint == again.fingerprint
    assert first.test.paths != other.test.paths
    add_images(root / "bird", 30)
    cats = [path for path in load_dataset(root).test.paths if path.startswith("cat")]
    assert cats == [path for path in first.test.paths if path.startswith("cat")]


def test_folders_below_a_class_belong_to_it_and_hidden_files_to_nobody(tmp_path: Path):
    root = class_folders(tmp_path / "data", {"cat": 3, "dog/small": 3, "dog/large": 3})
    (root / "cat" / ".DS_Store").write_text("x")
    (root / "cat" / "Thumbs.db").write_text("x")
    (root / ".git" / "objects").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"hidden files and those of .* are left out: 2 \(.*DS_Store, \.\.\.\)"):
        data = load_dataset(root)
    assert data.classes == ("cat", "dog")
    assert sum(len(getattr(data, split)) for split in SPLITS) == 9


def test_three_images_a_class_are_enough_and_two_are_not(tmp_path: Path):
    root = class_folders(tmp_path / "data", {"cat": 3, "dog": 3})
    assert len(load_dataset(root).train) == 2
    (root / "dog" / "002.png").unlink()
    with pytest.raises(DataError, match="dog/: 2 images cannot be split into train, val and test; add images"):
        load_dataset(root)


def test_both_forms_at_once_are_ambiguous_until_one_is_named(lists: Path):
    split_folders(lists)
    with pytest.raises(DataError, match="photos is ambiguous: it has list files train"):
        load_dataset(lists)
    assert load_dataset(lists, form="lists").classes == ("0", "1")
    shutil.rmtree(lists / "images")
    assert load_dataset(lists, form="folders").classes == ("cat", "dog")
    with pytest.raises(ValueError, match="unknown form 'list' of data folder; the forms are lists, folders"):
        load_dataset(lists, form="list")


def empty(root: Path) -> None:
    root.mkdir()


def loose_images(root: Path) -> None:
    add_images(root, 4)


def no_val_list(root: Path) -> None:
    class_folders(root, {"images": 2})
    write_lists(root, {"train": [("images/000.png", 0)], "test": [("images/001.png", 1)]})


def no_val_folder(root: Path) -> None:
    split_folders(root)
    shutil.rmtree(root / "val")


def folder_beside_splits(root: Path) -> None:
    split_folders(root)
    add_images(root / "extra" / "cat", 2)


def one_level_too_high(root: Path) -> None:
    class_folders(root, {"images/cat": 3, "images/dog": 3})


def one_class(root: Path) -> None:
    class_folders(root, {"cat": 5})


def unknown_label_column(root: Path) -> None:
    class_folders(root, {"images": 5})
    (root / "trees.csv").write_text("file,kind\nimages/0.png,oak\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, "holds no data set; looked for list files train.txt, .* or class folders with images, .*; it is empty"),
        (loose_images, "holds no data set; looked for .*; it has 4 images that are in no class folder"),
        (no_val_list, r"has train\.txt, test\.txt but no val\.txt; training needs train.txt and val.txt"),
        (no_val_folder, "has train/, test/ but no val/; training needs train/ and val/"),
        (folder_beside_splits, "has images in extra/ beside train/, val/, test/, so that .*; move extra/ out"),
        (one_level_too_high, "holds the one folder images/; if its folders are the classes, give .*images"),
        (one_class, "has 1 class; classification needs two or more"),
        (unknown_label_column, r"images/, and no CSV file with .*: trees.csv has file, kind; call this column label"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_with_what_was_looked_for(tmp_path: Path, make, message: str):
    root = tmp_path / "data"
    make(root)
    with pytest.raises(DataError, match=message):
        load_dataset(root)


def test_an_unknown_name_lists_the_embedded_data_sets():
    with pytest.raises(DataError, match=r"'bandz' is neither a folder nor an embedded data set \(did you mean 'bands'"):
        load_dataset("bandz")
    with pytest.raises(DataError, match=f"the embedded ones are {', '.join(list_datasets())}, and a folder holds"):
        load_dataset("/nowhere/at/all")


def test_a_file_is_not_a_data_set(lists: Path):
    with pytest.raises(DataError, match=r"train\.txt is a file; give the folder that holds the images"):
        load_dataset(lists / "train.txt")


def test_channels_that_nothing_names_are_asked_for(tmp_path: Path):
    root = tmp_path / "data"
    for name in ("a", "b"):
        for i in range(3):
            write_image(root / name / f"{i}.tif", RNG.integers(0, 999, (5, 6, 6), dtype=np.uint16))
    message = r"nothing names the channels of .*data; a/.\.tif has 5 of uint16\. Give channels='first,second,\.\.\.'"
    with pytest.raises(DataError, match=message):
        load_dataset(root)
    data = load_dataset(root, channels="a,b,c,d,e")
    assert data.train.images.dtype == np.uint16
    with pytest.raises(ChannelError, match="channel names must be unique, but a repeats"):
        load_dataset(root, channels="a,a,c,d,e")


def test_labels_that_no_training_image_carries_are_warned_of(lists: Path):
    (lists / "classes.txt").write_text("background\ncat\ndog\n")
    entries = {split: [(f"images/{split}_{i}.png", 1 + i % 2) for i in range(n)] for split, n in SIZES.items()}
    write_lists(lists, entries)
    with pytest.warns(UserWarning, match=r"no training image of class background; .* \(labels count from 0\)"):
        load_dataset(lists)


@pytest.mark.parametrize(
    "names",
    [("Training", "Validation", "Testing"), ("TRAIN", "Valid", "Eval"), ("train", "dev", "evaluation")],
)
def test_splits_are_known_by_their_usual_names(tmp_path: Path, names: tuple[str, str, str]):
    for name in names:
        class_folders(tmp_path / "folders" / name, {"dog": 3, "cat": 2})
        add_images(tmp_path / "lists" / name, 4)
        lines = [f"{name}/{i:03d}.png {i % 2}\n" for i in range(4)]
        (tmp_path / "lists" / f"{name}.txt").write_text("".join(lines))
    data = load_dataset(tmp_path / "folders")
    assert data.classes == ("cat", "dog")
    for form in ("folders", "lists"):
        data = load_dataset(tmp_path / form, form=form)
        assert [getattr(data, split).paths[0].split("/")[0] for split in SPLITS] == list(names)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("Training/a", "Training/b", "Testing/a", "Testing/b"), "has Training/, Testing/ but no val/; training needs"),
        (("train/a", "Train/a", "val/a", "test/a"), "has Train and train, which both may be its train split; keep one"),
        (("train", "val", "test"), r"class folders that are named like splits \(test, train, val\); put folders named"),
        (("Train_set", "Test-Set"), r"named like splits \(Test-Set, Train_set\)"),
        (("cat", "dog", "Testing"), r"named like splits \(Testing\)"),
        (("train1", "train2"), r"named like splits \(train1, train2\)"),
        (("train/train", "train/test", "val/train", "test/train"), r"named like splits \(test, train\)"),
    ],
)
def test_splits_are_never_classes(tmp_path: Path, places: tuple[str, ...], message: str):
    class_folders(tmp_path / "data", dict.fromkeys(places, 4))
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "data")


def test_linked_folders_are_followed_once_and_never_upwards(tmp_path: Path):
    root = class_folders(tmp_path / "data", {"cat": 3, "dog/old": 3})
    add_images(tmp_path / "elsewhere" / "deep", 4)
    add_images(tmp_path / "emus", 3)
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "again").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "up").symlink_to(root)
    (root / "dog" / "old" / "round").symlink_to(root / "dog")
    (root / "emu").symlink_to(tmp_path / "emus")
    (root / "self").symlink_to(root)
    data = load_dataset(root)
    assert data.classes == ("cat", "dog", "emu")
    assert sum(len(getattr(data, split)) for split in SPLITS) == 3 + 4 + 3 + 3


def test_what_network_drives_and_desktops_leave_is_counted_once(tmp_path: Path):
    root = class_folders(tmp_path / "data", {"cat": 4, "dog": 4})
    for place in ("cat/@eaDir/1.png", "cat/.thumbnails", "dog/#recycle", "__MACOSX/cat", "dog/x/.AppleDouble"):
        add_images(root / place, 2)
    add_images(tmp_path / "other", 1)
    shutil.copy(tmp_path / "other" / "000.png", root / "cat" / "._000.png")
    with pytest.warns(UserWarning, match=r"left out: 9 \(.*, \.\.\.\)") as caught:
        data = load_dataset(root)
    assert len(caught) == 1
    assert data.classes == ("cat", "dog")
    assert sum(len(getattr(data, split)) for split in SPLITS) == 8


def test_the_same_picture_under_two_classes_is_reported(tmp_path: Path):
    root = split_folders(tmp_path / "data")
    shutil.copy(root / "train/cat/000.png", root / "train/dog/copy.png")
    shutil.copy(root / "train/dog/001.png", root / "train/dog/same class.png")
    for _ in range(2):  # the second time from the cache
        both = r"two classes: train/cat/000\.png \(cat\) and train/dog/copy\.png \(dog\); keep it under the right one"
        with pytest.warns(UserWarning, match=both):
            load_dataset(root)


@pytest.mark.parametrize("label", [lambda i: i, lambda i: f"id{i}"])
def test_labels_that_are_all_different_are_refused(tmp_path: Path, label):
    for split, rows in {"train": range(21), "val": range(4), "test": range(4, 8)}.items():
        add_images(tmp_path / split, len(rows))
        lines = [f"{split}/{place:03d}.png {label(i)}\n" for place, i in enumerate(rows)]
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    with pytest.raises(DataError, match="each of 21 images has a label of its own, so that these are no classes"):
        load_dataset(tmp_path, form="lists")


def test_names_match_however_their_letters_are_composed(tmp_path: Path):
    composed, apart = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    for split, name in (("train", composed), ("val", apart), ("test", apart)):
        class_folders(tmp_path / "folders" / split, {name: 2, "bar": 2})
        add_images(tmp_path / "lists" / apart / split, 4)
        lines = [f"{composed}/{split}/{i:03d}.png {(apart, 'bar')[i % 2]}\n" for i in range(4)]
        (tmp_path / "lists" / f"{split}.txt").write_text("".join(lines))
    (tmp_path / "lists" / "channels.txt").write_text(f"{apart}\nG\nB\n")
    (tmp_path / "lists" / "channels.csv").write_text(f'path,channels\n{composed}/train/000.png,"{composed},G,B"\n')
    assert load_dataset(tmp_path / "folders").classes == ("bar", composed)
    data = load_dataset(tmp_path / "lists", classes=["bar", apart])
    assert data.classes == ("bar", composed)
    assert data.channels.positions(composed) == data.channels.positions(apart) == (0,)


def test_a_table_as_label_asks_for_the_entry_inside(tmp_path: Path):
    for split, count in (("train", 24), ("val", 4), ("test", 4)):
        samples = {}
        for i in range(count):
            pixels = RNG.integers(0, 256, (3, 6, 6), dtype=np.uint8)
            table = {"id": f"{split}{i}", "class": ("cat", "dog")[i % 2], "site": {"code": i % 2}}
            samples[f"{split}{i}"] = {"png": encode(pixels), "json": table}
        write_shard(tmp_path / f"{split}-0.tar", samples)
    message = r"its field 'json' is a table with the entries id, class, site; name the one .*, as label='json\.id'"
    with pytest.raises(DataError, match=message):
        load_dataset(f"wds:{tmp_path}", label="json")
    assert load_dataset(f"wds:{tmp_path}", label="json.class").classes == ("cat", "dog")
    assert load_dataset(f"wds:{tmp_path}", label="json.site.code").classes == ("0", "1")
    with pytest.raises(DataError, match="each of 24 images has a label of its own"):
        load_dataset(f"wds:{tmp_path}", label="json.id")
    with pytest.raises(DataError, match=r"it has no field 'json\.kind', only json, png; give label='NAME'"):
        load_dataset(f"wds:{tmp_path}", label="json.kind")


@pytest.mark.parametrize("label", [20240131, 10**17, 10**30])
def test_a_label_that_cannot_be_a_number_of_a_class_is_refused(lists: Path, label: int):
    add_line(lists, "train", f"images/train_0.png {label}")
    with pytest.raises(
        DataError, match=f"the label {label} is no number of a class|'{label}' is none of the 2 classes"
    ):
        load_dataset(lists)


@pytest.mark.parametrize("form", ["lists", "folders"])
def test_groups_txt_names_the_channels_of_each_group(form, lists, tmp_path):
    root = lists if form == "lists" else class_folders(tmp_path / "classes", {"cat": 4, "dog": 4})
    (root / "groups.txt").write_text("warm: R, G\n\ncold=B\n")
    data = load_dataset(root)
    assert data.channels.members == {"warm": ("R", "G"), "cold": ("B",)}
    assert data.train.channels.units == {"warm": (0, 1), "cold": (2,)}
    assert data.fingerprint == load_dataset(root, groups={}).fingerprint
    assert not load_dataset(root, groups={}).channels.grouped
    assert load_dataset(root, groups={"pair": "G,B"}).channels.units == {"R": (0,), "pair": (1, 2)}
    assert data.select("cold,R").channels.units == {"cold": (0,), "warm": (1,)}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "warm R, G",
            DataError,
            r"groups.txt: 'warm R, G' is no group; write its name and its channels, as camera=R,G",
        ),
        ("warm: R, X", ChannelError, "group 'warm': unknown channel 'X'; the channels are R, G, B"),
    ],
)
def test_groups_that_cannot_be_used_are_refused(lists, text, error, message):
    (lists / "groups.txt").write_text(text)
    with pytest.raises(error, match=message):
        load_dataset(lists)
