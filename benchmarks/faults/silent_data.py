"""Data that used to be read wrong without a word: no-data pixels, split folders, links, colours, band names, labels."""

from __future__ import annotations

import io
import json
import os
import tarfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from anychannel.data import DataError, ImageDataset, dataset_from_arrays, load_dataset, read_image
from anychannel.data.files.names import check_names
from benchmarks.faults.case import Case

NODATA = "No-data pixels count in no mean, standard deviation or correlation, and do not mix into others when resized."
ABSENT = "A band without one valid pixel in an image is missing in it."
SPLIT = "Split folders, list files and shards are known by their usual names in any case, and never become classes."
LINKS = "Linked folders are followed, each once and never upwards."
JUNK = "Thumbnails and hidden files are left out and counted in one remark."
TWINS = "The same picture under two classes is reported."
COLOURS = "A TIFF or BMP whose values are not those of channels is converted right or refused."
BANDS = "A file's channel names decide as whole names: synonyms pass, parts of a name do not."
LABELS = "Labels that are all different are refused, and a table as label asks for the entry inside."


def refuses(call: Callable[[], Any], *texts: str) -> None:
    """Check that a call raises DataError with all of these texts in its message."""
    try:
        call()
    except DataError as error:
        missing = [text for text in texts if text not in str(error)]
        if missing:
            raise AssertionError(f"{missing} not in: {error}") from error
    else:
        raise AssertionError("it was accepted")


def load(folder: Path, source: str | Path, **options: Any) -> tuple[ImageDataset, list[str]]:
    """A data set and the warnings of its loading."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = load_dataset(source, cache_dir=folder / "cache", **options)
    return dataset, [str(warning.message) for warning in caught if warning.category is UserWarning]


def write_tile(path: Path, pixels: np.ndarray, nodata: float | None = None, mask: np.ndarray | None = None) -> None:
    """A GeoTIFF of pixels (C, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype, "nodata": nodata}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, crs="EPSG:32632") as file:
            file.write(pixels)
            if mask is not None:
                file.write_mask(mask)


def write_picture(path: Path, seed: int, size: int = 8) -> None:
    """A random RGB picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


def tiles(seed: int, kind: str, value: float, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Two independent bands (N, 2, 24, 24) of 2000 to 3000 and where they are valid: not so in half of each tile."""
    random = np.random.default_rng(seed)
    pixels = random.integers(2000, 3000, (count, 2, 24, 24)).astype("float32" if np.isnan(value) else kind)
    valid = np.ones(pixels.shape, bool)
    for i, one in enumerate(valid):
        one[:, :, :12] = i % 2 == 0
        one[:, :, 12:] = i % 2 == 1
    pixels[~valid] = value
    return pixels, valid


WAYS = {
    "tag 0, keep": ("uint16", 0, "keep"),
    "tag 0, replaced by 7": ("uint16", 0, 7),
    "tag 65535, keep": ("uint16", 65535, "keep"),
    "tag -9999, keep": ("float32", -9999, "keep"),
    "tag -9999, replaced by 0": ("float32", -9999, 0),
    "tag NaN, replaced by 0": ("float32", float("nan"), 0),
    "mask, keep": ("uint16", 0, "keep"),
    "no tag, --nodata 0": ("uint16", 0, 0),
    "no tag, NaN, --nodata -1": ("float32", float("nan"), -1),
    "npy, NaN, --nodata 0": ("float32", float("nan"), 0),
    "npy, --nodata 0": ("uint16", 0, 0),
}


def write_tiles(folder: Path, way: str, pixels: np.ndarray, valid: np.ndarray) -> Path:
    """Class folders of these tiles, in the way that is named."""
    value = WAYS[way][1]
    for i, one in enumerate(pixels):
        path = folder / "tiles" / "ab"[i % 2] / f"{i}.tif"
        if way.startswith("npy"):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path.with_suffix(".npy"), one)
        else:
            mask = valid[i, 0].astype(np.uint8) * 255 if way.startswith("mask") else None
            write_tile(path, one, value if way.startswith("tag") else None, mask)
    return folder / "tiles"


