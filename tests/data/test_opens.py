"""How often image files are opened: once on the first load, never on the second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anychannel.data import load_dataset
from tests.helpers.image_files import age, bright_halves, write_class_folders
from tests.helpers.opened_files import count_opened
from tests.helpers.shard_files import write_shards


def as_lists(lists: Path) -> tuple[str, int]:
    return str(lists), 12


def as_class_folders(lists: Path) -> tuple[str, int]:
    root = write_class_folders(
        lists.parent / "folders",
        {"train": 4, "val": 2, "test": 2},
        ["left", "right"],
        bright_halves(np.random.default_rng(0), 8, 8),
    )
    return str(root), 16


def as_shards(lists: Path) -> tuple[str, int]:
    write_shards(lists.parent / "shards", {"train": [5, 6], "val": [3], "test": [4]})
    return f"wds:{lists.parent / 'shards'}", 4


@pytest.mark.parametrize("options", [{}, {"channels": "x,y,z"}, {"size": 5}], ids=["plain", "named", "resized"])
@pytest.mark.parametrize("make", [as_lists, as_class_folders, as_shards])
def test_each_file_is_opened_once_on_the_first_load_and_never_on_the_second(lists: Path, make, options):
    source, files = make(lists)
    age(lists.parent)
    with count_opened() as first:
        before = load_dataset(source, **options)
    assert len(first) == files
    assert set(first.values()) == {1}
    with count_opened() as second:
        again = load_dataset(source, **options)
    assert not second
    assert again.fingerprint == before.fingerprint


def test_a_second_setting_opens_each_file_once_more(lists: Path):
    age(lists)
    load_dataset(lists)
    with count_opened() as found:
        load_dataset(lists, size=4)
    assert len(found) == 12
    assert set(found.values()) == {1}


@pytest.mark.parametrize("options", [{"statistics_images": 4}, {"epoch_images": 8, "class_names": list("abcd")}])
def test_shards_that_are_measured_in_part_are_opened_once_too(lists: Path, options):
    source, files = as_shards(lists)
    with count_opened() as found:
        load_dataset(source, **options)
    assert len(found) == files
    assert set(found.values()) == {1}
