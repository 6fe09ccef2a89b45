"""The program as a person runs it: in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import rasterio
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from anychannel.cli.app import app, describe_restart
from anychannel.cli.compare import against_first
from anychannel.cli.listing import DESCRIPTIONS
from anychannel.evaluation import load_evaluation
from tests.helpers.commands import Command, anychannel, die_after
from tests.helpers.image_files import bright_halves, write_class_folders

COMMANDS = (
    "train",
    "adapt",
    "sweep",
    "evaluate",
    "report",
    "compare",
    "profile",
    "predict",
    "serve",
    "export",
    "list",
    "demo",
)


@pytest.mark.parametrize(
    ("arguments", "work", "message"),
    [
        (("train", "--data", "bands"), "runs.train_run", "to continue, start the same command again with --resume"),
        (("demo",), "runs.demo.run_demo", "to continue, start the same command again"),
        (
            ("adapt", "run", "--images", "photos"),
            "runs.adapt.adapt_folder",
            "the same command starts from the beginning",
        ),
    ],
)
def test_after_ctrl_c_a_command_says_whether_it_continues(arguments, work, message, tmp_path, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"anychannel.{work}", stop)
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 130
    assert done.stderr.splitlines() == [f"stopped; {message}"]


def test_only_commands_that_keep_what_they_did_continue():
    continuing = {name for name in COMMANDS if describe_restart(name).startswith("to continue")}
    assert continuing == {"train", "sweep", "compare", "demo"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Small photographs of two classes: bright on the left, bright on the right."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    return write_class_folders(
        root, {"train": 24, "val": 8, "test": 8}, ("left", "right"), bright_halves(random, 16, 16)
    )


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "photos"
    done = anychannel(
        *("train", "--data", photos, "--channels", "R,G,B", "--model", "compact_k7", "--stem", "completion"),
        *("--sampler", "dropout", "--sampler-option", "drop=0.5", "--size", 16, "--epochs", 4, "--batch-size", 16),
        *("--seed", 3, "--set", "model_options.width=16", "--set", "training.flip=False", "--out", out),
    )
    assert "the run is in" in done.stderr
    assert done.stdout == ""
    return out


def test_training_takes_flags_and_writes_a_run(run):
    config = (run / "config.toml").read_text()
    assert "drop = 0.5" in config
    assert "seed = 3" in config
    assert "flip = false" in config
    assert "--sampler-option drop=0.5" in (run / "command.txt").read_text()
    assert "<html" in (run / "report.html").read_text()[:500]
    assert len(list((run / "figures").glob("*.svg"))) >= 4


def test_evaluate_prints_json_on_standard_output(run):
    result = json.loads(anychannel("evaluate", run, "--json").stdout)
    assert set(result["subsets"]) == {"R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"}
    assert 0 <= result["subsets"]["R,G"]["accuracy"] <= 1
    named = json.loads(anychannel("evaluate", run, "--channels", "G,R", "--channels", "B", "--json").stdout)
    assert set(named["subsets"]) == {"R,G", "B"}


def test_evaluate_prints_a_table_for_people(run):
    table = anychannel("evaluate", run, "--channels", "R").stdout
    assert "macro F1" in table
    assert "top-5" not in table  # it says nothing of three classes


def test_predict_takes_files_with_any_of_the_channels(run, photos, tmp_path):
    full = anychannel("predict", run, photos / "test" / "left" / "0.png", "--json").stdout
    assert len(json.loads(full)[0]["top"]) == 2
    single = tmp_path / "green.png"
    Image.open(photos / "test" / "right" / "0.png").getchannel("G").save(single)
    result = json.loads(anychannel("predict", run, single, "--channels", "G", "--json").stdout)
    assert result[0]["channels"] == ["G"]
    assert result[0]["notes"] == []
    wrong = anychannel("predict", run, single, "--channels", "R,G", check=False)
    assert wrong.returncode == 2
    assert "green.png" in wrong.stderr


def test_predict_answers_for_the_files_that_it_can_read(run, photos, tmp_path):
    image = next((photos / "test").rglob("*.png"))
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:40])
    files = [tmp_path / "broken.png", image, tmp_path / "missing.png"]
    done = anychannel("predict", run, *files, "--json", check=False)
    assert done.returncode == 1
    answers = json.loads(done.stdout)
    assert [sorted(answer) for answer in answers if "error" in answer] == [["error", "path"]] * 2
    assert answers[1]["top"]
    for file, answer in zip(files[::2], answers[::2], strict=True):
        assert file.name in answer["error"]
        assert f"error: {answer['error']}" in done.stderr
    alone = anychannel("predict", run, files[0], check=False)
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "broken.png" in alone.stderr


def test_predict_remarks_on_an_image_unlike_the_training_images(run, photos, tmp_path):
    pixels = np.moveaxis(np.asarray(Image.open(photos / "test" / "left" / "0.png")), -1, 0)
    deep = tmp_path / "deep.npy"
    np.save(deep, pixels.astype(np.uint16) * 256)
    done = anychannel("predict", run, deep, "--json")
    notes = json.loads(done.stdout)[0]["notes"]
    assert notes[0] == "It holds uint16 values, the training images held uint8: do equal numbers mean the same?"
    assert notes[1].startswith("R averages ")
    assert "and 2 more channels likewise" in notes[1]
    unlike, *others = [line.split(": ", 1)[1] for line in done.stderr.splitlines()]
    assert others == notes
    assert unlike == json.loads(done.stdout)[0]["unlike"]
    assert unlike.startswith("In R, G, B it is unlike the training images (distance ")
    shown = anychannel("predict", run, deep, photos / "test" / "left" / "0.png").stdout.splitlines()
    assert [line.endswith(" (unlike the training images)") for line in shown] == [True, False]


def test_predict_brings_images_to_the_training_images_size_and_takes_no_data_as_told(photos, tmp_path):
    anychannel(
        *("train", "--data", photos, "--channels", "R,G,B", "--model", "compact_k7", "--epochs", 1, "--batch-size", 16),
        *("--set", "model_options.width=16", "--no-cost", "--out", tmp_path / "run", "--quiet"),
    )
    large = tmp_path / "large.png"
    Image.open(photos / "test" / "left" / "0.png").resize((48, 32)).save(large)
    result = json.loads(anychannel("predict", tmp_path / "run", large, "--json").stdout)[0]
    assert result["notes"] == ["It is 32 x 48 pixels and was brought to 16 x 16, as in training."]
    lacking = tmp_path / "lacking.tif"
    pixels = np.full((3, 16, 16), 100, np.uint8)
    pixels[:, :4] = 255
    profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 3, "dtype": "uint8", "nodata": 255}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(lacking, "w", **profile) as file:
            file.write(pixels)
    refused = anychannel("predict", tmp_path / "run", lacking, check=False)
    assert refused.returncode == 2
    assert "--nodata" in refused.stderr or "nodata=" in refused.stderr
    anychannel("predict", tmp_path / "run", lacking, "--nodata", "0")
    wrong = anychannel("predict", tmp_path / "run", lacking, "--nodata", "drop", check=False)
    assert "nodata is 'keep', a number, or None" in wrong.stderr


def test_report_writes_one_page(run, tmp_path):
    page = tmp_path / "page.html"
    assert str(page) in anychannel("report", run, "--out", page).stdout
    assert "<html" in page.read_text()[:500]


def test_compare_pairs_runs_on_the_same_images(run):
    result = json.loads(anychannel("compare", run, run, "--channels", "G, R", "--json").stdout)
    assert result["others"][str(run)]["R,G"]["difference"] == 0
    table = anychannel("compare", run, run).stdout.splitlines()
    assert len(table) == 2 + 7
    assert "at least two runs" in anychannel("compare", run, check=False).stderr


def test_compare_finds_a_subset_in_whichever_order_a_run_has_its_channels(run, tmp_path):
    first = load_evaluation(run)
    tables, subsets = (
        {",".join(reversed(key.split(","))): value for key, value in found.items()}
        for found in (first.probabilities, first.subsets)
    )
    replace(first, full="B,G,R", probabilities=tables, subsets=subsets).save(tmp_path)
    assert set(against_first([run, tmp_path], None)["others"][str(tmp_path)]) == set(first.probabilities)
    rows = against_first([run, tmp_path], ["B,R"])["others"][str(tmp_path)]
    assert rows["R,B"]["n"] == len(first.labels)
    assert rows["R,B"]["difference"] == 0
    with pytest.raises(ValueError, match="unknown channel 'NIR'"):
        against_first([run, tmp_path], ["NIR"])


def test_compare_trains_dedicated_networks_and_writes_the_gap_table(run, tmp_path):
    arguments = ("compare", run, "--dedicated", "--budget", "passes", "--channels", "R", "--out", tmp_path)
    done = anychannel(*arguments)
    assert "against 1 dedicated networks of 4 epochs each (budget: passes)" in done.stdout
    assert "Against dedicated networks" in (tmp_path / "report.html").read_text(encoding="utf-8")
    again = json.loads(anychannel(*arguments, "--json").stdout)
    assert [row["subset"] for row in again["budgets"]["passes"]["rows"]] == ["R"]
    assert "unknown budget 'fair'" in anychannel(*arguments, "--budget", "fair", check=False).stderr


def test_compare_refuses_what_it_would_not_do(run, tmp_path):
    from anychannel.cli.compare import against_first

    arguments = ("compare", run, run, "--budget", "passes", "--sample", 1, "--out", tmp_path)
    refused = anychannel(*arguments, check=False)
    assert refused.returncode == 2
    assert "without --dedicated no network is trained; leave out --budget, --sample, --out" in refused.stderr
    first = load_evaluation(run)
    for key, folder in (("R,G", "pair"), ("B", "single")):
        replace(first, probabilities={key: first.probabilities[key]}).save(tmp_path / folder)
    with pytest.raises(ValueError, match=r"have no subset in common: the first answered R,G, the other B; evaluate"):
        against_first([tmp_path / "pair", tmp_path / "single"], None)


def test_profile_prints_json(tmp_path):
    arguments = ("--model", "compact_k7", "--size", 16, "--batch-size", 4, "--classes", 5, "--no-memory", "--json")
    result = json.loads(anychannel("profile", *arguments).stdout)
    assert result["params"] == 212_884 - 129 * 45
    assert set(result["subsets"]) == {"R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"}


def test_profile_takes_a_runs_own_sizes_and_refuses_flags_that_contradict_it(run):
    own = json.loads(anychannel("profile", run, "--no-memory", "--json").stdout)
    assert (own["image_size"], own["batch_size"]) == (16, 16)
    other = json.loads(anychannel("profile", run, "--size", 24, "--batch-size", 2, "--no-memory", "--json").stdout)
    assert (other["image_size"], other["batch_size"]) == (24, 2)
    flags = ("--model", "resnet18", "--stem", "static", "--channels", "A,B", "--classes", 7)
    refused = anychannel("profile", run, *flags, check=False)
    assert refused.returncode == 2
    assert "says what its network is; leave out --model, --stem, --channels, --classes" in refused.stderr
    refused = anychannel("profile", "--reference", "--size", 8, check=False)
    assert "--reference measures the report's networks as the report does; leave out --size" in refused.stderr
    for flag, message in (("--size", "a size is written 84, or 48x64"), ("--batch-size", "Invalid value for")):
        refused = anychannel("profile", "--model", "compact_k7", flag, 0, check=False)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_list_names_what_the_other_commands_take():
    names = json.loads(anychannel("list", "--json").stdout)
    assert "completion" in names["stems"]
    assert "dropout" in names["samplers"]
    assert any("bands" in name for name in names["datasets"])
    assert "sentinel2" in names["sensors"]
    assert "B8A    864.7 nm  narrow near infrared" in anychannel("list", "sensors").stdout
    described = {name for kind in ("models", "stems", "samplers", "datasets") for name in names[kind]}
    assert described == DESCRIPTIONS.keys()
    assert "unknown kind 'stem'" in anychannel("list", "stem", check=False).stderr


def test_every_option_without_a_value_states_its_default_in_the_help():
    for name, command in get_command(app).commands.items():
        for option in command.params:
            asked = option.param_type_name == "option" and not (option.hidden or option.required or option.is_flag)
            if asked and option.default is None:
                assert "Default: " in option.help, f"{name} {option.opts[0]}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command):
    text = anychannel(command, "--help").stdout
    assert "Example" in text
    assert f"anychannel {command}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--out", "x"), "data is missing"),
        (
            ("train", "--out", "x", "--data", "bands:1", "--stem", "statik"),
            "unknown stem 'statik' (did you mean 'static'?)",
        ),
        (("train", "--out", "x", "--data", "bands:1", "--model", "resnet19"), "unknown model 'resnet19'"),
        (("train", "--out", "x", "--data", "bands:1", "--sampler", "drop"), "unknown sampler 'drop'"),
        (("train", "--out", "x", "--data", "bands:1", "--set", "training.epoch=1"), "did you mean 'training.epochs'"),
        (
            ("train", "--out", "x", "--data", "bands:1", "--set", "training.lr=0,1"),
            "training.lr must be a number or left out, got",
        ),
        (
            ("train", "--out", "x", "--data", "bands:1", "--set", "data_options.verify=3"),
            "verify must be true or false",
        ),
        (("train", "--out", "x", "--set", "data=3"), "data must be text, got 3"),
        (("train", "--out", "x", "--config", "none.toml"), "recipe none.toml does not exist"),
        (
            ("train", "--out", "x", "--data", "bands:3", "--channels", "R, G, B", "--only-channels", "G, r"),
            "unknown channel 'r'",
        ),
        (("evaluate", "nowhere"), "nowhere is not a run"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_leaves_nothing(arguments, message, tmp_path):
    done = anychannel(*arguments, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_killed_training_resumes_from_the_command_line(photos, tmp_path):
    arguments = (
        *("train", "--data", photos, "--model", "compact_k7", "--size", 16, "--batch-size", 16, "--epochs", 3),
        *("--set", "model_options.width=16", "--no-cost", "--quiet"),
    )
    anychannel(*arguments, "--out", tmp_path / "whole")
    killed = Command(*arguments, "--out", tmp_path / "killed", first=partial(die_after, 2))
    assert killed.finish().returncode == -9
    anychannel(*arguments, "--out", tmp_path / "killed", "--resume")
    for name in ("best", "last"):
        a, b = (tmp_path / run / "weights" / f"{name}.safetensors" for run in ("whole", "killed"))
        assert a.read_bytes() == b.read_bytes()

    done = anychannel("train", "--resume", tmp_path / "killed", "--epochs", 4, "--augment", "light")
    for part in (
        "training  4 epochs of",
        "learning rate 0.01 (default)",
        "augmentation  light: flip, crop_scale 0.7, gain 0.1, offset 0.1",
        "continues  another cycle after 3 epochs",
    ):
        assert part in done.stderr
    record = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert record["epochs_run"] == 4
    assert [each["first_epoch"] for each in record["cycles"]] == [1, 4]
    assert [each["lr"] for each in record["cycles"]] == pytest.approx([0.1, 0.01])
    report = (tmp_path / "killed" / "report.html").read_text()
    said = "epochs 1 to 3 at learning rate 0.1, augmentation default; epoch 4 at learning rate 0.01, augmentation light"
    assert said in report
    assert not (tmp_path / "killed" / "cost.json").exists()  # as it was started


def test_the_version_is_printed():
    command = [sys.executable, "-m", "anychannel", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.startswith("anychannel 0.")