def check_nodata(way: str, size: int | None, folder: Path) -> None:
    """The numbers of two independent bands, half of each tile no data."""
    kind, value, option = WAYS[way]
    pixels, valid = tiles(1, kind, value)
    source = write_tiles(folder, way, pixels, valid)
    options = {"layout": "planar"} if way.startswith("npy") else {}
    data, _ = load(folder, source, channels="x,y", nodata=option, size=size, **options)
    rows = [int(Path(path).stem) for path in data.train.paths]
    for band in range(2):
        inside = pixels[rows][:, band][valid[rows][:, band]].astype(float)
        np.testing.assert_allclose(data.channels.mean[band], inside.mean(), rtol=1e-6 if size is None else 0.01)
        if size is None:
            np.testing.assert_allclose(data.channels.std[band], inside.std(), rtol=1e-6)
        else:
            assert 60 < data.channels.std[band] < 295, data.channels.std
    assert abs(data.channels.correlation[0][1]) < 0.1, data.channels.correlation


def check_mixing(folder: Path) -> None:
    """A constant band stays constant however its no-data half is resized."""
    pixels = np.full((1, 30, 30), 2500, np.uint16)
    pixels[:, :, :13] = 0
    write_tile(folder / "a.tif", pixels, 0)
    for size in (7, 11, 29, 64):
        found = read_image(folder / "a.tif", channels="x", size=size, nodata="keep")
        assert set(np.unique(found)) == {0, 2500}, np.unique(found)


def empty_band_tiles(folder: Path) -> Path:
    """Tiles of two bands; in every third one, the second is no data throughout."""
    random = np.random.default_rng(0)
    for i in range(24):
        pixels = random.integers(2000, 3000, (2, 16, 16)).astype(np.uint16)
        pixels[1] = 0 if i % 3 == 0 else pixels[1]
        write_tile(folder / "tiles" / "ab"[i % 2] / f"{i:02d}.tif", pixels, 0)
    return folder / "tiles"


def check_present(data: ImageDataset) -> None:
    """The second band is missing in the tiles whose number is a multiple of 3, and only there."""
    for split in (data.train, data.val, data.test):
        present = np.ones((len(split), 2), bool) if split.present is None else split.present
        numbers = np.array(
            [int("".join(filter(str.isdigit, path.split("/")[-1].split(":")[-1]))) for path in split.paths]
        )
        np.testing.assert_array_equal(present[:, 1], numbers % 3 != 0)
        assert present[:, 0].all()
    assert 2400 < data.channels.mean[1] < 2600, data.channels.mean


def check_absent(folder: Path) -> None:
    data, _ = load(folder, empty_band_tiles(folder), channels="x,y", nodata="keep")
    check_present(data)
    again, _ = load(folder, folder / "tiles", channels="x,y", nodata="keep")  # from the cache
    check_present(again)


