"""Bands in separate files: what is one image, on which grid, what is missing, what is refused."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data import DataError, load_dataset
from anychannel.data.dataset import ImageDataset
from anychannel.data.sources.band_files import BandPattern, find_channels, match_bands
from anychannel.data.sources.registry import find_folds
from anychannel.data.sources.source import Request
from tests.helpers.band_scenes import draw_scene, stack, upsampled, write_band, write_scenes

USUAL = "{scene}_{band}.tif"
LEFT = "ignore:.*left out are the files of SCL"


def planes_of(data: ImageDataset) -> dict[str, np.ndarray]:
    """Images by the scene's own name."""
    splits = (data.train, data.val, data.test)
    return {Path(path).name: np.asarray(split.images[i]) for split in splits for i, path in enumerate(split.paths)}


def alike(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal, up to the rounding of halves."""
    return found.shape == expected.shape and np.abs(found.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.filterwarnings(LEFT)
@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        ("{cls}/{scene}_{band}.TIF", "{scene}_{band}"),
        ("{cls}/deep/er/{scene}_{band}.tif", "{scene}_{band}.tif"),
        ("{cls}/{band}/deep/{scene}.tif", "{band}/**/{scene}.tif"),
        ("{cls}/{band}/{scene}.tif", "{band}/{scene}.tif"),
        ("{cls}/{scene}/{band}.tif", "{scene}/{band}.tif"),
        ("{cls}/{scene}/{scene}_{band}.tif", "{scene}/{scene}_{band}.tif"),
        ("{band}/{cls}/{scene}.tif", "{band}/{class}/{scene}.tif"),
        ("{cls}/S2_{scene}_{band}_v1.jp2", "S2_{scene}_{band}_v*.jp2"),
    ],
)
def test_every_layout_of_folders_gives_the_same_images(tmp_path: Path, layout: str, pattern: str):
    written = write_scenes(tmp_path / "data", layout, per_class=3)
    data = load_dataset(tmp_path / "data", bands=pattern)
    assert data.channels.names == ("B02", "B05", "B09")
    assert data.channels.wavelengths_nm == (492.7, 704.1, 945.1)
    assert data.classes == ("field", "forest")
    images = planes_of(data)
    assert images.keys() == written.keys()
    for scene, planes in written.items():
        assert alike(images[scene], stack(planes, "B02,B05,B09"))


def test_split_folders_are_known_before_the_class_and_in_the_pattern(tmp_path: Path):
    for seed, split in enumerate(("train", "val", "test")):
        for label, cls in enumerate(("a", "b")):
            for band, plane in draw_scene(seed, label).items():
                write_band(tmp_path / "one" / split / cls / f"{split}_{band}.tif", plane)
                write_band(tmp_path / "two" / band / split / cls / f"{split}.tif", plane)
    one = load_dataset(tmp_path / "one", bands=USUAL, channels="B02,SCL")
    two = load_dataset(tmp_path / "two", bands="{band}/{split}/{class}/{scene}.tif", channels="B02,SCL")
    for split in ("train", "val", "test"):
        mine, theirs = getattr(one, split), getattr(two, split)
        assert np.array_equal(mine.images, theirs.images)
        assert mine.labels.tolist() == theirs.labels.tolist() == [0, 1]
    assert two.train.paths == ("train/a/train", "train/b/train")


def write_lists(root: Path, lines: list[str]) -> None:
    for split, part in zip(("train", "val", "test"), np.array_split(lines, 3), strict=True):
        (root / f"{split}.txt").write_text("\n".join(part) + "\n")


@pytest.mark.filterwarnings(LEFT)
@pytest.mark.parametrize("named", ["{cls}/{scene}", "{cls}/{scene}_B05.tif"])
def test_lists_name_scenes_or_one_of_their_files(tmp_path: Path, named: str):
    written = write_scenes(tmp_path, "{cls}/{scene}_{band}.tif", per_class=3)
    lines = [f"{named.format(cls=scene.split('-')[0], scene=scene)} {i % 2}" for i, scene in enumerate(written)]
    write_lists(tmp_path, lines)
    images = planes_of(load_dataset(tmp_path, bands=USUAL, form="lists"))
    assert images.keys() == written.keys()
    for scene, planes in written.items():
        assert alike(images[scene], stack(planes, "B02,B05,B09"))
    (tmp_path / "train.txt").write_text((tmp_path / "train.txt").read_text() + "field/none 0\n")
    with pytest.raises(
        DataError, match=r"field/none \(train.txt line 3\): there is no file of the scene field/none; sc"
    ):
        load_dataset(tmp_path, bands=USUAL, form="lists")
    with pytest.warns(UserWarning, match="1 image that cannot be used"):
        assert len(load_dataset(tmp_path, bands=USUAL, form="lists", skip_bad=True).train) == 2


def test_a_list_may_name_all_files_and_some_of_the_channels(tmp_path: Path):
    written = write_scenes(tmp_path, "{cls}/{scene}_{band}.tif", per_class=3)
    files = [
        f"{s.split('-')[0]}/{s}_{band}.tif {i % 2}" for i, s in enumerate(written) for band in ("B02", "B05", "B09")
    ]
    write_lists(tmp_path, files)
    data = load_dataset(tmp_path, bands=USUAL, form="lists", channels="B02,B05,B09")
    assert [len(data.train), len(data.val), len(data.test)] == [2, 2, 2]
    scenes = [f"{scene.split('-')[0]}/{scene} {i % 2}" for i, scene in enumerate(written)]
    write_lists(tmp_path, [scenes[0] + " B09,B02", *scenes[1:]])
    data = load_dataset(tmp_path, bands=USUAL, form="lists", channels="B02,B05,B09")
    assert data.count_patterns()["train"] == {"B02,B09": 1, "B02,B05,B09": 1}
    write_lists(tmp_path, [scenes[0] + " B09,B11", *scenes[1:]])
    with pytest.raises(DataError, match=r"train\.txt line 1: there is no file of its channel B11"):
        load_dataset(tmp_path, bands=USUAL, form="lists", channels="B02,B05,B09,B11")


def safe_folder(root: Path, name: str, planes: dict[str, np.ndarray], *, level: str = "2A") -> None:
    """A product as ESA delivers it: the same band at several resolutions, and files beside the images."""
    inside = root / f"S2A_MSIL{level}_{name}.SAFE" / "GRANULE" / f"L{level}_{name}" / "IMG_DATA"
    tile = f"T32TQM_{name}"
    if level == "1C":
        for band in ("B02", "B05", "B09"):
            write_band(inside / f"{tile}_{band}.jp2", planes[band], NBITS="15")
    else:
        write_band(inside / "R10m" / f"{tile}_B02_10m.jp2", planes["B02"], NBITS="15")
        write_band(inside / "R20m" / f"{tile}_B02_20m.jp2", planes["B02"][::2, ::2].copy(), NBITS="15")
        write_band(inside / "R20m" / f"{tile}_B05_20m.jp2", planes["B05"], NBITS="15")
        write_band(inside / "R20m" / f"{tile}_SCL_20m.jp2", planes["SCL"])
        write_band(inside / "R60m" / f"{tile}_B09_60m.jp2", planes["B09"], NBITS="15")
        write_band(inside / "R60m" / f"{tile}_B05_60m.jp2", planes["B09"], NBITS="15")
        preview = np.zeros((24, 24, 3), np.uint8)
        Image.fromarray(preview).save(inside / "R10m" / f"{tile}_TCI_10m.jp2", irreversible=False)
    (inside.parents[2] / "MTD_MSIL2A.xml").write_text("<x/>")
    write_band(inside.parent / "QI_DATA" / "MSK_CLDPRB_20m.jp2", planes["SCL"])


@pytest.mark.parametrize("level", ["1C", "2A"])
def test_sentinel_2_products_are_read_as_they_are_delivered(tmp_path: Path, level: str):
    written = {}
    for label, cls in enumerate(("field", "forest")):
        for i in range(3):
            name = f"2022010{i}T10141{label}"
            written[f"T32TQM_{name}"] = planes = draw_scene(i, label)
            safe_folder(tmp_path / cls, name, planes, level=level)
    with pytest.warns(UserWarning, match="left out are"):
        data = load_dataset(tmp_path, bands="sentinel2")
    assert data.channels.names == ("B02", "B05", "B09")
    assert data.channels.groups == ("10m", "20m", "60m")
    images = planes_of(data)
    assert images.keys() == written.keys()
    for scene, planes in written.items():
        assert alike(images[scene], stack(planes, "B02,B05,B09"))
    if level == "2A":
        with pytest.warns(UserWarning, match="QI_DATA/MSK_CLDPRB"):
            with_classes = planes_of(load_dataset(tmp_path, bands="sentinel2", channels="B02,SCL"))
        assert alike(with_classes["T32TQM_20220101T101410"], stack(draw_scene(1), "B02,SCL"))


def test_flat_files_with_a_resolution_in_their_names_need_it_in_the_pattern(tmp_path: Path):
    for label, cls in enumerate(("a", "b")):
        for i in range(3):
            planes = draw_scene(i, label)
            write_band(tmp_path / cls / f"{cls}{i}_B02_10m.tif", planes["B02"])
            write_band(tmp_path / cls / f"{cls}{i}_B05_20m.tif", planes["B05"])
            write_band(tmp_path / cls / f"{cls}{i}_B02_20m.tif", planes["B05"])
    data = load_dataset(tmp_path, bands="{scene}_{band}_{res}m.tif")
    assert alike(planes_of(data)["a1"], stack(draw_scene(1), "B02,B05"))
    assert data.channels.names == ("B02", "B05")
    with pytest.raises(DataError, match=r"a/a0: two files are its band 'B02': a0_B02_10m\.tif and a0_B02_20m\.tif"):
        load_dataset(tmp_path, bands="{scene}_{band}_*.tif")


@pytest.mark.parametrize("size", [None, 12, 17])
def test_bands_are_brought_to_the_finest_grid_or_straight_to_the_size(tmp_path: Path, size: int | None):
    written = write_scenes(tmp_path, "{cls}/{scene}_{band}.tif", per_class=3)
    images = planes_of(load_dataset(tmp_path, bands=USUAL, channels="B02,B05,B09,SCL", size=size))
    side = size or 24
    for scene, planes in written.items():
        for plane, band in zip(images[scene], ("B02", "B05", "B09"), strict=False):
            assert np.abs(plane.astype(int) - upsampled(planes[band], side)).max() <= 1
        rows = ((np.arange(side) + 0.5) * 12 / side).astype(int)  # the pixel below each centre
        assert np.array_equal(images[scene][3], planes["SCL"][np.ix_(rows, rows)])


def test_a_missing_file_is_a_missing_channel_and_mixes_into_nothing(tmp_path: Path):
    written = write_scenes(tmp_path / "data", "{cls}/{scene}_{band}.tif", per_class=4)
    (tmp_path / "data/field/field-1_B05.tif").unlink()
    (tmp_path / "data/forest/forest-2_B02.tif").unlink()
    data = load_dataset(tmp_path / "data", bands=USUAL, channels="B02,B05,B09")
    held = {
        Path(path).name: None if split.present is None else split.present[i].tolist()
        for split in (data.train, data.val, data.test)
        for i, path in enumerate(split.paths)
    }
    assert held["field-1"] == [True, False, True]
    assert held["field-0"] in (None, [True] * 3)
    assert alike(planes_of(data)["field-1"][[0, 2]], stack(written["field-1"], "B02,B09"))
    assert held["forest-2"] == [False, True, True]  # whose finest file is coarser than the other scenes'
    assert alike(planes_of(data)["forest-2"][1:], stack(written["forest-2"], "B05,B09"))
    write_band(tmp_path / "data/forest/forest-3_B05.tif", draw_scene(9)["B02"])
    with pytest.raises(DataError, match=r"band 'B05' .*: it is 24 x 24 pixels, but f.* is 12 x 12; give a size"):
        load_dataset(tmp_path / "data", bands=USUAL, channels="B02,B05,B09")
    load_dataset(tmp_path / "data", bands=USUAL, channels="B02,B05,B09", size=24)


def test_files_are_known_by_synonyms_and_by_what_their_bands_show(tmp_path: Path):
    names = {"B02": "blue", "B05": "RE1", "B09": "nir09"}
    written = write_scenes(tmp_path, "{cls}/{scene}_{band}.tif", per_class=3, **names)
    data = load_dataset(tmp_path, bands=USUAL, channels="sentinel2:B09,B02,B05")
    assert alike(planes_of(data)["field-0"], stack(written["field-0"], "B09,B02,B05"))
    with pytest.warns(UserWarning, match="left out are the files of SCL"):
        assert set(load_dataset(tmp_path, bands=USUAL).channels.names) == {"RE1", "blue", "nir09"}


def test_bands_are_matched_by_name_before_synonym_and_meaning():
    sentinel = as_channel_set("sentinel2")
    assert match_bands(["b2", "B8A", "nir", "red", "SWIR 1"], sentinel) == {
        "b2": "B02",
        "B8A": "B8A",
        "nir": "B08",
        "red": "B04",
        "SWIR 1": "B11",
    }
    assert match_bands(["B02", "B03", "B08"], ChannelSet(("nir", "green", "blue"))) == {
        "B02": "blue",
        "B03": "green",
        "B08": "nir",
    }
    assert match_bands(["B2", "B5"], as_channel_set("landsat8:B5,B2")) == {"B2": "B2", "B5": "B5"}
    assert match_bands(["B5"], ChannelSet(("NIR",))) == {"B5": "NIR"}
    assert match_bands(["1", "2"], ChannelSet(("2", "3"))) == {"2": "2"}
    with pytest.raises(DataError, match="band 'red' may be the channels B04 and X"):
        match_bands(["red"], ChannelSet(("B04", "X"), kinds=("red", "red")))


def test_unnamed_channels_are_a_sensors_or_sorted_by_number():
    assert find_channels(["B12", "B8A", "B02", "SCL"]).names == ("B02", "B8A", "B12")
    assert find_channels(["B5", "B4"]).wavelengths_nm == (654.6, 864.7)  # Landsat's
    assert find_channels(["b10", "b2", "c1"]).names == ("b2", "b10", "c1")
    assert find_channels(["G", "B", "R"]).names == ("R", "G", "B")
    assert find_channels(["B10", "B11"]).wavelengths_nm == (None, None)  # Sentinel-2's or Landsat's


@pytest.mark.filterwarnings(LEFT)
def test_a_change_of_one_file_is_noticed_whatever_its_time_says(tmp_path: Path):
    write_scenes(tmp_path / "data", "{cls}/{scene}_{band}.tif", per_class=3)
    cache = {"cache_dir": tmp_path / "cache"}
    first = load_dataset(tmp_path / "data", bands=USUAL, **cache)
    assert load_dataset(tmp_path / "data", bands=USUAL, **cache).fingerprint == first.fingerprint
    file = tmp_path / "data/field/field-0_B05.tif"
    other = write_band(tmp_path / "other.tif", draw_scene(77)["B05"])
    os.utime(other, (1e9, 1e9))  # older than all, and as long
    assert other.stat().st_size == file.stat().st_size
    shutil.copy2(other, file)
    second = load_dataset(tmp_path / "data", bands=USUAL, **cache)
    assert second.fingerprint != first.fingerprint
    assert np.array_equal(planes_of(second)["field-0"][1], upsampled(draw_scene(77)["B05"], 24))
    file.unlink()
    third = load_dataset(tmp_path / "data", bands=USUAL, **cache)
    assert third.fingerprint not in (first.fingerprint, second.fingerprint)


@pytest.mark.filterwarnings(LEFT)
def test_exchanged_files_and_another_order_of_channels_are_other_images(tmp_path: Path):
    written = write_scenes(tmp_path / "data", "{cls}/{scene}_{band}.tif", per_class=3)
    cache = {"cache_dir": tmp_path / "cache", "bands": USUAL}
    forward = load_dataset(tmp_path / "data", channels="B05,B09", **cache)
    backward = load_dataset(tmp_path / "data", channels="B09,B05", **cache)
    assert np.array_equal(planes_of(forward)["field-2"], planes_of(backward)["field-2"][::-1])
    for band, planes in (("B05", "B09"), ("B09", "B05")):
        for scene, found in written.items():
            write_band(tmp_path / f"data/{scene.split('-')[0]}/{scene}_{band}.tif", found[planes])
    exchanged = load_dataset(tmp_path / "data", channels="B05,B09", **cache)
    assert exchanged.fingerprint != forward.fingerprint
    assert np.array_equal(planes_of(exchanged)["field-2"], planes_of(backward)["field-2"])


def test_bands_of_several_types_are_held_by_the_widest_and_one_band_has_one_type(tmp_path: Path):
    for label, cls in enumerate(("a", "b")):
        for i in range(4):
            planes = draw_scene(i, label)
            write_band(tmp_path / cls / f"{i}_R.tif", (planes["B02"] // 10).astype(np.uint8))
            if i != 1:  # the first image that is read may lack the widest
                write_band(tmp_path / cls / f"{i}_height.tif", planes["B05"].astype(np.float32) / 3)
    data = load_dataset(tmp_path, bands=USUAL, channels="R,height")
    images = planes_of(data)
    assert images["0"].dtype == np.float32
    assert set(images) == {"0", "1", "2", "3"}
    write_band(tmp_path / "a/2_R.tif", draw_scene(2)["B02"])
    with pytest.raises(
        DataError, match=r"a/2: its band 'R' \(2_R\.tif\): it holds uint16 values, but a/.* holds uint8"
    ):
        load_dataset(tmp_path, bands=USUAL, channels="R,height")


def folder_with(tmp_path: Path, change) -> Path:
    root = tmp_path / "data"
    write_scenes(root, "{cls}/{scene}_{band}.tif", per_class=3)
    change(root / "field" / "field-1_B05.tif", draw_scene(1)["B05"])
    return root


REFUSED = {
    "empty": (lambda p, x: p.write_bytes(b""), "the file is empty"),
    "cut": (lambda p, x: p.write_bytes(p.read_bytes()[:300]), "it is truncated or damaged"),
    "another area": (
        lambda p, x: write_band(p, x, 20, corner=(5e5 + 100, 6e6)),
        "shows another area .12 x 12 pixels in",
    ),
    "another system": (lambda p, x: write_band(p, x, 20, crs="EPSG:32633"), "shows another area .* in EPSG:32633 from"),
    "another shape": (lambda p, x: write_band(p, x[:8].copy(), 20), "it is 8 x 12 pixels, but field/"),
    "colours": (
        lambda p, x: Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(p, "PNG"),
        r"it has 3 channels \(RGB\), but 1 expected \(B05\)",
    ),
    "a pipe": (lambda p, x: (p.unlink(), os.mkfifo(p)), "it is not a file"),
    "a link to nothing": (lambda p, x: (p.unlink(), p.symlink_to("nowhere.tif")), "the file is missing"),
}


@pytest.mark.filterwarnings(LEFT)
@pytest.mark.parametrize("case", REFUSED)
def test_a_band_that_cannot_be_used_is_refused_by_name(tmp_path: Path, case: str):
    change, message = REFUSED[case]
    root = folder_with(tmp_path, change)
    with pytest.raises(DataError, match=f"field/field-1: .*{message}"):
        load_dataset(root, bands=USUAL)
    if case != "a pipe":
        with pytest.warns(UserWarning, match="1 image that cannot be used"):
            data = load_dataset(root, bands=USUAL, skip_bad=True)
        assert "field-1" not in planes_of(data)


@pytest.mark.filterwarnings(LEFT)
def test_limits_hold_for_each_file_for_all_together_and_on_the_finest_grid(tmp_path: Path, monkeypatch):
    root = folder_with(tmp_path, lambda *_: None)
    monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", str(3 * 24 * 24))
    load_dataset(root, bands=USUAL, cache_dir=tmp_path / "a")
    for limit, what in ((3 * 24 * 24 - 1, "holds|decodes to 1,728 values"), (24 * 24 + 10, "720 values"), (500, "576")):
        monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", str(limit))
        with pytest.raises(DataError, match=f"({what}).* more than the limit of"):
            load_dataset(root, bands=USUAL, cache_dir=tmp_path / str(limit))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{scene}.tif", r"does not say where a file's name has its \{band\}; write both"),
        ("*.tif", r"its \{scene\} and \{band\}"),
        ("{scene}_{channel}.tif", r"unknown field \{channel\}; the fields are \{scene\}, \{band\}, \{class\}"),
        ("{split}/{scene}_{band}.tif", r"names \{split\} without \{class\}"),
    ],
)
def test_a_pattern_without_meaning_is_refused(tmp_path: Path, pattern: str, message: str):
    write_scenes(tmp_path, "{cls}/{scene}_{band}.tif", per_class=3)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path, bands=pattern)


def test_what_a_pattern_does_not_fit_is_said_and_other_channels_are_an_error(tmp_path: Path):
    write_scenes(tmp_path, "{cls}/{scene}_{band}.tif", per_class=3)
    with pytest.raises(DataError, match=r"field/: no file fits bands='.*', such as field-0_B.*; correct"):
        load_dataset(tmp_path, bands="{scene}-x-{band}.tif")
    write_band(tmp_path / "field/overview.tif", draw_scene(0)["B02"])
    with pytest.warns(UserWarning, match=r"files of SCL .* and 1 image file that bands='.*' does not fit"):
        load_dataset(tmp_path, bands=USUAL)
    with pytest.raises(DataError, match=r"files of the bands B.*, and none is one of the channels VV, VH"):
        load_dataset(tmp_path, bands=USUAL, channels="VV,VH")
    for band in ("B02", "B05"):
        shutil.copytree(tmp_path / "field", tmp_path / "by band" / band / "field")
    with pytest.raises(DataError, match=r"a folder for each band \(B02, B05\) where class folders are expected; na"):
        load_dataset(tmp_path / "by band", bands="{band}/{scene}.tif")


def test_patterns_take_brackets_dots_and_unicode_as_they_are():
    pattern = BandPattern.parse("[a].{scene}+{band}.tif").compiled
    assert pattern.fullmatch("[a].x+B2.tif")
    assert not pattern.fullmatch("aax+B2.tif")
    assert BandPattern.parse("./{scene}_{band}").compiled.fullmatch("ö/x_y_B2.jp2")["scene"] == "x_y"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert BandPattern.parse("{band}/**/{scene}.tif").compiled.fullmatch("B02/a/b/c.tif")["band"] == "B02"


@pytest.mark.parametrize("names", ["scenes", "files", "one file"])
def test_tables_name_scenes_or_their_files(tmp_path: Path, names: str):
    root, options = tmp_path / "data", {"bands": USUAL, "channels": "B02,B05,B09"}
    written = write_scenes(root, "images/{scene}_{band}.tif", per_class=4)
    bands = {"scenes": [""], "files": ["_B02.tif", "_B05.tif", "_B09.tif"], "one file": ["_B05.tif"]}[names]
    rows = ["file,label,plot,fold"]
    for i, scene in enumerate(sorted(written)):
        rows += [f"images/{scene}{band},{scene.split('-')[0]},p{i // 2},{i % 3}" for band in bands]
    (root / "labels.csv").write_text("\n".join(rows))
    for more in ({}, {"split_by": "plot"}, {"fold_by": "fold", "fold": 2}):
        data = load_dataset(root, **options, **more)
        images = planes_of(data)
        assert all(alike(images[scene], stack(planes, "B02,B05,B09")) for scene, planes in written.items())
        for split in (data.train, data.val, data.test):
            assert [data.classes[label] for label in split.labels] == [path[7:].split("-")[0] for path in split.paths]
    (root / "labels.csv").write_text("\n".join([*rows, "images/none,field,p1,1"]))
    with pytest.raises(
        DataError, match=r"images/none \(labels.csv line \d+\): there is no file of the scene images/none"
    ):
        load_dataset(root, **options)


def test_folds_of_scenes_are_found(tmp_path: Path):
    written = write_scenes(tmp_path / "data", "{cls}/{scene}_{band}.tif", per_class=3)
    rows = [f"{scene},{i % 3}" for i, scene in enumerate(sorted(written))]
    (tmp_path / "data/folds.csv").write_text("\n".join(["file,fold", *rows]))
    assert find_folds(tmp_path / "data", Request("B02,B05,B09", fold_by="fold"), {"bands": USUAL}) == ["0", "1", "2"]
