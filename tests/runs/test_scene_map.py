"""Maps of scenes: what is where, compared with one window after the other; memory, no data, bands, interruption."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer, from_origin
from typer.testing import CliRunner

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet, as_channel_set
from anychannel.cli import app
from anychannel.data import DataError
from anychannel.data.content import BandFiles
from anychannel.runs.predict import Predictor
from anychannel.runs.scene import Scene, fill_median
from anychannel.runs.scene_map import Cells, map_scene
from tests.helpers.band_scenes import write_band

NAMES = ("B02", "B05", "B09")
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}
PATTERN = "{scene}_{band}.jp2"
CLASSES = ("field", "forest", "water")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A model whose answers differ from window to window. It knows no size of images."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    bands = as_channel_set("sentinel2:B02,B05,B09")
    channels = ChannelSet(
        bands.names, mean=(500.0,) * 3, std=(300.0,) * 3, wavelengths_nm=bands.wavelengths_nm, kinds=bands.kinds
    )
    options = {"model_options": {"width": 16}, "num_classes": 3, "classes": CLASSES}
    model = ac.create_model("compact_k7", channels=channels, **options).eval()
    places = draw(96, 96).astype(np.float32)
    tiles = np.stack([places[:, i : i + 24, i : i + 24] for i in range(0, 72, 8)])
    with torch.no_grad():
        head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        answers = model(torch.from_numpy(tiles), channels=NAMES)
        head.bias -= answers.mean(dim=0)
        factor = 2 / answers.std(dim=0).mean()
        head.weight *= factor
        head.bias *= factor
    ac.save_model(model, folder)
    return folder


def draw(height: int, width: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Pixels whose brightness changes over the scene."""
    random = np.random.default_rng(seed)
    slope = np.linspace(0, 900, height)[:, None] + np.linspace(0, 400, width)
    slopes = slope * np.arange(1, bands + 1)[:, None, None] / bands
    return (random.integers(0, 300, (bands, height, width)) + slopes).astype(np.uint16)


def write_scene(path: Path, pixels: np.ndarray, names: tuple[str, ...] = (), **options: object) -> Path:
    count, height, width = pixels.shape
    place = {"crs": "EPSG:32632", "transform": from_origin(5e5, 6e6, 10, 10)} | options
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(pixels)
        if names:
            file.descriptions = names
    return path


