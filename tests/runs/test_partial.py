"""A run on TIFFs of which each holds some of the channels: from the folder to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from anychannel.cli import app
from anychannel.data import Split, load_dataset
from anychannel.evaluation import evaluate, load_evaluation
from anychannel.models import load_model
from anychannel.report import write_report
from anychannel.report.tables import subset_gap_table
from anychannel.results.run import load_runs
from anychannel.runs import RunConfig, train_run
from anychannel.runs.dedicated import compare_dedicated
from anychannel.serve.service import Service
from anychannel.sweeps.objective import value_of
from anychannel.utils.checksums import dump_signed, find_checksums, load_signed
from tests.helpers.image_files import write_image

CHANNELS = ("R", "G", "NIR")
HELD = {"whole": "R,G,NIR", "colour": "G,R", "night": "NIR"}
COUNTS = {"train": 8, "val": 3, "test": 4}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """Lists of tiles that are bright on the left or on the right; in ``test`` half as many are whole."""
    root, random = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0)
    for split, count in COUNTS.items():
        lines = []
        for kind, channels in HELD.items():
            for i in range(2 * count if (split, kind) != ("test", "whole") else count):
                pixels = random.integers(0, 2000, (channels.count(",") + 1, 12, 12))
                pixels[:, :, 6 * (i % 2) : 6 * (i % 2) + 6] += 2000
                path = write_image(root / kind / f"{split}_{i}.tif", pixels.astype(np.uint16))
                lines.append(f"{kind}/{path.name} {i % 2}" + f" {channels}" * (kind == "colour"))
        (root / f"{split}.txt").write_text("\n".join(lines))
    (root / "channels.csv").write_text("path,channels\nnight,NIR\n")
    (root / "classes.txt").write_text("left\nright\n")
    return root


def configure(tiles: Path, **values) -> RunConfig:
    training = {"epochs": 2, "batch_size": 16, "device": "cpu", "sampler": "split", "flip": False, "jitter": 0.1}
    common = {"data": str(tiles), "channels": CHANNELS, "model": "compact_k7", "model_options": {"width": 16}}
    return RunConfig.from_dict(common | {"stem": "completion", "training": training} | values)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(tiles, cache, tmp_path_factory) -> Path:
    return train_run(configure(tiles), tmp_path_factory.mktemp("runs") / "tiles", cache_dir=cache, cost=False)


def test_each_subset_is_measured_on_the_images_that_have_it(run):
    record = json.loads((run / "run.json").read_text())
    assert record["patterns"]["test"] == {"R,G,NIR": 4, "R,G": 8, "NIR": 8}
    found = json.loads((run / "evaluation" / "test.json").read_text())
    assert found["n"] == 20
    counts = {"R,G,NIR": 4, "R,G": 12, "R,NIR": 4, "G,NIR": 4, "R": 12, "G": 12, "NIR": 12}
    assert {key: figures["n"] for key, figures in found["subsets"].items()} == counts
    assert "4 of 20 images have every channel." in found["note"]


def test_what_stands_in_the_caches_absent_planes_changes_no_bit_of_a_run(run, tiles, cache, tmp_path):
    """The cache's files are overwritten where images lack channels; weights, figures and examples stay the same."""
    data = load_dataset(tiles, channels=CHANNELS, cache_dir=cache)
    for split in (data.train, data.val, data.test):
        pixels = np.load(split.images.filename, mmap_mode="r+")
        pixels[~split.present] = 65535
        pixels.flush()
    for index in cache.glob("images/*/index.json"):
        values = load_signed(index.read_text())
        sums = {name: find_checksums(index.parent / name) for name in values["checksums"]}
        index.write_text(dump_signed(values | {"checksums": sums}))
    again = load_dataset(tiles, channels=CHANNELS, cache_dir=cache)
    assert (np.asarray(again.train.images)[~again.train.present] == 65535).all()
    home = train_run(configure(tiles), tmp_path / "again", cache_dir=cache, cost=False)
    for name in ("best", "last"):
        first, second = ((folder / "weights" / f"{name}.safetensors").read_bytes() for folder in (run, home))
        assert first == second
    for name in ("evaluation/test.json", "evaluation/test_predictions.npz", "examples.json", "model.json"):
        assert (run / name).read_bytes() == (home / name).read_bytes()


