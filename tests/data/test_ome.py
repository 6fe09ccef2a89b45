"""OME-TIFF and OME-Zarr images: their pixels come back, and their channels' names are compared."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import add_metadata
from ome_zarr.writer import write_image as write_ome_zarr

from anychannel.data import DataError, load_dataset, read_image

RNG = np.random.default_rng(0)
STAINS = ("DNA", "ER", "RNA", "AGP", "Mito")
FORMATS = {"0.4": FormatV04, "0.5": FormatV05}


def random_pixels(dtype: str = "uint16") -> np.ndarray:
    return RNG.integers(1, 200, (5, 12, 10)).astype(dtype)


def write_ome_tiff(path: Path, pixels: np.ndarray, names: tuple[str, ...] = STAINS, axes: str = "CYX") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, pixels, photometric="minisblack", metadata={"axes": axes, "Channel": {"Name": list(names)}}, ome=True
    )
    return path


def write_zarr(
    path: Path, pixels: np.ndarray, names: tuple[str, ...] = STAINS, version: str = "0.4", axes: str = "cyx"
) -> Path:
    """As the ome-zarr package writes it, with a pyramid and chunks that divide nothing evenly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = FORMATS[version]()
    group = zarr.open_group(path, mode="w", zarr_format=form.zarr_format)
    chunks = (1,) * (pixels.ndim - 2) + (7, 7)
    write_ome_zarr(
        pixels,
        group,
        axes=axes,
        fmt=form,
        scale_factors=(2,),
        storage_options={"chunks": chunks},
    )
    add_metadata(group, {"omero": {"channels": [{"label": name, "color": "FFFFFF"} for name in names]}}, fmt=form)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_an_ome_tiff_comes_back_bit_for_bit(tmp_path: Path, dtype: str):
    pixels = random_pixels(dtype)
    np.testing.assert_array_equal(
        read_image(write_ome_tiff(tmp_path / "a.ome.tif", pixels), channels="cell_painting"), pixels
    )


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_an_ome_zarr_image_comes_back_bit_for_bit(tmp_path: Path, version: str, dtype: str):
    pixels = random_pixels(dtype)
    path = write_zarr(tmp_path / "a.zarr", pixels, version=version)
    np.testing.assert_array_equal(read_image(path, channels="cell_painting"), pixels)


def test_axes_of_one_are_dropped_and_a_missing_channel_axis_is_one_channel(tmp_path: Path):
    pixels = random_pixels()
    path = write_zarr(tmp_path / "a.zarr", pixels[None, :, None], axes="tczyx")
    np.testing.assert_array_equal(read_image(path, channels="cell_painting"), pixels)
    path = write_zarr(tmp_path / "b.zarr", pixels[0], names=(), axes="yx")
    np.testing.assert_array_equal(read_image(path, channels="DNA"), pixels[:1])
    path = write_zarr(tmp_path / "c.zarr", pixels[:, None].repeat(2, axis=1), axes="czyx")
    with pytest.raises(
        DataError, match=r"it has axes c, z, y, x of lengths \(5, 2, 12, 10\), not channels, height and"
    ):
        read_image(path, channels="cell_painting")


@pytest.mark.parametrize("write", [write_ome_tiff, write_zarr])
def test_channels_in_another_order_are_refused_with_both_orders(tmp_path: Path, write):
    path = write(tmp_path / "a.zarr", random_pixels(), STAINS[::-1])
    message = "in another order: the file says Mito, AGP, RNA, ER, DNA; given was DNA, ER, RNA, AGP, Mito; name them in"
    with pytest.raises(DataError, match=message):
        read_image(path, channels="cell_painting")
    assert read_image(path, channels="Mito,AGP,RNA,ER,DNA").shape == (5, 12, 10)
    assert read_image(path, channels="cell_painting", check_names=False).shape == (5, 12, 10)


@pytest.mark.parametrize("write", [write_ome_tiff, write_zarr])
def test_a_folder_of_them_is_a_data_set_that_names_its_channels(tmp_path: Path, write):
    root, made = tmp_path / "cells", []
    suffix = "zarr" if write is write_zarr else "ome.tiff"
    for number in range(6):
        made.append(random_pixels())
        write(root / "ab"[number % 2] / f"{number}.{suffix}", made[-1])
    for _ in range(2):  # written to the cache, then read from it
        data = load_dataset(root)
        assert data.channels.names == STAINS
        images = {p: i for s in (data.train, data.val, data.test) for p, i in zip(s.paths, s.images, strict=True)}
        assert len(images) == 6
        for number, pixels in enumerate(made):
            np.testing.assert_array_equal(images[f"{'ab'[number % 2]}/{number}.{suffix}"], pixels)
    write(root / "a" / f"0.{suffix}", random_pixels("uint8"))
    with pytest.raises(
        DataError, match=r"it holds uint\d+ values, but .* holds uint\d+; bring all files to one number"
    ):
        load_dataset(root)


def damage_metadata(path: Path) -> None:
    (path / ".zattrs").unlink()


def damage_pixels(path: Path) -> None:
    next(file for file in (path / "s0").rglob("0") if file.is_file()).write_bytes(b"no chunk")


def remove_chunks(path: Path) -> None:
    for file in list((path / "s0").iterdir()):
        if file.is_dir():
            shutil.rmtree(file)


def two_images(path: Path) -> None:
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"] *= 2
    (path / ".zattrs").write_text(json.dumps(attributes))


def replace_metadata(text: str):
    return lambda path: (path / ".zattrs").write_text(text)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (replace_metadata("{"), r"its \.zattrs is damaged \(Expecting property name"),
        (replace_metadata("[]"), r"its \.zattrs is damaged \(its multiscales are no list of data sets\); replace"),
        (replace_metadata('{"multiscales": [{}]}'), r"its \.zattrs is damaged \(its multiscales are no list"),
        (damage_metadata, "it is no OME-Zarr image: its folder has no 'multiscales' metadata; give the image's own"),
        (damage_pixels, "it is truncated or damaged"),
        (remove_chunks, "none of its chunks is there, so that it would be blank; replace or remove it"),
        (two_images, "it holds 2 images; keep the one that you want"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, harm, message: str):
    path = write_zarr(tmp_path / "a.zarr", random_pixels())
    harm(path)
    with pytest.raises(DataError, match=message):
        read_image(path, channels="cell_painting")


def test_an_ome_tiff_that_is_spread_over_files_is_refused(tmp_path: Path):
    path = write_ome_tiff(tmp_path / "a.ome.tif", random_pixels())
    with tifffile.TiffFile(path) as tiff:
        text = tiff.ome_metadata
    one = '<UUID FileName="a.ome.tif">urn:uuid:1</UUID>'
    other = one.replace("a.ome", "b.ome")
    planes = "".join(
        f'<TiffData FirstC="{c}" IFD="{c}" PlaneCount="1">{one if c < 3 else other}</TiffData>' for c in range(5)
    )
    start, end = text.index("<TiffData"), text.index("</Pixels>")
    tifffile.imwrite(
        path,
        random_pixels(),
        photometric="minisblack",
        description=text[:start] + planes + text[end:],
        metadata=None,
    )
    with pytest.raises(DataError, match="its image is spread over 2 files; save it as one file"):
        read_image(path, channels="cell_painting")


def test_without_zarr_the_extra_is_named(tmp_path: Path, monkeypatch):
    path = write_zarr(tmp_path / "a.zarr", random_pixels())
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"an OME-Zarr image needs .*zarr.*; pip install 'anychannel\[ome\]'"):
        read_image(path, channels="cell_painting")