def read_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Classes and confidences."""
    with rasterio.open(path) as file:
        return file.read(1), file.read(2) * file.scales[1]


def one_by_one(
    home: Path, pixels: np.ndarray, missing: np.ndarray, window: int, stride: int, *, fill: bool = True
) -> tuple[np.ndarray, ...]:
    """The map from single predictions, each cell's mean taken at once: the slow twin.

    Pixels that are no data are the median of the window's others in their band, or stay as they are without ``fill``.
    """
    predictor, (_, height, width) = Predictor(home), pixels.shape
    sides = []
    for side in (height, width):
        first = list(range(0, side - window + 1, stride))
        sides.append(first + [side - window] * (first[-1] + window < side))
    shares = {}
    for row in sides[0]:
        for column in sides[1]:
            part = (slice(None), slice(row, row + window), slice(column, column + window))
            held = [band for band in range(3) if not missing[part][band].all()]
            if held:
                tile = pixels[part][held]
                for plane, gone in zip(tile, missing[part][held], strict=True):
                    if fill:
                        plane[gone] = np.quantile(plane[~gone], 0.5, method="inverted_cdf")
                image = predictor.open(tile, [NAMES[band] for band in held])
                shares[row, column] = predictor.predict(image).probabilities.numpy()
    found = np.zeros((2, -(-height // stride), -(-width // stride)))
    for i, j in np.ndindex(found.shape[1:]):
        ends = min((i + 1) * stride, height), min((j + 1) * stride, width)
        y, x = (i * stride + ends[0]) / 2, (j * stride + ends[1]) / 2
        over = [p for (row, column), p in shares.items() if row <= y < row + window and column <= x < column + window]
        if over and not missing[:, i * stride : ends[0], j * stride : ends[1]].all():
            mean = np.mean(over, axis=0)
            found[:, i, j] = mean.argmax() + 1, mean.max()
    return found[0], found[1]


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (16, 16), (25, 7)])
def test_a_map_is_the_mean_over_windows_at_its_place_on_earth(home: Path, tmp_path: Path, window: int, stride: int):
    pixels = draw(54, 75)
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES)
    found = map_scene(home, scene, tmp_path / "map.tif", window=window, stride=stride)
    classes, confidence = one_by_one(home, pixels, np.zeros(pixels.shape, bool), window, stride)
    numbers, shares = read_map(tmp_path / "map.tif")
    assert np.array_equal(numbers, classes)
    assert np.allclose(shares, confidence, atol=1e-4)
    assert len(np.unique(numbers)) > 1
    assert found.cells == {name: int((classes == k).sum()) for k, name in enumerate(CLASSES, start=1)}
    assert found.confidence == pytest.approx(confidence.mean(), abs=1e-4)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs == rasterio.CRS.from_epsg(32632)
        assert file.transform == from_origin(5e5, 6e6, 10 * stride, 10 * stride)
        assert file.descriptions == ("class", "confidence")
        assert [file.tags(1)[f"CLASS_{k}"] for k in (1, 2, 3)] == list(CLASSES)
        assert file.tags()["CHANNELS"] == "B02,B05,B09"
        colours = file.colormap(1)
        assert len({colours[k] for k in range(4)}) == 4
        assert colours[0][3] == 0
        assert file.nodata == 0
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.height > 400
        drawn = {colour for _, colour in picture.convert("RGB").getcolors(2**20)}
    assert {colours[k][:3] for k in np.unique(numbers).tolist()} <= drawn  # in the legend


def test_ground_control_points_and_rational_polynomials_are_carried_to_the_map(home: Path, tmp_path: Path):
    pixels = draw(54, 75)
    corners = [(0, 0), (0, 75), (54, 0), (54, 75)]
    points = [
        GroundControlPoint(row, column, 10 + column / 1000, 50 - row / 1000, z=column, id=f"{row}-{column}")
        for row, column in corners
    ]
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES, transform=None, gcps=points, crs="EPSG:4326")
    map_scene(home, scene, tmp_path / "map.tif", window=16, stride=8)
    with rasterio.open(tmp_path / "map.tif") as file:
        found, system = file.gcps
    assert system == rasterio.CRS.from_epsg(4326)
    assert [(point.row * 8, point.col * 8, point.x, point.y, point.z) for point in found] == [
        (point.row, point.col, point.x, point.y, point.z) for point in points
    ]

    one, south, east = ([value, *values, *[0.0] * 16] for value, *values in ((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0)))
    camera = RPC(100, 500, 50, 0.1, one, south, 26.5, 27, 10, 0.2, one, east, 37, 37.5, 0, 0)
    scene = write_scene(tmp_path / "camera.tif", pixels, NAMES, transform=None, crs=None, rpcs=camera)
    map_scene(home, scene, tmp_path / "map.tif", window=16, stride=8)
    place = (10.02, 50.03, 120.0)
    with rasterio.open(scene) as before, rasterio.open(tmp_path / "map.tif") as after:
        places = []
        for file in (before, after):
            with RPCTransformer(file.rpcs) as ground:
                places.append(np.array(ground.rowcol(*([value] for value in place), op=np.array)).ravel())
    assert np.allclose(places[0] / 8, places[1], atol=1e-6)


def test_no_data_leaves_cells_empty_and_bands_missing(home: Path, tmp_path: Path):
    pixels = draw(64, 96)
    missing = np.zeros(pixels.shape, bool)
    missing[:, :, :40] = True  # beyond the swath
    missing[1, :32, 40:] = True  # one band of some windows
    pixels[missing] = 0
    pixels[~missing] += 1
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES, nodata=0)
    found = map_scene(home, scene, tmp_path / "map.tif", window=16, stride=8)
    classes, confidence = one_by_one(home, pixels, missing, 16, 8)
    numbers, shares = read_map(tmp_path / "map.tif")
    assert np.array_equal(numbers == 0, classes == 0)
    assert found.no_data == 5 * 8 == (numbers == 0).sum()
    assert np.array_equal(numbers, classes)
    assert np.allclose(shares, confidence, atol=2e-4)
    marked = write_scene(tmp_path / "unmarked.tif", pixels, NAMES)
    map_scene(home, marked, tmp_path / "other.tif", window=16, stride=8, nodata=0)
    assert np.array_equal(read_map(tmp_path / "other.tif")[0] == 0, numbers == 0)
    with pytest.raises(DataError, match="has no data in any window"):
        map_scene(home, write_scene(tmp_path / "e.tif", pixels * 0, NAMES, nodata=0), tmp_path / "n.tif", window=16)
    assert not (tmp_path / "n.tif").exists()


def swath(bands: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a scene with a slanting edge, and where they are no data: in one band farther than in the others."""
    pixels, across = draw(48, 64, bands), np.add.outer(np.arange(48), np.arange(64))
    return pixels, np.stack([across < 40 + 10 * (band == 1) for band in range(bands)])


