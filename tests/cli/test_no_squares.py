"""A run on images that are no squares: every figure and file speaks of their height and width."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from anychannel.cli import app
from anychannel.cost.flops import count_flops
from anychannel.export import open_export
from anychannel.models import load_model
from anychannel.runs import RunConfig, train_run
from tests.helpers.image_files import write_class_folders

HEIGHT, WIDTH = 12, 20


def anychannel(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("wide")
    random = np.random.default_rng(0)
    counts = {"train": 8, "val": 2, "test": 2}
    photos = write_class_folders(
        root / "photos", counts, "ab", lambda _: random.integers(0, 256, (3, HEIGHT, WIDTH), np.uint8)
    )
    values = {
        "data": str(photos),
        "channels": ["R", "G", "B"],
        "model": "compact_k7",
        "model_options": {"width": 16},
        "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "fp32", "crop_padding": 1},
    }
    return train_run(RunConfig.from_dict(values), root / "run")


def test_its_cost_is_that_of_its_height_and_width(run):
    assert json.loads((run / "run.json").read_text())["image_size"] == [HEIGHT, WIDTH]
    cost = json.loads((run / "cost.json").read_text())
    assert cost["image_size"] == [HEIGHT, WIDTH]
    assert cost["peak_memory_mb"] > 0
    expected = count_flops(load_model(run), batch_size=8, image_size=(HEIGHT, WIDTH))["gflops_calflops"]
    assert cost["subsets"]["R,G,B"]["gflops_calflops"] == expected
    shown = anychannel("profile", run, "--no-memory")
    assert f"batch 8, {HEIGHT} x {WIDTH} pixels" in shown.stdout
    other = json.loads(anychannel("profile", run, "--size", "20x12", "--no-memory", "--json").stdout)
    assert other["image_size"] == [20, 12]


def test_it_is_exported_at_its_height_and_width(run, tmp_path):
    anychannel("export", run, "--out", tmp_path / "x.pt2", "--fixed-size", "--check")
    assert open_export(tmp_path / "x.pt2")[0]["fixed_size"] == [HEIGHT, WIDTH]
    anychannel("export", run, "--format", "hub", "--out", tmp_path / "hub", "--check")
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert f"torch.zeros(1, 2, {HEIGHT}, {WIDTH})" in card
    assert f"at {HEIGHT} x {WIDTH} pixels" in card
    refused = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "y.pt2"), "--size", "12*20"])
    assert refused.exit_code == 2
    assert "a size is written 84, or 48x64 for a height of 48 and a width of 64, got '12*20'" in refused.stderr


def test_the_report_says_its_height_and_width(run, tmp_path):
    anychannel("report", run, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{HEIGHT} × {WIDTH} pixels" in page
    assert f"{HEIGHT} × {WIDTH} px" in page