def test_examples_show_the_channels_that_there_are(run, tiles, cache):
    for image in json.loads((run / "examples.json").read_text())["images"]:
        held = set(HELD[image["path"].split("/")[0]].split(","))
        assert set(image["png"]) == held
        assert all(set(key.split(",")) <= held for key in image["predictions"])
    service = Service(run)
    assert not service.examples.reason
    for example in service.examples.images:
        image = service.images.get(example.id).input
        stored = HELD[image.name.split("/")[0]].split(",")
        assert image.channels == tuple(name for name in CHANNELS if name in stored)
        planes = tifffile.imread(tiles / image.name).reshape(-1, 12, 12)
        np.testing.assert_array_equal(image.pixels, planes[[stored.index(name) for name in image.channels]])


def test_the_report_and_the_commands_say_on_how_many_images_a_figure_rests(run, cache, tmp_path):
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "4 of 20 images have every channel." in page
    assert "for the 4 to 12 of 20 test images that have a subset&#39;s channels" in page.replace("'", "&#39;")
    assert "Images lack channels, so that accuracies on different subsets rest on different images" in page
    gaps = json.loads((run / "evaluation" / "test.json").read_text())["gap"]
    found = load_runs([run])[0].test
    assert found.gap == gaps
    rows = subset_gap_table(load_runs([run]), list(found.subsets)).rows
    assert [cell.text for cell in rows[0]] == [f"{100 * gaps[key]['accuracy']:+.1f}".replace("-", "−") for key in gaps]
    shown = CliRunner().invoke(
        app, ["evaluate", str(run), "--channels", "R,G", "--channels", "NIR", "--cache", str(cache)]
    )
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.output.splitlines() if line.split()[:1] in (["R,G"], ["NIR"])]
    assert [line[-1] for line in lines] == ["12", "12"]


def test_dedicated_networks_train_and_compare_on_the_images_that_have_their_channels(run, cache, tmp_path):
    result = compare_dedicated([run], tmp_path, budgets=("total",), subsets=["R,G", "NIR"], cache_dir=cache)
    assert [(row["subset"], row["n"]) for row in result["budgets"]["total"]["rows"]] == [("R,G", 12), ("NIR", 12)]
    homes = sorted(path.parent for path in tmp_path.glob("*/run.json"))
    assert [json.loads((home / "run.json").read_text())["num_train"] for home in homes] == [32, 32]
    assert all(load_evaluation(home).present is None for home in homes)


def test_a_network_for_one_channel_set_is_refused_before_anything_is_written(tiles, cache, tmp_path):
    with pytest.raises(ValueError, match=r"32 of 48 images lack channels \(the first is colour/train_0.tif\), but the"):
        train_run(configure(tiles, stem="masked"), tmp_path / "masked", cache_dir=cache)
    assert not (tmp_path / "masked").exists()


def test_model_cards_and_sweeps_count_what_images_have(run, tiles, cache, tmp_path):
    """Without the whole images no image has R and NIR together."""
    val = load_dataset(tiles, channels=CHANNELS, cache_dir=cache).val
    rows = np.flatnonzero(~val.present.all(axis=1))
    lacking = Split(val.images[rows], val.labels[rows], tuple(val.paths[row] for row in rows), val.present[rows])
    model = load_model(run)
    found = evaluate(model, lacking, split="val")
    found.save(tmp_path)
    answered = [figures["accuracy"] for figures in found.subsets.values() if "accuracy" in figures]
    assert len(answered) == 4
    assert value_of("mean_subset_accuracy", tmp_path) == pytest.approx(np.mean(answered))
    card = str(model.generate_model_card(evaluation=found.to_dict()))
    assert "| R,NIR | no image | | | |" in card
    assert f"| R,G | {100 * found.subsets['R,G']['accuracy']:.1f} % of 6 images |" in card