@pytest.mark.parametrize(
    ("dtype", "value", "declared", "given"),
    [
        ("float32", -9999, -9999, None),
        ("float32", np.nan, np.nan, None),
        ("uint16", 65535, 65535, None),
        ("uint16", 65535, 65535, 0),  # the file's own declaration holds
        ("uint16", 65535, None, 65535),
        ("float32", -9999, None, -9999),
    ],
)
def test_no_value_of_no_data_reaches_the_network_at_the_edge_of_a_swath(
    home: Path, tmp_path: Path, dtype: str, value: float, declared: float | None, given: float | None
):
    pixels, missing = swath()
    pixels = pixels.astype(dtype)
    pixels[missing] = value
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES, nodata=declared)
    map_scene(home, scene, tmp_path / "map.tif", window=16, stride=8, nodata=given)
    classes, confidence = one_by_one(home, pixels, missing, 16, 8)
    numbers, shares = read_map(tmp_path / "map.tif")
    assert np.array_equal(numbers, classes)
    assert np.allclose(shares, confidence, atol=2e-4)


def test_pixels_that_a_mask_inside_the_file_hides_are_no_data(home: Path, tmp_path: Path):
    pixels, missing = swath()
    missing[1] = missing[0]
    pixels[missing] = 65535
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(scene, "r+") as file:
        file.write_mask(~missing[0])
    map_scene(home, scene, tmp_path / "map.tif", window=16, stride=8)
    classes, confidence = one_by_one(home, pixels, missing, 16, 8)
    numbers, shares = read_map(tmp_path / "map.tif")
    assert np.array_equal(numbers, classes)
    assert np.allclose(shares, confidence, atol=2e-4)


def test_no_data_are_what_they_were_in_training_if_it_had_some_and_stay_if_they_are_to_be_kept(
    home: Path, tmp_path: Path
):
    pixels, missing = swath()
    pixels[missing] = 2000
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES, nodata=2000)

    def compare(model: Path | Predictor, known: np.ndarray, **options: object) -> None:
        map_scene(model, scene, tmp_path / "map.tif", window=16, stride=8, **options)
        classes, confidence = one_by_one(home, known, missing, 16, 8, fill=False)
        numbers, shares = read_map(tmp_path / "map.tif")
        assert np.array_equal(numbers, classes)
        assert np.allclose(shares, confidence, atol=2e-4)

    compare(home, pixels, nodata="keep")
    trained = Predictor(home)
    trained.reader = replace(trained.reader, options={**trained.reader.options, "nodata": 7})
    compare(trained, np.where(missing, np.uint16(7), pixels))


