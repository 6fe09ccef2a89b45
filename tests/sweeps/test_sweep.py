"""Sweeps of tiny networks with the real Optuna, killed and resumed."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from functools import partial

import numpy as np
import pytest
import tomli_w
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, f1_score

from anychannel import sweeps
from anychannel.data import dataset_from_arrays
from anychannel.evaluation import evaluate, load_evaluation
from anychannel.models import create_model
from anychannel.runs import RunConfig, load_recipe, train_run
from anychannel.runs.config import merge
from anychannel.sweeps import SweepError, search, sweep
from anychannel.sweeps.objective import choose_metric, curve_of, value_of
from tests.helpers.commands import Command, anychannel, die_after
from tests.helpers.trackers import VALUES

RECIPE = merge(VALUES, {"training": {"sampler": "split", "lr": 0.001}})
SPACE = {"training.lr": {"low": 1e-3, "high": 0.2, "log": True}, "stem": {"choices": ["static", "completion"]}}
METRIC = "mean_subset_accuracy"
TRIALS = 3
FIRST_FIRST_SECOND = 2
"""Seed of a search that begins so when it may choose between two values."""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep and its folder."""
    home = tmp_path_factory.mktemp("sweeps") / "whole"
    return home, sweep(RECIPE, SPACE, home, trials=TRIALS, metric=METRIC, prune=False)


def table(home):
    return list(csv.DictReader((home / "trials.csv").read_text().splitlines()))


def command(home, *more):
    (home.parent / "recipe.toml").write_text(tomli_w.dumps(RECIPE))
    (home.parent / "space.toml").write_text(tomli_w.dumps(SPACE))
    files = [str(home.parent / "recipe.toml"), "--space", str(home.parent / "space.toml"), "--out", str(home)]
    return ["sweep", *files, "--metric", METRIC, "--no-prune", *more]


def test_each_trial_is_a_run_whose_test_images_are_unread(done):
    home, outcomes = done
    assert [outcome.name for outcome in outcomes] == [f"trial-{i:04d}" for i in range(TRIALS)]
    assert len({outcome.settings["training.lr"] for outcome in outcomes}) == TRIALS
    for outcome in outcomes:
        run = home / outcome.name
        assert json.loads((run / "run.json").read_text())["status"] == "finished"
        assert [path.name for path in (run / "evaluation").glob("*.json")] == ["val.json"]
        config = RunConfig.from_dict(load_recipe(run / "config.toml"))
        assert (config.training.lr, config.stem) == tuple(outcome.settings.values())
        assert 1e-3 <= config.training.lr <= 0.2


def test_the_objective_is_the_mean_over_the_subsets_of_the_validation_images(done):
    home, outcomes = done
    for outcome in outcomes:
        evaluation = load_evaluation(home / outcome.name, "val")
        assert len(evaluation.subsets) == 7
        assert outcome.value == pytest.approx(sum(evaluation.correct(key).mean() for key in evaluation.subsets) / 7)


def test_best_toml_is_the_best_trials_recipe_and_trains(done, tmp_path):
    home, outcomes = done
    best = max(outcomes, key=lambda outcome: outcome.value)
    recipe = load_recipe(home / "best.toml")
    assert RunConfig.from_dict(recipe) == RunConfig.from_dict(load_recipe(home / best.name / "config.toml"))
    run = train_run(RunConfig.from_dict(recipe), tmp_path / "best", cost=False)
    assert (run / "evaluation" / "test.json").is_file()
    losses = [
        [json.loads(line)["val_loss"] for line in (each / "metrics.jsonl").read_text().splitlines()]
        for each in (run, home / best.name)
    ]
    assert losses[0] == losses[1], "training follows from the recipe"


def test_the_table_lists_every_trial(done):
    home, outcomes = done
    rows = table(home)
    assert [row["trial"] for row in rows] == [outcome.name for outcome in outcomes]
    assert [float(row[METRIC]) for row in rows] == [outcome.value for outcome in outcomes]
    assert [row["stem"] for row in rows] == [outcome.settings["stem"] for outcome in outcomes]


