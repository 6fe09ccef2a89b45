"""A run on three sensors: training, evaluation, report and dedicated networks work on whole sensors, by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from anychannel.channels import ChannelSet
from anychannel.cli.app import app
from anychannel.evaluation import load_evaluation
from anychannel.models import load_model
from anychannel.report import write_report
from anychannel.results.run import RunError, load_runs, read_record
from anychannel.runs import RunConfig, evaluate_run, train_run
from anychannel.runs.config import ConfigError
from anychannel.runs.dedicated import compare_dedicated
from anychannel.runs.explain import explain
from anychannel.runs.predict import Predictor, predict_files
from tests.helpers.html_reader import read_html, table_rows

NAMES = ("R", "G", "B", "height", "b1", "b2", "b3", "b4")
GROUPS = {"camera": ["R", "G", "B"], "lidar": ["height"], "spectrometer": ["b1", "b2", "b3", "b4"]}
SUBSETS = ["camera+lidar+spectrometer", "camera+lidar", "camera+spectrometer", "lidar+spectrometer"]
SUBSETS += ["camera", "lidar", "spectrometer"]
VALUES = {
    "size": 8,
    "model": "compact_k7",
    "model_options": {"width": 16},
    "training": {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32", "crop_padding": 0},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of trees: one bright for the camera, one tall; the spectrometer's values mean nothing."""
    root = tmp_path_factory.mktemp("sensors") / "crowns"
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6), ("test", 6)):
        for label, name in enumerate(("oak", "pine")):
            for i in range(count):
                pixels = random.integers(0, 200, (8, 8, 8))
                pixels[:4] += 400 * label
                path = root / split / name / f"{i}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, pixels.astype(np.uint16), photometric="minisblack", metadata={"axes": "CYX"})
    (root / "channels.txt").write_text("\n".join(NAMES))
    (root / "groups.txt").write_text("\n".join(f"{group}: {', '.join(names)}" for group, names in GROUPS.items()))
    return root


@pytest.fixture(scope="module")
def run(data):
    config = RunConfig.from_dict(VALUES | {"data": str(data)})
    return train_run(config, data.parent / "run", cost=False, cache_dir=data.parent / "cache")


def names_of(evaluation):
    return [figures["name"] for figures in evaluation.subsets.values()]


def test_a_run_knows_the_groups_of_its_folder_and_is_evaluated_on_seven_subsets(run):
    assert read_record(run)["groups"] == GROUPS
    assert load_model(run).channels.members == {group: tuple(names) for group, names in GROUPS.items()}
    assert load_model(run).spec.norm == "statistics"
    evaluation = load_evaluation(run)
    assert names_of(evaluation) == SUBSETS
    assert not evaluation.sampled
    found = json.loads((run / "evaluation" / "test.json").read_text())["shapley"]
    assert list(found) == ["groups"]
    assert found["groups"]["exact"]
    assert set(found["groups"]["accuracy"]["values"]) == set(GROUPS)


def test_its_report_has_a_row_for_each_subset_of_sensors_and_says_which_matter(run, tmp_path):
    page = read_html(write_report([run], tmp_path / "page.html").read_text())
    rows = table_rows(page.one("section", id="subsets").all("table")[0])
    assert [row[0] for row in rows[1:]] == SUBSETS
    channels = page.one("section", id="channels")
    contributions, best = channels.all("table")
    assert {row[0] for row in table_rows(contributions)[1:]} == set(GROUPS)
    assert [row[0] for row in table_rows(best)[1:]] == ["1 group", "2 groups", "3 groups"]
    assert "Exact: every subset was evaluated" in channels.text
    assert (run / "figures" / "shapley_groups.svg").is_file()
    assert "camera+lidar" in page.one("section", id="classes").text


def test_single_channels_are_ranked_on_demand(run, data):
    evaluation = evaluate_run(run, by="channels", cache_dir=data.parent / "cache")
    assert list(evaluation.shapley) == ["channels", "groups"]
    assert set(evaluation.shapley["channels"]["accuracy"]["values"]) == set(NAMES)
    assert evaluation.shapley["groups"] == load_evaluation(run).shapley["groups"]
    assert evaluation.sampled
    with pytest.raises(RunError, match="leave out by"):
        evaluate_run(run, by="channels", subsets=["camera"])