def test_a_mask_band_of_a_scene_is_filled_with_one_of_its_values():
    pixels = np.array([[[0, 4, 4, 8, 9]]], np.uint8)
    missing = np.array([[[False, False, False, False, True]]])
    assert fill_median(pixels, missing, missing).tolist() == [[[0, 4, 4, 8, 4]]]
    assert fill_median(pixels[..., [0, 3]], missing[..., :2], ~missing[..., :2]).tolist() == [[[0, 0]]]
    assert fill_median(pixels, ~np.zeros_like(missing), missing).tolist() == [[[0, 4, 4, 8, 0]]]


def test_nan_that_a_float_scene_declares_as_no_data_is_none(home: Path, tmp_path: Path):
    pixels = draw(48, 48).astype(np.float32)
    pixels[:, :, 32:] = np.nan
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES, nodata=np.nan)
    map_scene(home, scene, tmp_path / "map.tif", window=16, stride=16)
    numbers, _ = read_map(tmp_path / "map.tif")
    assert (numbers[:, 2] == 0).all()
    assert (numbers[:, :2] > 0).all()
    with pytest.raises(DataError, match="it holds NaN or infinite values; replace them, or give nodata=NUMBER"):
        map_scene(home, write_scene(tmp_path / "n.tif", pixels, NAMES), tmp_path / "n_map.tif", window=16)


def test_bands_are_found_by_name_and_may_be_missing(home: Path, tmp_path: Path):
    pixels = draw(32, 32)
    whole = write_scene(tmp_path / "whole.tif", pixels, NAMES)
    expected = map_scene(home, whole, tmp_path / "whole_map.tif", window=16, drop="B05")
    assert expected.channels == ("B02", "B09")
    more = write_scene(tmp_path / "more.tif", np.stack([pixels[2], pixels[1], pixels[0]]), ("B09", "VV", "blue"))
    assert map_scene(home, more, tmp_path / "more_map.tif", window=16).channels == ("B02", "B09")
    for options in ({"channels": "B09,-,B02"}, {}):
        map_scene(home, more, tmp_path / "more_map.tif", window=16, **options)
        for ours, theirs in zip(read_map(tmp_path / "more_map.tif"), read_map(tmp_path / "whole_map.tif"), strict=True):
            assert np.array_equal(ours, theirs)
    unnamed = write_scene(tmp_path / "unnamed.tif", pixels[:2])
    with pytest.raises(
        DataError,
        match="has 2 bands, and none is named as one of the channels B02, B05, B09; give channels=NAMES with all",
    ):
        map_scene(home, unnamed, tmp_path / "m.tif", window=16)
    with pytest.raises(DataError, match="has 2 bands, but 3 channels are named"):
        map_scene(home, unnamed, tmp_path / "m.tif", window=16, channels="B02,B05,B09")
    assert map_scene(home, unnamed, tmp_path / "m.tif", window=16, channels="B02,B05").channels == ("B02", "B05")
    turned = write_scene(tmp_path / "turned.tif", pixels, ("B09", "B05", "B02"))
    with pytest.raises(DataError, match="its channels are in another order: the file says B09"):
        map_scene(home, turned, tmp_path / "m.tif", window=16, channels="B02,B05,B09")
    with pytest.raises(ChannelError, match="does not hold B05, which the network should get"):
        map_scene(home, more, tmp_path / "m.tif", window=16, use="B02,B05")


