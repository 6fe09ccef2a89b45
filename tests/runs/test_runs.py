"""A run from configuration to folder."""

from __future__ import annotations

import functools
import json
import shutil
import signal
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from anychannel.data.sources.registry import SOURCES, Kind
from anychannel.evaluation import load_evaluation
from anychannel.export import export_run_to_hub_folder
from anychannel.models import save_model
from anychannel.report.page import write_report
from anychannel.report.tables import calibration_table
from anychannel.results.run import RunError, find_unfinished, load_runs, read_record
from anychannel.runs import Predictor, RunConfig, data, evaluate_run, execute, folder, load_recipe, train_run
from anychannel.runs.config import ConfigError, absolute_paths, merge, nest
from anychannel.runs.data import load_data
from anychannel.runs.dedicated import load_adaptive
from anychannel.runs.environment import command_line
from anychannel.runs.examples import choose_examples
from anychannel.runs.execute import build_model
from anychannel.utils import files
from anychannel.utils.signals import Interrupted

VALUES = {
    "data": "bands:3",
    "model": "compact_k7",
    "model_options": {"width": 16},
    "training": {"epochs": 1, "batch_size": 128, "device": "cpu", "crop_padding": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = RunConfig.from_dict(merge(VALUES, {"stem": "completion", "training": {"sampler": "dropout"}}))
    return train_run(config, tmp_path_factory.mktemp("runs") / "adaptive")


@pytest.fixture(scope="module")
def masked_run(tmp_path_factory):
    config = RunConfig.from_dict(merge(VALUES, {"stem": "masked", "training": {"sampler": "full"}}))
    return train_run(config, tmp_path_factory.mktemp("runs") / "masked", cost=False)


def test_a_run_is_one_folder_with_everything_about_it(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert names >= {
        "checkpoint/state.pt",
        "command.txt",
        "config.toml",
        "cost.json",
        "environment.json",
        "evaluation/test.json",
        "evaluation/test_predictions.npz",
        "examples.json",
        "metrics.csv",
        "metrics.jsonl",
        "model.json",
        "run.json",
        "weights/best.safetensors",
        "weights/last.safetensors",
    }
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["channels"] == ["band_1", "band_2", "band_3"]
    assert record["best"]["val_accuracy"] > 0
    environment = json.loads((run / "environment.json").read_text())
    assert {"torch", "timm", "device", "cpu", "threads", "precision", "commit"} <= environment.keys()


def test_a_dedicated_network_sees_just_its_channels(tmp_path):
    config = RunConfig.from_dict(VALUES | {"only_channels": ["band_3", "band_1"]})
    home = train_run(config, tmp_path / "run", cost=False)
    assert json.loads((home / "run.json").read_text())["channels"] == ["band_3", "band_1"]
    assert list(load_evaluation(home).subsets) == ["band_3,band_1", "band_3", "band_1"]
    with pytest.raises(ValueError, match="unknown channel 'band_7'"):
        train_run(replace(config, only_channels=("band_7",)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_resolved_configuration_is_a_recipe(run):
    config = RunConfig.from_dict(load_recipe(run / "config.toml"))
    assert config.stem == "completion"
    assert config.training.sampler == "dropout"
    assert config.training.lr == 0.1
    assert not config.differences(RunConfig.from_dict(tomllib.loads(config.to_toml())))


def test_training_without_clipping_reads_back_as_that():
    config = RunConfig.from_dict(merge(VALUES, {"training": {"clip_norm": 0}}))
    again = RunConfig.from_dict(tomllib.loads(config.to_toml()))
    assert again.training.clip_norm == 0
    assert not config.differences(again)


def test_every_subset_was_evaluated_and_evaluating_again_agrees(run):
    kept = json.loads((run / "evaluation" / "test.json").read_text())
    assert len(kept["subsets"]) == 7
    again = evaluate_run(run).to_dict()
    for key, figures in kept["subsets"].items():
        assert again["subsets"][key]["accuracy"] == pytest.approx(figures["accuracy"], abs=0.01)
    assert set(kept["gap"]) == set(kept["subsets"]) - {"band_1,band_2,band_3"}


def test_each_subset_has_a_temperature_and_the_report_shows_what_it_does(run, tmp_path):
    heat = json.loads((run / "model.json").read_text())["temperatures"]
    figures = load_evaluation(run).subsets
    for key, one in figures.items():
        assert one["temperature"] == heat["subsets"].get(key, heat["sizes"][key.count(",")])
        assert 0 <= one["ece_before"] <= 1
    assert "Is its confidence right?" in write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    table = calibration_table(load_runs([run])[0], list(figures))
    assert table.heads == tuple(key.replace(",", ", ") for key in figures)
    rows = [tuple(cell.text for cell in row) for row in table.rows]
    assert rows == [
        (f"{100 * one['ece_before']:.1f}", f"{100 * one['ece']:.1f}", f"{one['temperature']:.2f}")
        for one in figures.values()
    ]


def test_examples_hold_a_picture_of_each_channel_and_a_prediction_for_each_subset(run):
    examples = json.loads((run / "examples.json").read_text())
    assert len(examples["images"]) == 8
    assert len({image["label"] for image in examples["images"]}) == 8
    for image in examples["images"]:
        assert set(image["png"]) == {"band_1", "band_2", "band_3"}
        assert all(uri.startswith("data:image/png;base64,") for uri in image["png"].values())
        assert len(image["predictions"]) == 7


def test_predictions_are_kept_with_the_labels(run):
    kept = load_evaluation(run)
    accuracy = (kept.probabilities["band_1"].argmax(1) == kept.labels).mean()
    assert accuracy == pytest.approx(kept.subsets["band_1"]["accuracy"])


def test_a_finished_run_is_left_alone_on_resume_and_protected_without(run):
    config = RunConfig.from_dict(load_recipe(run / "config.toml"))
    before = (run / "weights" / "best.safetensors").stat().st_mtime_ns
    assert train_run(config, run, resume=True) == run
    assert (run / "weights" / "best.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="already holds a run; add --resume to continue it"):
        train_run(config, run)
    changed = replace(config, training=replace(config.training, lr=0.5))
    with pytest.raises(RunError, match=r"other settings \(training\.lr: 0\.1 -> 0\.5\)"):
        train_run(changed, run, resume=True)


def test_paths_are_the_same_however_they_are_written(run, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "first.pt").touch()
    (tmp_path / "teacher").symlink_to(run)
    values = {"data": "photos", "model": "teacher", "teacher": "./teacher", "checkpoint": "first.pt"}
    monkeypatch.chdir(tmp_path)
    resolved = absolute_paths(values)
    assert resolved == {
        "data": str(tmp_path / "photos"),
        "model": str(run),
        "teacher": str(run),
        "checkpoint": str(tmp_path / "first.pt"),
    }
    mine, theirs = RunConfig.from_dict(values), RunConfig.from_dict(resolved)
    assert mine.differences(theirs) == []
    assert mine.differences(replace(theirs, data="bands")) == [f"data: {tmp_path / 'photos'} -> bands"]
    assert absolute_paths({"data": "bands:3", "model": "resnet18"}) == {"data": "bands:3", "model": "resnet18"}


def test_a_known_name_is_no_folder_unless_it_is_written_as_one(run, tmp_path, monkeypatch):
    (tmp_path / "bands").mkdir()
    (tmp_path / "resnet18").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    assert absolute_paths({"data": "bands", "model": "resnet18"}) == {"data": "bands", "model": "resnet18"}
    config = RunConfig.from_dict({"data": "bands", "model": "resnet18"})
    with pytest.warns(UserWarning, match="'bands' is the embedded data set; for the folder of that name give ./bands"):
        data = load_data(config)
    assert build_model(config, data).spec.model == "resnet18"
    written = absolute_paths({"data": "./bands", "model": "./resnet18"})
    assert written == {"data": str(tmp_path / "bands"), "model": str(run)}


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/local/bin/anychannel", "anychannel train --out 'my run'"),
        ("/site-packages/anychannel/__main__.py", "python -m anychannel train --out 'my run'"),
    ],
)
def test_the_command_is_kept_as_it_can_be_typed_again(program, command, monkeypatch):
    monkeypatch.setattr("sys.argv", [program, "train", "--out", "my run"])
    assert command_line() == command


def test_a_folder_that_is_not_a_run_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and not a run; choose a new folder"):
        train_run(RunConfig.from_dict(VALUES), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(RunError, match=r"is not a run: it has no config\.toml"):
        evaluate_run(tmp_path)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("last", ["config.toml", "environment.json", "run.json"])
def test_a_run_killed_at_its_very_start_begins_anew(last, resume, tmp_path, monkeypatch):
    whole = files.write_text

    def write(path, text):
        if path.name == last:
            path.with_name(f".{last}.abc").write_text(text[:5])
            raise KeyboardInterrupt
        whole(path, text)

    for module in (files, execute):
        monkeypatch.setattr(module, "write_text", write)
    config, home = RunConfig.from_dict(merge(VALUES, {"size": 8, "classes": 2})), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_run(config, home, cost=False)
    monkeypatch.undo()
    assert not (home / "run.json").exists()
    train_run(config, home, resume=resume, cost=False)
    assert json.loads((home / "run.json").read_text())["status"] == "finished"


def test_the_files_of_a_run_alone_are_no_run_of_ours(tmp_path):
    (tmp_path / "config.toml").write_text("# mine")
    with pytest.raises(RunError, match="is not empty and not a run; choose a new folder"):
        train_run(RunConfig.from_dict(VALUES), tmp_path)
    assert (tmp_path / "config.toml").read_text() == "# mine"


def test_bad_data_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        train_run(RunConfig.from_dict(VALUES | {"data": str(tmp_path / "nowhere")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"subsets": ["band_1", "band_7"]}, "unknown channel 'band_7'"),
        ({"subsets": "band_1,band_7"}, "unknown channel 'band_7'"),
        ({"subsets": []}, "no subset is named; give some, such as 'band_1,band_2,band_3'"),
        (
            {"subsets": ["band_1"], "stem": "masked", "training": {"sampler": "full"}},
            "the masked stem accepts only the channels that it is trained on, band_1, band_2, band_3, but subsets "
            "names band_1; leave subsets out",
        ),
    ],
)
def test_subsets_that_cannot_be_evaluated_are_refused_before_training(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_run(RunConfig.from_dict(merge(VALUES, values)), tmp_path / "run", cost=False)
    assert not (tmp_path / "run").exists()


def test_a_subset_given_as_text_is_one():
    assert RunConfig.from_dict(VALUES | {"subsets": "band_1,band_3"}).subsets == ("band_1,band_3",)


def test_the_masked_network_refuses_other_sets_until_told_to_try(masked_run):
    kept = json.loads((masked_run / "evaluation" / "test.json").read_text())["subsets"]
    assert "accuracy" in kept["band_1,band_2,band_3"]
    assert "trained on the channel positions (0, 1, 2)" in kept["band_1"]["refused"]
    with pytest.raises(ValueError, match="masked stem was trained on"):
        evaluate_run(masked_run, subsets=["band_1"])
    tried = evaluate_run(masked_run, subsets=["band_1"], allow_untrained=True)
    assert 0 <= tried.subsets["band_1"]["accuracy"] <= 1


def test_a_failed_run_says_so_and_can_be_resumed(tmp_path):
    config = RunConfig.from_dict(VALUES)

    def fail(_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        train_run(config, tmp_path / "run", cost=False, on_epoch=fail)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"] == "disk full"
    train_run(config, tmp_path / "run", resume=True, cost=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("status", "reason"),
    [("interrupted", "was interrupted"), ("failed", "failed"), ("running", "was killed"), ("stopped", "was stopped")],
)
def test_weights_of_a_run_that_is_not_finished_are_named_and_test_images_stay_unread(run, status, reason, tmp_path):
    home = shutil.copytree(run, tmp_path / "run")
    record = json.loads((home / "run.json").read_text())
    (home / "run.json").write_text(json.dumps(record | {"status": status}))
    (home / ".lock").touch()
    with pytest.raises(RunError, match=rf"run {reason}.*, and test images are for its final weights; .*--allow-unf"):
        evaluate_run(home)
    with pytest.raises(RunError, match=rf"run {reason}.* and is not finished; finish it first"):
        load_adaptive([home])
    if status != "failed":  # one of them is enough for what follows
        return
    with pytest.warns(UserWarning, match=rf"run {reason}.*: the weights and results used are those of its best epoch"):
        evaluate_run(home, allow_unfinished=True, subsets=["band_1"])
    with pytest.warns(UserWarning, match=reason):
        evaluate_run(home, split="val", subsets=["band_1"])
    with pytest.warns(UserWarning, match=reason):
        Predictor(home)
    with pytest.warns(UserWarning, match=reason):
        export_run_to_hub_folder(home, tmp_path / "hub")


def test_a_run_that_trains_now_is_known_by_its_lock(tmp_path):
    config, said = RunConfig.from_dict(VALUES), []
    train_run(config, tmp_path / "run", cost=False, on_epoch=lambda _: said.append(find_unfinished(tmp_path / "run")))
    assert set(said) == {f"{tmp_path / 'run'} is still training"}
    assert find_unfinished(tmp_path / "run") == find_unfinished(tmp_path) == ""


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
def test_an_interrupted_run_says_so_and_resumes_from_its_step(number, name, tmp_path):
    config = RunConfig.from_dict(VALUES)
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "run", cost=False, on_epoch=lambda _: signal.raise_signal(number))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("interrupted", f"stopped by {name}")
    train_run(config, tmp_path / "run", resume=True, cost=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_two_processes_never_train_in_one_folder(tmp_path, monkeypatch):
    config = RunConfig.from_dict(VALUES)
    folder, late, refused = tmp_path / "run", tmp_path / "late", []

    def train_again(_):
        with pytest.raises(RunError, match=r"another process is training in .*run; wait until it has finished"):
            train_run(config, folder, resume=True, cost=False)
        refused.append(json.loads((folder / "run.json").read_text())["status"])

    train_run(config, folder, cost=False, on_epoch=train_again)
    assert refused == ["running"]
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"

    def load_slowly(argument, request):
        """Data that load so slowly that another process trains in the folder meanwhile."""
        train_run(config, late, cost=False)
        before.append((late / "run.json").read_bytes())
        return SOURCES["bands"].open("3", request)

    before: list[bytes] = []
    monkeypatch.setitem(SOURCES, "slow", Kind(load_slowly, embedded=True))
    with pytest.raises(RunError, match="already holds a run"):
        train_run(replace(config, data="slow"), late, cost=False)
    assert [(late / "run.json").read_bytes()] == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "data is missing"),
        ({"data": "bands", "stems": "static"}, r"unknown setting 'stems' \(did you mean 'stem'\?\)"),
        (
            {"data": "bands", "training": {"epoch": 3}},
            r"unknown setting 'training\.epoch' \(did you mean 'training\.epochs'",
        ),
        ({"data": "bands", "training": {"epochs": 0}}, "epochs must be between 1 and 100000, got 0"),
        ({"data": "bands", "training": 3}, "training must be a table, got 3"),
        ({"data": "bands", "training": {"flip": "maybe"}}, r"training\.flip must be true or false, got 'maybe'"),
        ({"data": "bands", "training": {"lr": "0,1"}}, r"training\.lr must be a number or left out, got '0,1'"),
        ({"data": "bands", "training": {"seed": 1.5}}, r"training\.seed must be a whole number, got 1\.5"),
        ({"data": "bands", "training": {"sampler_options": 3}}, r"training\.sampler_options must be a table, got 3"),
        ({"data": 3}, "data must be text, got 3"),
        ({"data": "bands", "size": "abc"}, "size must be a whole number or left out, got 'abc'"),
        ({"data": "bands", "pretrained": "yes"}, "pretrained must be true or false, got 'yes'"),
        ({"data": "bands", "teacher": 3}, "teacher must be text or left out, got 3"),
        ({"data": "bands", "channels": 3}, "channels must be a list of texts or left out, got 3"),
        ({"data": "bands", "track": [3]}, r"track must be a list of texts or left out, got \[3\]"),
        ({"data": "bands", "subsets": 3}, "subsets must be a list of texts or left out, got 3"),
        *(
            ({"data": "bands", key: 3}, f"{key} must be a table, got 3")
            for key in ("data_options", "model_options", "adapt_options", "stem_options")
        ),
    ],
)
def test_a_wrong_configuration_names_the_key(values, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_dict(values)


def test_names_in_one_text_are_a_list_and_one_subset_is_one():
    config = RunConfig(data="bands:3", channels="R,G,B", subsets="R,G", track="tensorboard")
    assert (config.channels, config.subsets, config.track) == (("R", "G", "B"), ("R,G",), ("tensorboard",))


def test_a_recipe_that_is_missing_or_not_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"recipe .*none\.toml does not exist"):
        load_recipe(tmp_path / "none.toml")
    for content in (b"epochs = = 3", 'name = "é"'.encode("latin-1")):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"recipe .*bad\.toml is not valid TOML"):
            load_recipe(tmp_path / "bad.toml")


def test_the_recipes_that_ship_are_valid():
    from pathlib import Path

    recipes = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        RunConfig.from_dict({"data": "photos"} | load_recipe(recipe))


def test_flags_override_a_recipe_key_by_key():
    assert merge({"a": 1, "t": {"x": 1, "y": 2}}, {"t": {"y": 3}}) == {"a": 1, "t": {"x": 1, "y": 3}}
    assert merge({"t": {"flip": False, "lr": 1}}, {"t": {"augment": "light"}}) == {"t": {"augment": "light", "lr": 1}}
    assert nest({"t.x": 1, "t.y.z": 2, "a": 3}) == {"t": {"x": 1, "y": {"z": 2}}, "a": 3}


def test_examples_are_of_as_many_classes_as_possible():
    labels = np.array([0] * 50 + [1] * 50 + [2])
    chosen = choose_examples(labels, 4)
    assert sorted(labels[chosen][:3]) == [0, 1, 2]
    assert len(set(chosen)) == 4
    assert choose_examples(labels[:2], 8).__len__() == 2


@pytest.mark.parametrize("seam", ["load_dataset", "adapt"])
def test_a_bug_of_our_own_surfaces_as_what_it_is(seam, run, monkeypatch):
    """A TypeError planted in our code is not taken for a wrong option."""
    module = {"load_dataset": data, "adapt": execute}[seam]

    @functools.wraps(getattr(module, seam))
    def broken(*_, **__):
        raise TypeError("unsupported operand type(s) for +: 'int' and 'str'")

    monkeypatch.setattr(module, seam, broken)
    config = RunConfig.from_dict(VALUES | {"model": str(run), "model_options": {}})
    with pytest.raises(TypeError, match="unsupported operand"):
        build_model(config, load_data(config))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_options": {"verfy": True}}, r"unknown setting 'data_options\.verfy' \(did you mean 'data_options\.ver"),
        ({"data_options": {"size": 8}}, r"unknown setting 'data_options\.size'"),
        ({"pretrained": True, "adapt_options": {"stem": "x"}}, r"unknown setting 'adapt_options\.stem'"),
    ],
)
def test_options_that_are_unknown_or_have_settings_of_their_own_are_refused(options, message):
    config = RunConfig.from_dict(VALUES | options)
    with pytest.raises(ValueError, match=message):
        build_model(config, load_data(config))


def test_a_folder_of_an_earlier_format_is_read_and_of_a_later_one_refused_by_name(run, tmp_path):
    home = shutil.copytree(run, tmp_path / "run")
    record = json.loads((home / "run.json").read_text())
    assert record.pop("format") == 2
    (home / "run.json").write_text(json.dumps(record))
    assert read_record(home) == record
    assert folder.read_config(home).stem == "completion"
    (home / "run.json").write_text(json.dumps(record | {"format": 3}))
    (home / "config.toml").write_text('new_setting = 1\ndata = "bands"\n')
    for read in (read_record, folder.read_config, evaluate_run, Predictor, lambda home: load_runs([home])):
        with pytest.raises(RunError, match=r"run\.json has format 3, .* formats up to 2; update anychannel"):
            read(home)


def test_a_predictor_takes_paths_bytes_and_arrays_and_folders_of_models(run, tmp_path):
    pixels = np.asarray(load_data(RunConfig.from_dict(VALUES)).test.images[0])
    np.save(tmp_path / "image.npy", pixels)
    predictor = Predictor(run)
    expected = predictor.predict(predictor.open(pixels, layout="planar"), "band_3,band_1")
    assert expected.channels == ("band_1", "band_3")
    assert expected.probabilities.sum() == pytest.approx(1)
    predictor.model.save_pretrained(tmp_path / "hub")
    save_model(predictor.model, tmp_path / "model")
    content = (tmp_path / "image.npy").read_bytes()
    for folder_of, image in ((run, tmp_path / "image.npy"), (tmp_path / "hub", content), (tmp_path / "model", content)):
        other = Predictor(folder_of)
        found = other.predict(other.open(image, layout="planar"), "band_1,band_3")
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5)
    turned = predictor.open(pixels[[2, 1, 0]], "band_3,-,band_1", layout="planar")
    np.testing.assert_allclose(predictor.predict(turned).probabilities, expected.probabilities, rtol=1e-5)