def test_a_sweep_killed_within_a_trial_goes_on_and_ends_as_if_it_had_not_been(done, tmp_path):
    home = tmp_path / "killed"
    killed = Command(*command(home, "--trials", str(TRIALS), "--quiet"), first=partial(die_after, 1, "trial-0001"))
    assert killed.finish().returncode == -9
    first = (home / "trial-0000" / "weights" / "best.safetensors").stat().st_mtime_ns
    assert not (home / "trial-0001" / "evaluation").exists()
    again = anychannel(*command(home, "--trials", str(TRIALS), "--resume", "--quiet"))
    assert (home / "trial-0000" / "weights" / "best.safetensors").stat().st_mtime_ns == first, "finished: left alone"
    assert len((home / "trial-0001" / "command.txt").read_text().splitlines()) == 2, "gone on with, not begun again"
    assert sorted(path.name for path in home.glob("trial-*")) == [f"trial-{i:04d}" for i in range(TRIALS)]
    outcomes = table(home)
    assert outcomes == table(done[0])
    assert again.stdout == (home / "best.toml").read_text() == (done[0] / "best.toml").read_text()
    assert f"best of {TRIALS} trials ({TRIALS} finished, 0 pruned, 0 failed): trial-" in again.stderr
    assert "trial-0000 finished" not in again.stderr


def test_two_processes_share_a_sweep_and_do_each_trial_once(done, tmp_path):
    home = tmp_path / "shared"
    workers = [Command(*command(home, "--trials", str(TRIALS), "--resume", "--quiet")) for _ in range(2)]
    done_by = [worker.finish() for worker in workers]
    told = [each.stderr for each in done_by]
    assert [each.returncode for each in done_by] == [0, 0], told
    ends = [line.split()[0] for text in told for line in text.splitlines() if " finished mean_subset" in line]
    assert sorted(ends) == [f"trial-{i:04d}" for i in range(TRIALS)]
    assert [row["trial"] for row in table(home)] == sorted(ends)
    for name in ends:
        assert len((home / name / "command.txt").read_text().splitlines()) == 1
    assert [row["training.lr"] for row in table(home)] == [row["training.lr"] for row in table(done[0])]


def test_a_process_that_finds_all_trials_taken_leaves_them_to_the_others(tmp_path, monkeypatch):
    """The second sweep begins while the first trains its only trial."""
    found = []

    def train(*arguments, **options):
        monkeypatch.setattr(search, "train_run", train_run)
        found.append(sweep(RECIPE, SPACE, tmp_path / "sweep", trials=1, resume=True))
        return train_run(*arguments, **options)

    monkeypatch.setattr(search, "train_run", train)
    assert [outcome.state for outcome in sweep(RECIPE, SPACE, tmp_path / "sweep", trials=1)] == ["finished"]
    assert found == [[]]


def test_a_trial_that_ends_while_another_process_looks_at_it_is_no_dead_one(tmp_path, monkeypatch):
    """Its state is read, it ends and frees its lock, and then the lock is looked at."""
    plan = search.Plan(RECIPE, {"training.lr": FloatDistribution(1e-3, 0.2)}, METRIC, seed=0, prune=False)
    study = search.open_study(tmp_path, plan)
    trial, lock = search.pick(tmp_path, study, plan, 1)

    def end(_):
        study.tell(trial, 0.5)
        lock.release()
        return True

    monkeypatch.setattr(search, "is_free", end)
    assert search.pick(tmp_path, study, plan, 1) is None
    assert [each.state for each in study.get_trials()] == [TrialState.COMPLETE]


def test_more_trials_may_be_asked_for_later_and_other_settings_may_not(done):
    home, outcomes = done
    assert sweep(RECIPE, SPACE, home, trials=TRIALS, metric=METRIC, prune=False, resume=True) == outcomes
    with pytest.raises(SweepError, match="already holds a sweep; add --resume to continue it"):
        sweep(RECIPE, SPACE, home, trials=TRIALS, metric=METRIC, prune=False)
    with pytest.raises(SweepError, match=r"other settings \(metric: mean_subset_accuracy -> val_loss; prune: False"):
        sweep(RECIPE, SPACE, home, trials=TRIALS, metric="val_loss", resume=True)


def test_a_sweep_does_not_go_on_with_other_data(tmp_path):
    for number in range(24):
        for shade, split in enumerate(("train", "val", "test")):
            path = tmp_path / "photos" / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 10 * number + shade, np.uint8)).save(path)
    recipe = merge(RECIPE, {"data": str(tmp_path / "photos"), "channels": ["R", "G", "B"]})
    more = {"metric": METRIC, "prune": False, "cache_dir": tmp_path / "cache"}
    (first,) = sweep(recipe, SPACE, tmp_path / "sweep", trials=1, **more)
    assert first.state == "finished"
    assert sweep(recipe, SPACE, tmp_path / "sweep", trials=1, resume=True, **more) == [first]
    (tmp_path / "photos" / "train" / "a" / "0.png").unlink()
    with pytest.raises(SweepError, match=r"are not those of the trials in .* \(24 -> 23 train images\); restore them"):
        sweep(recipe, SPACE, tmp_path / "sweep", trials=2, resume=True, **more)
    assert [row["trial"] for row in table(tmp_path / "sweep")] == ["trial-0000"]