def test_bands_of_several_resolutions_in_files_of_their_own_make_one_map(home: Path, tmp_path: Path):
    random = np.random.default_rng(0)
    planes = {"B02": (96, 10), "B05": (48, 20), "B09": (16, 60)}
    files = {}
    for band, (side, metres) in planes.items():
        plane = (random.integers(0, 300, (side, side)) + np.linspace(0, 1500, side)[:, None]).astype(np.uint16)
        planes[band] = (plane, metres)
        files[band] = write_band(tmp_path / "scene" / f"t_{band}.jp2", plane, metres)
    found = map_scene(home, tmp_path / "scene", tmp_path / "map.tif", window=24, stride=24, bands=PATTERN)
    assert found.channels == NAMES
    numbers, shares = read_map(tmp_path / "map.tif")
    predictor = Predictor(home)
    for i, j in np.ndindex(4, 4):
        tile = {}
        for band, (plane, metres) in planes.items():
            side = 240 // metres
            part = plane[i * side : (i + 1) * side, j * side : (j + 1) * side]
            tile[band] = write_band(tmp_path / "tile" / f"{i}{j}_{band}.jp2", part.copy(), metres)
        answer = predictor.predict(predictor.open(BandFiles(tile), name="tile")).probabilities
        assert numbers[i, j] == int(answer.argmax()) + 1
        assert shares[i, j] == pytest.approx(float(answer.max()), abs=2e-4)
    with pytest.raises(ValueError, match="give a window and a stride that are multiples of 6, got 16 and 8"):
        map_scene(home, tmp_path / "scene", tmp_path / "m.tif", window=16, stride=8, bands=PATTERN)
    write_band(tmp_path / "scene" / "t_B05.jp2", planes["B05"][0], 20, corner=(6e5, 6e6))
    with pytest.raises(DataError, match="its band B05 shows another area"):
        map_scene(home, tmp_path / "scene", tmp_path / "m.tif", window=24, bands=PATTERN)


