"""Runs in real TensorBoard event files and a real MLflow database, read with their own readers."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from functools import partial

import pytest

from anychannel.evaluation import load_evaluation
from anychannel.runs import RunConfig, train_run
from anychannel.tracking import TRACKERS, TensorBoard, TrackingError, open_track
from anychannel.utils.extras import MissingExtraError
from tests.helpers.commands import Command, die_after
from tests.helpers.trackers import READERS, VALUES

CONFIG = RunConfig.from_dict(VALUES | {"track": ["tensorboard", "mlflow"]})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder for runs; making MLflow's database beside them takes seconds, so it is made once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(runs):
    return train_run(CONFIG, runs / "first", cost=False)


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tracker", TRACKERS)
def test_every_epoch_the_settings_and_each_subsets_accuracy_are_in_the_store(tracker, run):
    figures, settings = READERS[tracker](run)
    for name, key in (("train/loss", "train_loss"), ("val/accuracy", "val_accuracy"), ("lr", "lr")):
        assert figures[name] == [(row["epoch"], pytest.approx(row[key])) for row in rows(run)]
    assert str(settings["training.lr"]) == "0.05"
    assert settings["data"] == "bands:3"
    best = json.loads((run / "run.json").read_text())["best_epoch"]
    subsets = load_evaluation(run).subsets
    assert len(subsets) == 7
    for key, entry in subsets.items():
        assert figures[f"test/accuracy/{key.replace(',', '.')}"] == [(best, pytest.approx(entry["accuracy"]))]
    mean = sum(entry["accuracy"] for entry in subsets.values()) / 7
    assert figures["test/mean_accuracy"] == [(best, pytest.approx(mean))]


def test_event_files_started_within_a_second_are_read_in_the_order_of_their_start(tmp_path, monkeypatch):
    """The process's number is a part of a file's name, and a later one may sort first."""
    for step in (1, 2):
        tracker = TensorBoard(tmp_path, "twice")
        tracker.configure({"a": 1})
        tracker.log({"loss": 0.5}, step)
        tracker.close(finished=True)
        monkeypatch.setattr(os, "getpid", lambda: 1)
    figures, _ = READERS["tensorboard"](tmp_path)
    assert figures["loss"] == [(1, 0.5), (2, 0.5)]


def test_a_killed_run_goes_on_in_the_same_track_without_a_step_twice(runs, run):
    """Killed for real, with half a record left behind; the second tracker joins on resumption."""
    out = runs / "killed"
    config = replace(CONFIG, track=None, training=replace(CONFIG.training, epochs=6))
    (runs / "recipe.toml").write_text(config.to_toml())
    command = ["train", "--config", str(runs / "recipe.toml"), "--out", str(out), "--track", "tensorboard", "--no-cost"]
    assert Command(*command, first=partial(die_after, 2)).finish().returncode == -signal.SIGKILL
    assert 2 <= len(rows(out)) < 6
    (events,) = (out / "tensorboard").glob("events.*")
    with events.open("ab") as file:
        file.write(b"\x20\x00\x00\x00\x00\x00\x00\x00half")
    train_run(replace(config, track=("tensorboard", "mlflow")), out, resume=True, cost=False)
    assert len(list((out / "tensorboard").glob("events.*"))) == 2
    assert len(list((out / "tensorboard").glob("*/hparams.yml"))) == 1
    for tracker in TRACKERS:
        figures, _ = READERS[tracker](out)
        for name in ("train/loss", "val/accuracy", "seconds"):
            assert [step for step, _ in figures[name]] == list(range(1, 7))
        assert len(figures["test/accuracy/band_1"]) == 1


def test_epochs_that_a_kill_kept_from_the_store_are_made_good_when_the_run_goes_on(tmp_path):
    lines = [json.dumps({"epoch": epoch, "train_loss": 1 / epoch, "best": True}) for epoch in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:2]) + "\n")
    for known in (2, 3):
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:known]) + "\n")
        open_track(["tensorboard"], tmp_path, name="run", settings={"a": [1, 2]}).close(finished=False)
    figures, settings = READERS["tensorboard"](tmp_path)
    assert figures == {"train/loss": [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]}
    assert settings == {"a": "[1, 2]"}


def test_an_outage_does_not_stop_the_run_and_the_figures_follow(tmp_path, monkeypatch):
    track = open_track(["tensorboard"], tmp_path, name="run", settings={})
    log = TensorBoard.log

    def fail(*_):
        raise ConnectionError("no route to the server")

    monkeypatch.setattr(TensorBoard, "log", fail)
    with pytest.warns(RuntimeWarning, match=r"tracker tensorboard does not take figures now \(no route .* goes on"):
        track.log_epoch({"epoch": 1, "val_loss": 2.0})
    monkeypatch.setattr(TensorBoard, "log", log)
    track.log_epoch({"epoch": 2, "val_loss": 1.0})
    monkeypatch.setattr(TensorBoard, "log", fail)
    with pytest.warns(RuntimeWarning, match="does not take figures now"):
        track.log_epoch({"epoch": 3, "val_loss": 0.5})
    with pytest.warns(RuntimeWarning, match=r"never took the figures of epoch 3, which the run"):
        track.close(finished=True)
    assert READERS["tensorboard"](tmp_path)[0] == {"val/loss": [(1, 2.0), (2, 1.0)]}


def test_a_run_that_mlflow_no_longer_knows_is_refused_with_what_to_do(runs, run):
    (runs / "moved").mkdir()
    (runs / "moved" / "mlflow.json").write_text(json.dumps({"run_id": "0" * 32}))
    with pytest.raises(
        TrackingError, match=r"MLflow at sqlite.* cannot take the run .*; correct MLFLOW_TRACKING_URI, del"
    ):
        open_track(["mlflow"], runs / "moved", name="moved", settings={})


def test_unknown_trackers_and_missing_packages_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(
        TrackingError, match=r"unknown tracker 'tensorbord' \(did you mean 'tensorboard'\?\); .* mlflow"
    ):
        train_run(replace(CONFIG, track=("tensorbord",)), tmp_path / "run")
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(
            MissingExtraError, match=rf"the tracker {name} needs .* pip install 'anychannel\[tracking\]'"
        ):
            train_run(replace(CONFIG, track=(name,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