def test_groups_are_named_on_the_command_line(run, data):
    runner = CliRunner()
    done = runner.invoke(app, ["evaluate", str(run), "--cache", str(data.parent / "cache")])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:8]] == SUBSETS
    assert "Shapley value  added to all others  accuracy alone" in done.stdout
    assert "Shapley values are exact; 12 images that have every channel." in done.stdout
    named = ["--channels", "lidar+camera", "--channels", "b1,lidar", "--json", "--cache", str(data.parent / "cache")]
    done = runner.invoke(app, ["evaluate", str(run), *named])
    result = json.loads(done.stdout)
    assert list(result["subsets"]) == ["R,G,B,height", "height,b1"]
    assert result["subsets"]["R,G,B,height"]["name"] == "camera+lidar"
    assert result["shapley"] == {}
    done = runner.invoke(app, ["evaluate", str(run), "--by", "sensors"])
    assert done.exit_code == 2
    assert "unknown by 'sensors'" in done.stderr


def test_flags_and_recipes_name_groups(data):
    groups = RunConfig.from_dict({"data": str(data), "groups": {"camera": "R,G,B"}}).groups
    assert groups == {"camera": ["R", "G", "B"]}
    assert RunConfig.from_dict({"data": str(data), "groups": {}}).groups == {}
    with pytest.raises(ConfigError, match="groups"):
        RunConfig.from_dict({"data": str(data), "groups": "camera"})
    flags = ["--data", str(data), "--group", "camera=R,X", "--out", str(data.parent / "no")]
    done = CliRunner().invoke(app, ["train", *flags])
    assert done.exit_code == 2
    assert "group 'camera': unknown channel 'X'; the channels are R, G, B, height" in done.stderr


def test_dedicated_networks_are_those_of_sensors(run, data):
    out = data.parent / "dedicated"
    chosen = ["camera+lidar", "spectrometer"]
    result = compare_dedicated([run], out, budgets=["passes"], subsets=chosen, cache_dir=data.parent / "cache")
    assert [row["subset"] for row in result["budgets"]["passes"]["rows"]] == chosen
    homes = sorted(path for path in out.iterdir() if path.is_dir())
    assert [load_runs([home])[0].name for home in homes] == ["dedicated to camera+lidar", "dedicated to spectrometer"]
    assert read_record(homes[0])["channels"] == ["R", "G", "B", "height"]
    assert "spectrometer-1-epochs-s0" in [home.name for home in homes]


def test_a_file_of_one_sensor_is_answered_by_the_sensors_name(run, data, tmp_path):
    pixels = tifffile.imread(data / "test" / "oak" / "0.tif")
    tifffile.imwrite(tmp_path / "camera.tif", pixels[:3], photometric="minisblack", metadata={"axes": "CYX"})
    by_group, by_name = (
        predict_files(run, [tmp_path / "camera.tif"], channels=names)[0] for names in ("camera", "R,G,B")
    )
    assert by_group == by_name
    assert by_group["channels"] == ["R", "G", "B"]


def test_an_images_answer_is_explained_by_its_sensors(run, data):
    predictor = Predictor(run)
    image = predictor.open(data / "test" / "oak" / "0.tif")
    found = explain(predictor, image, frequency=0.5)
    assert list(found.predictions) == SUBSETS
    best = int(found.answer.probabilities.argmax())
    values = found.ranking.values
    assert found.ranking.full == pytest.approx(float(found.answer.probabilities[best]))
    assert sum(one.shapley for one in values.values()) == pytest.approx(found.ranking.full - 0.5)
    assert values["camera"].alone == pytest.approx(float(found.predictions["camera"].probabilities[best]))
    assert found.members["lidar"] == ("height",)


def test_a_run_of_a_version_without_groups_is_resumed_without_them(data, tmp_path):
    config = RunConfig.from_dict(VALUES | {"data": str(data), "groups": {}})
    home = train_run(config, tmp_path / "old", cost=False, cache_dir=data.parent / "cache")
    record = json.loads((home / "run.json").read_text())
    assert record.pop("groups") == {}
    (home / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    text = (home / "config.toml").read_text()
    (home / "config.toml").write_text(text.replace("[groups]\n", ""))
    again = RunConfig.from_dict(VALUES | {"data": str(data)})
    train_run(again, home, resume=True, cost=False, cache_dir=data.parent / "cache")
    assert load_model(home).channels == ChannelSet.from_dict(load_model(home).channels.to_dict() | {"groups": None})
    assert read_record(home)["groups"] == {}