def write_shards(folder: Path, members: list[tuple[str, dict[str, bytes]]], **named: int) -> Path:
    """Tar shards of these samples, so many in each split by the names' prefixes."""
    folder.mkdir(parents=True, exist_ok=True)
    left = iter(members)
    for name, count in named.items():
        with tarfile.open(folder / f"{name.replace('_', '-')}.tar", "w") as tar:
            for _ in range(count):
                key, fields = next(left)
                for field, content in fields.items():
                    info = tarfile.TarInfo(f"{key}.{field}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return folder


def tile_members(folder: Path) -> list[tuple[str, dict[str, bytes]]]:
    files = sorted(empty_band_tiles(folder).rglob("*.tif"), key=lambda path: path.stem)
    return [(path.stem, {"tif": path.read_bytes(), "cls": str(i % 2).encode()}) for i, path in enumerate(files)]


def check_absent_in_shards(folder: Path) -> None:
    """Counted and read so in training, also by a network of one of the bands."""
    from anychannel.utils.processes import Share

    write_shards(folder / "shards", tile_members(folder), train_0=8, train_1=4, val_0=6, test_0=6)
    data, _ = load(folder, f"wds:{folder / 'shards'}", channels="x,y", nodata="keep")
    assert dict(data.train.count_patterns()) == {(0, 1): 8, (0,): 4}, data.train.count_patterns()
    for batch in data.train.batches(seed=0, epoch=0, batch_size=6, share=Share(0, 1)):
        empty = (batch.images[:, 1] == 0).flatten(1).all(1).numpy()
        np.testing.assert_array_equal(batch.present[:, 1], ~empty)
    only = data.select("y")
    assert len(only.train) == 8
    for batch in only.train.batches(seed=0, epoch=0, batch_size=4, share=Share(0, 1)):
        assert (batch.images > 0).flatten(1).any(1).all()


def check_absent_in_tables(folder: Path) -> None:
    import datasets

    members = tile_members(folder)
    rows = {"image": [fields["tif"] for _, fields in members], "label": [i % 2 for i in range(len(members))]}
    table = datasets.Dataset.from_dict(rows)
    parts = {
        "train": table.select(range(12)),
        "validation": table.select(range(12, 18)),
        "test": table.select(range(18, 24)),
    }
    datasets.DatasetDict(parts).save_to_disk(str(folder / "saved"))
    for streaming in (False, True):
        options = {"image": "image", "nodata": "keep", "channels": "x,y", "streaming": streaming}
        data, _ = load(folder, f"hf:{folder / 'saved'}", **options)
        assert dict(data.train.count_patterns()) == {(0, 1): 8, (0,): 4}, data.train.count_patterns()
        assert data.val.present is not None
        np.testing.assert_array_equal(data.val.present[:, 1], np.arange(12, 18) % 3 != 0)


def check_absent_in_prediction(folder: Path) -> None:
    """A file whose band is no data is classified from the other one."""
    from anychannel import create_model, save_model
    from anychannel.runs.predict import Predictor

    empty_band_tiles(folder)
    save_model(create_model("resnet18", channels="x,y", num_classes=2), folder / "model")
    predictor = Predictor(folder / "model")
    image = predictor.open(folder / "tiles/a/00.tif", nodata="keep")
    assert image.channels == ("x",), image.channels
    assert any("y" in note and "missing" in note for note in image.notes), image.notes
    refuses(lambda: predictor.open(folder / "tiles/a/00.tif", "-,y", nodata="keep"), "no data")


def check_all_absent(folder: Path) -> None:
    source = empty_band_tiles(folder)
    write_tile(source / "a" / "void.tif", np.zeros((2, 16, 16), np.uint16), 0)
    refuses(lambda: load(folder, source, channels="x,y", nodata="keep"), "a/void.tif", "no data", "skip_bad")


def check_split_folders(names: tuple[str, str, str], folder: Path) -> None:
    for number, name in enumerate(names):
        for label in "ab":
            for i in range(2):
                write_picture(folder / "data" / name / label / f"{i}.png", 100 * number + 10 * ord(label) + i)
    data, _ = load(folder, folder / "data")
    assert data.classes == ("a", "b"), data.classes
    assert [Path(split.paths[0]).parts[0] for split in (data.train, data.val, data.test)] == list(names)


def check_split_classes(names: tuple[str, ...], nested: bool, folder: Path) -> None:
    for number, name in enumerate(names):
        for label in ("a", "b") if nested else (".",):
            for i in range(4):
                write_picture(folder / "data" / name / label / f"{i}.png", 100 * number + 10 * ord(label[0]) + i)
    refuses(lambda: load(folder, folder / "data"))


def check_split_lists(names: tuple[str, str, str], folder: Path) -> None:
    for number, name in enumerate(names):
        for i in range(4):
            write_picture(folder / "data" / f"{number}_{i}.png", 10 * number + i)
        lines = [f"{number}_{i}.png {i % 2}" for i in range(4)]
        (folder / "data" / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    data, _ = load(folder, folder / "data")
    assert [split.paths[0] for split in (data.train, data.val, data.test)] == ["0_0.png", "1_0.png", "2_0.png"]


def picture_bytes(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def check_split_shards(names: tuple[str, str, str], folder: Path) -> None:
    members = [(f"{i:03d}", {"png": picture_bytes(i), "cls": str(i % 2).encode()}) for i in range(12)]
    write_shards(folder / "shards", members, **{f"{name}_0": 4 for name in names})
    data, _ = load(folder, f"wds:{folder / 'shards'}")
    assert (len(data.train), len(data.val), len(data.test)) == (4, 4, 4)


def class_folders(folder: Path, count: int = 10) -> Path:
    for label in "ab":
        for i in range(count):
            write_picture(folder / "data" / label / f"{i}.png", 100 * ord(label) + i)
    return folder / "data"


def count_images(data: ImageDataset) -> int:
    return sum(map(len, (data.train, data.val, data.test)))


def check_links(kind: str, folder: Path) -> None:
    root = class_folders(folder)
    expected = 20
    if kind == "linked folder of a class":
        for i in range(10):
            write_picture(folder / "elsewhere" / f"{i}.png", 5000 + i)
        (root / "a" / "more").symlink_to(folder / "elsewhere")
        expected = 30
    elif kind == "linked class":
        for i in range(10):
            write_picture(folder / "elsewhere" / f"{i}.png", 5000 + i)
        (root / "c").symlink_to(folder / "elsewhere")
        expected = 30
    elif kind == "loop to itself":
        (root / "a" / "loop").symlink_to(root / "a")
    elif kind == "loop to the data folder":
        (root / "a" / "loop").symlink_to(root)
        (root / "loop").symlink_to(root)
    elif kind == "two links to one folder":
        for i in range(10):
            write_picture(folder / "elsewhere" / f"{i}.png", 5000 + i)
        (root / "a" / "one").symlink_to(folder / "elsewhere")
        (root / "a" / "two").symlink_to(folder / "elsewhere")
        expected = 30
    data, _ = load(folder, root)
    assert count_images(data) == expected, count_images(data)


def check_junk(name: str, folder: Path) -> None:
    """The junk lies in a class, beside the classes, and in a split folder."""
    root = class_folders(folder)
    where = [root / "a" / name]
    if not name.endswith((".png", ".db", ".ini", ".DS_Store")):
        where = [root / "a" / name / "x" / "1.png", root / name / "2.png"]
    for number, path in enumerate(where):
        if path.suffix == ".png":
            write_picture(path, 9000 + number)
        else:
            path.write_bytes(b"thumbnails")
    data, remarks = load(folder, root)
    assert data.classes == ("a", "b"), data.classes
    assert count_images(data) == 20, count_images(data)
    found = [remark for remark in remarks if "left out" in remark]
    assert len(found) == 1, remarks
    assert ": 1 (" in found[0], found


def check_twins(form: str, folder: Path) -> None:
    if form == "arrays":
        images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
        images[1] = images[0]
        splits = ["train"] * 20 + ["val"] * 5 + ["test"] * 5
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset_from_arrays(images, np.arange(30) % 2, channels="R,G,B", splits=splits)
        remarks = [str(one.message) for one in caught]
    elif form == "shards":
        members = [
            (f"{i:03d}", {"png": picture_bytes(0 if i == 1 else i), "cls": str(i % 2).encode()}) for i in range(12)
        ]
        write_shards(folder / "shards", members, train_0=8, val_0=2, test_0=2)
        _, remarks = load(folder, f"wds:{folder / 'shards'}")
    else:
        for number, split in enumerate(("train", "val", "test")):
            for label in "ab":
                for i in range(3):
                    write_picture(folder / "data" / split / label / f"{i}.png", 100 * number + 10 * ord(label) + i)
        target = folder / "data" / form / "b" / "copy.png"
        target.write_bytes((folder / "data" / form / "a" / "1.png").read_bytes())
        _, remarks = load(folder, folder / "data")
        assert any(f"{form}/a/1.png (a)" in one and f"{form}/b/copy.png (b)" in one for one in remarks), remarks
        _, remarks = load(folder, folder / "data")  # again from the cache
    assert any("two classes" in one for one in remarks), remarks


RED = np.full((8, 8, 3), (220, 30, 10), np.uint8)


def tiff_of(photometric: str, folder: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(folder / "a.tif", pixels, photometric=photometric, **options)
    return folder / "a.tif"


def check_photometric(name: str, folder: Path) -> None:
    """Read right or refused, and never other values."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    if name == "RGB":
        found = read_image(tiff_of("rgb", folder, RED), channels="R,G,B")
        np.testing.assert_array_equal(found, np.moveaxis(RED, -1, 0))
        return
    if name == "MINISBLACK":
        np.testing.assert_array_equal(read_image(tiff_of("minisblack", folder, grey), channels="x")[0], grey)
        return
    if name == "PALETTE":
        path = folder / "a.tif"
        Image.fromarray(RED).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    elif name == "YCBCR":
        path = tiff_of("ycbcr", folder, np.asarray(Image.fromarray(RED).convert("YCbCr")))
    elif name == "SEPARATED":
        path = folder / "a.tif"
        Image.fromarray(RED).convert("CMYK").save(path)
    elif name == "MINISWHITE":
        path = tiff_of("miniswhite", folder, grey)
    elif name in ("CIELAB", "ICCLAB", "ITULAB", "LOGLUV", "LINEAR_RAW"):
        path = tiff_of(name.lower(), folder, RED)
    else:
        path = tiff_of(name.lower(), folder, grey)
    channels = "x" if name in ("MINISWHITE", "PALETTE", "MASK", "CFA", "LOGL", "DEPTH_MAP") else "R,G,B"
    refuses(lambda: read_image(path, channels=channels), str(path))
    if name in ("PALETTE", "YCBCR", "SEPARATED"):
        found = read_image(path, channels="R,G,B", convert="rgb")
        assert np.abs(found.astype(int) - np.moveaxis(RED, -1, 0)).max() <= 3, found[:, 0, 0]


def check_bmp(folder: Path) -> None:
    """A BMP of 32 bits with values in its fourth byte."""
    header = b"BM" + (54 + 256).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = (
        (40).to_bytes(4, "little")
        + (8).to_bytes(4, "little") * 2
        + (1).to_bytes(2, "little")
        + (32).to_bytes(2, "little")
    )
    data = np.random.default_rng(0).integers(0, 256, 256, dtype=np.uint8).tobytes()
    (folder / "a.bmp").write_bytes(header + info + bytes(24) + data)
    refuses(lambda: read_image(folder / "a.bmp", channels="R,G,B"), "fourth value")


PASS_NAMES = [
    ("Blue,Green,Red,NIR", "B,G,R,NIR", ""),
    ("red,green,blue", "R,G,B", ""),
    ("B2,B3,B4,B8", "B02,B03,B04,B08", "sentinel2"),
    ("Red edge 1", "B05", "sentinel2"),
    ("nir narrow", "B8A", "sentinel2"),
    ("Band 4 - Red", "B04", "sentinel2"),
    ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}", ""),
]
REFUSED_NAMES = [
    ("Red edge 1", "B04", "sentinel2"),
    ("Red", "B05", "sentinel2"),
    ("nir narrow", "B08", "sentinel2"),
    ("NIR", "B8A", "sentinel2"),
    ("SWIR 2", "B11", "sentinel2"),
    ("Green,Blue,Red,NIR", "B,G,R,NIR", ""),
    ("Blue-green", "B", ""),
]


def check_band_names(own: str, given: str, sensor: str, passes: bool, _: Path) -> None:
    from anychannel.channels import as_channel_set

    channels = as_channel_set(f"{sensor}:{given}" if sensor else given)
    call = partial(check_names, own.split(","), channels.names, channels.kinds)
    if passes:
        call()
    else:
        refuses(call)


def check_all_different(form: str, folder: Path) -> None:
    count = 32
    if form == "arrays":
        images = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
        splits = ["train"] * 24 + ["val"] * 4 + ["test"] * 4
        refuses(
            lambda: dataset_from_arrays(images, np.arange(count), channels="R,G,B", splits=splits), "label of its own"
        )
        return
    if form == "folders":
        for i in range(24):
            for number, split in enumerate(("train", "val", "test")):
                if split == "train" or i < 4:
                    write_picture(folder / "data" / split / f"class_{i:02d}" / f"{i}.png", 1000 * number + i)
        source: str | Path = folder / "data"
    elif form.startswith("lists"):
        for i in range(count):
            write_picture(folder / "data" / f"{i}.png", i)
        label = (lambda i: i) if form == "lists" else (lambda i: f"name{i}")
        for split, rows in {"train": range(24), "val": range(24, 28), "test": range(28, 32)}.items():
            lines = [f"{i}.png {label(i if split == 'train' else i - 24)}" for i in rows]
            (folder / "data" / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
        source = folder / "data"
    elif form == "tables":
        import datasets

        rows = {"image": [picture_bytes(i) for i in range(count)], "label": [f"id {i}" for i in range(count)]}
        table = datasets.Dataset.from_dict(rows)
        parts = {
            "train": table.select(range(24)),
            "validation": table.select(range(24, 28)),
            "test": table.select(range(28, 32)),
        }
        datasets.DatasetDict(parts).save_to_disk(str(folder / "saved"))
        source = f"hf:{folder / 'saved'}"
    else:
        members = [(f"{i:03d}", {"png": picture_bytes(i), "cls": f"id {i}".encode()}) for i in range(count)]
        write_shards(folder / "shards", members, train_0=24, val_0=4, test_0=4)
        source = f"wds:{folder / 'shards'}"
    options = {"image": "image"} if form == "tables" else {}
    refuses(lambda: load(folder, source, **options), "label of its own")


def check_json_label(form: str, folder: Path) -> None:
    tables = [{"id": i, "class": "ab"[i % 2], "meta": {"site": "cd"[i % 2]}} for i in range(32)]
    members = [
        (f"{i:03d}", {"png": picture_bytes(i), "json": json.dumps(table).encode()}) for i, table in enumerate(tables)
    ]
    write_shards(folder / "shards", members, train_0=24, val_0=4, test_0=4)
    if form == "asked":
        refuses(lambda: load(folder, f"wds:{folder / 'shards'}", label="json"), "json.id", "class")
        return
    label, classes = {"entry": ("json.class", ("a", "b")), "nested entry": ("json.meta.site", ("c", "d"))}[form]
    data, _ = load(folder, f"wds:{folder / 'shards'}", label=label)
    assert data.classes == classes, data.classes


SPELLINGS = [
    ("Training", "Validation", "Testing"),
    ("Train", "Val", "Test"),
    ("TRAIN", "VALID", "EVAL"),
    ("training", "dev", "evaluation"),
    ("train", "valid", "test"),
]
LOOKALIKES = [
    (("Training", "Testing"), True),
    (("Train", "Test"), True),
    (("train", "val", "test"), False),
    (("Training_set", "Testing_set"), False),
    (("train1", "test1"), False),
    (("cat", "dog", "Test"), False),
]
PHOTOMETRIC = (
    *("RGB", "MINISBLACK", "MINISWHITE", "PALETTE", "YCBCR", "SEPARATED", "CIELAB", "ICCLAB", "ITULAB"),
    *("LOGL", "LOGLUV", "MASK", "CFA", "LINEAR_RAW", "DEPTH_MAP"),
)
JUNK_NAMES = ("@eaDir", ".thumbnails", "__MACOSX", ".AppleDouble", "#recycle", "$RECYCLE.BIN", "@Recycle")
JUNK_FILES = ("._1.png", ".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store")


def cases() -> list[Case]:
    """All cases; the parametrised ones once for each value."""
    short = {"tag 0, keep", "no tag, --nodata 0"}
    found = [
        Case(
            NODATA,
            f"{way}{'' if size is None else f', size {size}'}",
            partial(check_nodata, way, size),
            short=size is None and way in short,
        )
        for way in WAYS
        for size in (None, 9)
    ]
    found += [
        Case(NODATA, "a constant band stays constant when resized", check_mixing, short=True),
        Case(ABSENT, "class folders and their cache", check_absent, short=True),
        Case(ABSENT, "shards", check_absent_in_shards, short=True),
        Case(ABSENT, "Hugging Face tables", check_absent_in_tables),
        Case(ABSENT, "prediction", check_absent_in_prediction),
        Case(ABSENT, "an image without any valid pixel", check_all_absent),
    ]
    for names in SPELLINGS:
        found += [
            Case(
                SPLIT, f"folders {', '.join(names)}", partial(check_split_folders, names), short=names[0] == "Training"
            ),
            Case(SPLIT, f"lists {', '.join(names)}", partial(check_split_lists, names)),
            Case(SPLIT, f"shards {', '.join(names)}", partial(check_split_shards, names)),
        ]
    found += [
        Case(SPLIT, f"not classes: {', '.join(names)}", partial(check_split_classes, names, nested), short=nested)
        for names, nested in LOOKALIKES
    ]
    links = (
        "linked folder of a class",
        "linked class",
        "loop to itself",
        "loop to the data folder",
        "two links to one folder",
    )
    if hasattr(os, "symlink"):
        found += [Case(LINKS, kind, partial(check_links, kind), short=kind == links[0]) for kind in links]
    found += [Case(JUNK, name, partial(check_junk, name), short=name == "@eaDir") for name in JUNK_NAMES + JUNK_FILES]
    found += [
        Case(TWINS, form, partial(check_twins, form), short=form == "arrays")
        for form in ("train", "val", "test", "arrays", "shards")
    ]
    found += [Case(COLOURS, name, partial(check_photometric, name), short=name == "YCBCR") for name in PHOTOMETRIC]
    found.append(Case(COLOURS, "32-bit BMP", check_bmp, short=True))
    found += [
        Case(BANDS, f"{own} for {given}", partial(check_band_names, own, given, sensor, passes), short=True)
        for names, passes in ((PASS_NAMES, True), (REFUSED_NAMES, False))
        for own, given, sensor in names
    ]
    forms = ("arrays", "folders", "lists", "lists of names", "tables", "shards")
    found += [
        Case(LABELS, f"all different: {form}", partial(check_all_different, form), short=form == "lists")
        for form in forms
    ]
    found += [
        Case(LABELS, f"JSON, {form}", partial(check_json_label, form), short=form == "asked")
        for form in ("asked", "entry", "nested entry")
    ]
    return found