def test_trials_behind_the_median_are_stopped_early(tmp_path, monkeypatch):
    """The third takes steps that are far too large, which shows once two have finished."""
    monkeypatch.setattr(search, "PRUNE_AFTER", 2)
    space = {"training.lr": {"choices": [1e-3, 1.0]}}
    recipe = merge(VALUES, {"training": {"epochs": 3}})
    outcomes = sweep(recipe, space, tmp_path / "sweep", trials=3, metric="val_loss", seed=FIRST_FIRST_SECOND)
    assert [outcome.state for outcome in outcomes] == ["finished", "finished", "pruned"]
    assert (outcomes[2].settings, outcomes[2].value) == ({"training.lr": 1.0}, None)
    record = json.loads((tmp_path / "sweep" / "trial-0002" / "run.json").read_text())
    assert record["status"] == "stopped"
    assert "behind the median" in record["error"]
    rows = (tmp_path / "sweep" / "trial-0002" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) < 3


def test_settings_that_cannot_be_trained_count_as_failed_and_the_others_go_on(tmp_path):
    recipe = merge(VALUES, {"training": {"epochs": 1}})
    space = {"stem": {"choices": ["static", "statik"]}}
    outcomes = sweep(recipe, space, tmp_path / "some", trials=3, seed=FIRST_FIRST_SECOND)
    assert {outcome.state for outcome in outcomes} == {"finished", "failed"}
    for outcome in outcomes:
        assert (outcome.state == "failed") == (outcome.settings["stem"] == "statik")
        assert ("unknown stem 'statik' (did you mean 'static'?)" in outcome.error) == (outcome.state == "failed")
    with pytest.raises(SweepError, match=r"the first trial failed: unknown stem 'statik'.*; correct it"):
        sweep(recipe, {"stem": {"choices": ["statik"]}}, tmp_path / "none", trials=4)


def test_what_cannot_be_swept_is_said_before_anything_is_written(tmp_path, monkeypatch):
    for options, message in (
        (
            {"metric": "test_accuracy"},
            "unknown metric 'test_accuracy'; use one of auto, .*mean_subset_accuracy",
        ),
        ({"trials": 0}, "trials must be at least 1, got 0"),
    ):
        with pytest.raises(SweepError, match=message):
            sweep(RECIPE, SPACE, tmp_path / "sweep", **({"trials": 1} | options))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SweepError, match="a sweep's trials train in one process"):
        sweep(RECIPE, SPACE, tmp_path / "sweep", trials=1)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"a sweep needs the package optuna.*pip install 'anychannel\[sweep\]'"):
        importlib.reload(sweeps)
    assert not (tmp_path / "sweep").exists()
    (tmp_path / "thesis.txt").write_text("years of work")
    monkeypatch.undo()
    with pytest.raises(SweepError, match="is not empty and not a sweep"):
        sweep(RECIPE, SPACE, tmp_path, trials=1)


def test_the_metric_follows_the_classes_and_its_value_is_the_mean_over_subsets(tmp_path):
    labels = np.repeat([0, 1], [16, 24])
    images = np.random.default_rng(0).integers(0, 256, (40, 2, 4, 4), dtype=np.uint8)
    splits = np.array((["train"] * 3 + ["val"]) * 10)
    even = dataset_from_arrays(images, labels, channels="a,b", splits=splits)
    uneven = dataset_from_arrays(images, np.repeat([0, 1], [8, 32]), channels="a,b", splits=splits)
    assert choose_metric("auto", even) == "val_accuracy"
    assert choose_metric("auto", uneven) == "val_balanced_accuracy"
    assert choose_metric("val_loss", uneven) == "val_loss"
    (tmp_path / "sweep.json").write_text(json.dumps({"metric": "val_mean_mean_average_precision"}))
    assert search.metric_of(tmp_path) == "val_mean_map"  # as it was called before
    model = create_model("compact_k7", channels=even.channels, num_classes=2, model_options={"width": 16})
    evaluation = evaluate(model, even, split="val")
    evaluation.save(tmp_path)
    means = {"balanced_accuracy": [], "macro_f1": []}
    for table in evaluation.probabilities.values():
        pair = even.val.labels, table.argmax(1)
        means["balanced_accuracy"].append(balanced_accuracy_score(*pair))
        means["macro_f1"].append(f1_score(*pair, average="macro", labels=[0, 1], zero_division=0))
    for name, values in means.items():
        assert value_of(f"mean_subset_{name}", tmp_path) == pytest.approx(np.mean(values))
        assert curve_of(f"mean_subset_{name}", {f"val_mean_{name}": 0.25}) == 0.25