def test_memory_does_not_grow_with_the_scene(home: Path, tmp_path: Path, monkeypatch):
    reads, rows, peaks = [], [], []
    read, add = Scene.read, Cells.add

    def note(scene, row, column, height, width):
        reads[-1].append((row, height * width))
        return read(scene, row, column, height, width)

    def count(cells, *arguments):
        add(cells, *arguments)
        rows[-1].append(len(cells.open))

    monkeypatch.setattr(Scene, "read", note)
    monkeypatch.setattr(Cells, "add", count)
    predictor = Predictor(home)
    for height in (64, 256, 1024):
        scene = write_scene(tmp_path / f"{height}.tif", draw(height, 64), NAMES, **TILES)
        reads.append([])
        rows.append([])
        tracemalloc.start()
        map_scene(predictor, scene, tmp_path / "map.tif", window=32, stride=16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [row for row, _ in reads[-1]] == list(range(0, height - 31, 16))  # each row of windows once
    assert {max(size for _, size in found) for found in reads} == {32 * 64}
    assert max(map(max, rows)) <= 3
    assert peaks[2] < 1.3 * peaks[1] + 2**18


def test_a_scene_beyond_the_limit_on_images_is_mapped_and_its_blocks_are_under_the_limit(
    home: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", "1000000")
    vast = {"driver": "GTiff", "width": 6000, "height": 6000, "count": 3, "dtype": "uint16", "nodata": 0}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band", "SPARSE_OK": "TRUE"}
    for name, blocks in (("tiles", tiles), ("strip", {"blockysize": 6000, "compress": "deflate", "SPARSE_OK": "TRUE"})):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", **vast, **blocks, crs="EPSG:32632", transform=from_origin(5e5, 6e6, 10, 10)
        ) as file:
            if name == "tiles":
                file.write(draw(256, 256) + 1, window=((512, 768), (512, 768)))
    with pytest.raises(DataError, match="more than the limit of 1,000,000"):
        Predictor(home).open(tmp_path / "tiles.tif")
    found = map_scene(home, tmp_path / "tiles.tif", tmp_path / "map.tif", window=250, stride=250)
    assert found.windows == 4
    assert sum(found.cells.values()) == 4
    assert found.no_data == 24 * 24 - 4
    with pytest.raises(DataError, match="it is stored in blocks of 108,000,000 values, more than the limit"):
        map_scene(home, tmp_path / "strip.tif", tmp_path / "m.tif", window=250, channels="B02,B05,B09")


def test_an_interrupted_map_leaves_nothing_and_an_earlier_one_as_it_was(home: Path, tmp_path: Path, monkeypatch):
    scene = write_scene(tmp_path / "scene.tif", draw(64, 64), NAMES)
    out = tmp_path / "maps" / "map.tif"
    read, done = Scene.read, []

    def stop(self, row, *arguments):
        done.append(row)
        if row > 16:
            raise KeyboardInterrupt
        return read(self, row, *arguments)

    command = ["predict", str(home), str(scene), "--window", "16", "--stride", "8", "--out", str(out), "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(Scene, "read", stop)
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 130
    assert done == [0, 8, 16, 24]
    assert list(out.parent.iterdir()) == []
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cells"].keys() == set(CLASSES)
    assert sorted(file.name for file in out.parent.iterdir()) == ["map.png", "map.tif"]
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Scene, "read", stop)
        CliRunner().invoke(app, command)
    assert out.read_bytes() == before
    result = CliRunner().invoke(app, command)
    assert "map.tif: 8 x 8 cells;" in result.output
    assert "49 windows" in result.output


def test_what_is_no_scene_or_no_map_is_refused_by_name(home: Path, tmp_path: Path):
    scene = write_scene(tmp_path / "scene.tif", draw(32, 40), NAMES)
    wrong = {
        "fits": ({"window": 33}, "a window of 33 pixels does not fit into .*scene.tif, which has 32 x 40"),
        "gaps": (
            {"window": 16, "stride": 17},
            "stride is the distance of windows in pixels, from 1 to the window's 16, got 17",
        ),
        "nothing": ({"window": 0}, "window is the side of the windows in pixels, at least 1, got 0"),
        "unknown size": ({}, "the model does not say the size of its training images; give the side of a window"),
    }
    for options, message in wrong.values():
        with pytest.raises(ValueError, match=message):
            map_scene(home, scene, tmp_path / "map.tif", **options)
    with pytest.raises(ValueError, match=r"the map of a scene is a \.tif, got 'map\.png'"):
        map_scene(home, scene, tmp_path / "map.png", window=16)
    with pytest.raises(ValueError, match=r"scene\.tif is the scene itself"):
        map_scene(home, scene, scene, window=16)
    virtual = '<VRTDataset rasterXSize="32" rasterYSize="32"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    virtual += f"<SourceFilename>{scene}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    (tmp_path / "virtual.tif").write_text(virtual)
    (tmp_path / "cut.tif").write_bytes(scene.read_bytes()[:200])
    for name in ("virtual.tif", "cut.tif"):
        with pytest.raises(DataError, match=f"{name}: it is (truncated or damaged|neither a TIFF nor a JPEG 2000)"):
            map_scene(home, tmp_path / name, tmp_path / "map.tif", window=16, channels="B02,B05,B09")
    Image.fromarray(np.zeros((32, 32), np.uint8)).convert("P").save(tmp_path / "palette.tif")
    with pytest.raises(DataError, match=r"palette\.tif: its bands are declared as palette"):
        map_scene(home, tmp_path / "palette.tif", tmp_path / "map.tif", window=16, channels="B02")
    with pytest.raises(FileNotFoundError):
        map_scene(home, tmp_path / "none.tif", tmp_path / "map.tif", window=16)
    result = CliRunner().invoke(app, ["predict", str(home), str(scene), str(scene), "--window", "16", "--out", "m.tif"])
    assert result.exit_code == 2
    assert "windows make a map of one scene; name one scene" in result.output
    assert not list(tmp_path.glob("map.*"))


def test_windows_are_brought_to_the_size_of_the_training_images(home: Path, tmp_path: Path):
    pixels = draw(40, 60)
    scene = write_scene(tmp_path / "scene.tif", pixels, NAMES)
    predictor = Predictor(home)
    predictor.reader = type(predictor.reader)(predictor.channels, (16, 16), True)
    map_scene(predictor, scene, tmp_path / "map.tif", window=20, stride=20)
    numbers, shares = read_map(tmp_path / "map.tif")
    answer = predictor.predict(predictor.open(pixels[:, 20:40, 40:60], NAMES)).probabilities
    assert (numbers[1, 2], shares[1, 2]) == (int(answer.argmax()) + 1, pytest.approx(float(answer.max()), abs=1e-4))
    assert map_scene(predictor, scene, tmp_path / "map.tif").height == 5  # windows of 16, each 8 pixels
