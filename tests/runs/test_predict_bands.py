"""A run trained on bands in separate files, and its predictions of scenes, whole ones and such that lack a band."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import anychannel as ac
from anychannel.cli import app
from anychannel.data import DataError, load_dataset
from anychannel.data.image_paths import find_images
from anychannel.data.unlabelled import read_folder
from anychannel.runs.predict import Predictor
from tests.helpers.band_scenes import draw_scene, write_band, write_scenes

USUAL = "{scene}_{band}.tif"
CHANNELS = "B02,B05,B09,SCL"


def run(*arguments, **options):
    result = CliRunner().invoke(app, [*map(str, arguments)], **options)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module", params=[None, 16])
def trained(request, tmp_path_factory):
    """A run and its data; images keep the size of their finest band, or are brought to 16 pixels."""
    root = tmp_path_factory.mktemp("bands")
    write_scenes(root / "scenes", "{cls}/{scene}_{band}.tif", per_class=5)
    (root / "scenes/field/field-0_B02.tif").unlink()
    size = ["--size", request.param] if request.param else []
    model = ["--model", "compact_k7", "--model-option", "width=16", "--epochs", 2, "--batch-size", 4, "--no-cost"]
    data = ["--data", root / "scenes", "--bands", USUAL, "--channels", f"sentinel2:{CHANNELS[:-4]}"]
    if request.param is None:
        data[-1] = CHANNELS
    run("train", *data, *size, *model, "--out", root / "run", "--cache", root / "cache", "--quiet", "--device", "cpu")
    return root


def test_a_prediction_sees_what_training_saw_on_every_scene(trained: Path):
    home = trained / "run"
    found = ac.predict(home, trained / "scenes")
    shares = dict(zip(found.paths, found.probabilities, strict=True))
    assert len(shares) == 10
    predictor = Predictor(home)
    size = 16 if predictor.reader.size_was_set else None
    names = predictor.channels.names
    data = load_dataset(trained / "scenes", bands=USUAL, channels=names, size=size, cache_dir=trained / "cache")
    for split in (data.train, data.val, data.test):
        for i, path in enumerate(split.paths):
            has = np.ones(len(names), bool) if split.present is None else split.present[i]
            pixels = torch.from_numpy(np.asarray(split.images[i])[has][None].astype(np.float32))
            held = [name for name, here in zip(names, has, strict=True) if here]
            with torch.no_grad():
                expected = predictor.network(pixels, channels=held).softmax(1)[0].numpy()
            assert np.allclose(shares[str(trained / "scenes" / path)], expected, atol=1e-4), path
    assert found.channels[-1] == names
    lacking = found.channels[found.paths.index(str(trained / "scenes/field/field-0"))]
    assert "B02" not in lacking
    assert "B05" in lacking


def test_scenes_are_named_by_folder_name_file_pattern_and_list(trained: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(trained)
    everything = [f"scenes/{cls}/{cls}-{i}" for cls in ("field", "forest") for i in range(5)]

    def paths(*named):
        return [image.path for image in find_images(named, USUAL)]

    assert paths("scenes") == everything
    assert paths("scenes/field/field-3", "scenes/forest/forest-1_B05.tif") == [everything[3], everything[6]]
    assert paths("scenes/forest/*_B02.tif") == paths("scenes/forest/*.tif") == everything[5:]
    (trained / "scenes" / "some.txt").write_text("field/field-2\nforest/forest-4_SCL.tif\n")
    assert paths("scenes/some.txt") == [everything[2], everything[9]]
    assert [sorted(image.files.files) for image in find_images("scenes/field/field-0", USUAL)] == [
        ["B05", "B09", "SCL"]
    ]
    assert paths("scenes/none", everything[0]) == ["scenes/none", everything[0]]
    with pytest.raises(FileNotFoundError):
        paths("scenes/none")
    with pytest.raises(DataError, match=r"no file in scenes fits bands='{scene}-x-{band}'; it holds field/field-0_B05"):
        find_images("scenes", "{scene}-x-{band}")
    (tmp_path / "one").mkdir()
    for band, plane in draw_scene(0).items():
        write_band(tmp_path / "one" / f"{band}.tif", plane)
        write_band(tmp_path / "two" / band / "s.tif", plane)
    (image,) = find_images(tmp_path / "one", "{scene}/{band}.tif")
    assert image.path == str(tmp_path / "one")
    for named in (tmp_path / "two", tmp_path / "two/s", tmp_path / "two/B02/s.tif"):
        (image,) = find_images(named, "{band}/{scene}.tif")
        assert (image.path, len(image.files.files)) == (str(tmp_path / "two/s"), 4)


def test_the_command_answers_scenes_and_says_what_is_wrong_with_others(trained: Path, tmp_path: Path):
    home, day = trained / "run", tmp_path / "day"
    shutil.copytree(trained / "scenes" / "forest", day)
    (day / "forest-1_B05.tif").write_bytes(b"no image")
    write_band(day / "odd_VV.tif", draw_scene(0)["B02"])
    result = CliRunner().invoke(app, ["predict", str(home), str(day), "--json", "--quiet"])
    assert result.exit_code == 1
    answers = {Path(answer["path"]).name: answer for answer in json.loads(result.stdout)}
    assert set(answers) == {"odd", *(f"forest-{i}" for i in range(5))}
    assert "its band 'B05' (forest-1_B05.tif): it is not an image in a known format" in answers["forest-1"]["error"]
    assert "its files are of the bands VV, and none is one of the channels" in answers["odd"]["error"]
    assert set(answers["forest-0"]["channels"]) >= {"B02", "B05", "B09"}
    result = run("predict", home, day / "forest-2", "--drop", "B02", "--json")
    assert "B02" not in json.loads(result.stdout)[0]["channels"]
    os.rename(day / "forest-3_B02.tif", day / "forest-3_blue.tif")
    result = run("predict", home, day / "forest-3", "--bands", USUAL, "--json")
    known = Predictor(home).channels.kinds[0] == "blue"
    assert ("B02" in json.loads(result.stdout)[0]["channels"]) == known
    result = CliRunner().invoke(app, ["predict", str(home), str(day), "--channels", "B02"])
    assert result.exit_code == 2
    assert "--channels names the channels of files" in result.output
    single = run("predict", home, day / "forest-2_B02.tif", "--bands", "none", "--channels", "B02", "--json")
    assert json.loads(single.stdout)[0]["channels"] == ["B02"]


def test_unlabelled_scenes_are_read_as_training_reads_them(trained: Path, tmp_path: Path):
    predictor = Predictor(trained / "run")
    size = 16 if predictor.reader.size_was_set else None
    shutil.copytree(trained / "scenes" / "forest", tmp_path / "new")
    images = read_folder(tmp_path / "new", predictor.reader, bands=USUAL)
    options = {"channels": predictor.channels.names, "size": size, "cache_dir": trained / "cache"}
    data = load_dataset(trained / "scenes", bands=USUAL, **options)
    known = {Path(path).name: np.asarray(data.train.images[i]) for i, path in enumerate(data.train.paths)}
    rows = [row for row in range(5) if f"forest-{row}" in known]
    assert len(rows) >= 3
    for row in rows:
        assert np.array_equal(images[row], known[f"forest-{row}"])
    (tmp_path / "new" / "forest-2_B05.tif").unlink()
    assert np.array_equal(read_folder(tmp_path / "new", predictor.reader, bands=USUAL), np.delete(images, 2, axis=0))
    for path in (tmp_path / "new").glob("*_B05.tif"):
        path.unlink()
    with pytest.raises(DataError, match=r"no image in .*new holds all channels of the network, B02, B05"):
        read_folder(tmp_path / "new", predictor.reader, bands=USUAL)


def test_a_run_is_evaluated_on_other_scenes_by_its_own_pattern(trained: Path, tmp_path: Path):
    write_scenes(tmp_path / "other", "{cls}/{scene}_{band}.tif", per_class=4)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    options = ["--data", tmp_path / "other", "--use", "B02,B05", "--json", "--cache", tmp_path / "cache"]
    result = run("evaluate", trained / "run", *options)
    assert json.loads(result.stdout)["subsets"]["B02,B05"]["n"] == 2
    record = json.loads((trained / "run" / "run.json").read_text())
    assert record["channels"][:3] == ["B02", "B05", "B09"]
