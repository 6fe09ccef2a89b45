"""Dedicated networks: the same budget, the same images, one table; killed and started again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anychannel.evaluation import compare, load_evaluation
from anychannel.report import write_report
from anychannel.results.run import RunError, read_record
from anychannel.runs import RunConfig, dedicated, train_run
from anychannel.runs.config import merge
from anychannel.runs.dedicated import (
    choose_keys,
    compare_dedicated,
    dedicated_config,
    epochs_of,
    folder_name,
    load_adaptive,
)
from anychannel.runs.folder import read_config

VALUES = {
    "data": "bands:3",
    "classes": 2,
    "model": "timm/resnet10t",
    "stem": "completion",
    "norm": "size",
    "training": {
        "epochs": 1,
        "batch_size": 128,
        "device": "cpu",
        "lr": 0.05,
        "sampler": "split",
        "sampler_options": {"paired": True},
        "distill": 0.3,
        "monitor": "val_mean_accuracy",
    },
}
FULL = "band_1,band_2,band_3"
CHOSEN = (FULL, "band_2")


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    home = tmp_path_factory.mktemp("adaptive")
    return [
        train_run(RunConfig.from_dict(merge(VALUES, {"training": {"seed": seed}})), home / f"s{seed}", cost=False)
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def compared(adaptive):
    out = adaptive[0].parent / "dedicated"
    return out, compare_dedicated(adaptive, out, subsets=CHOSEN)


def test_every_budget_has_a_network_for_each_subset_and_seed(compared):
    out, result = compared
    assert result["seeds"] == [0, 1]
    assert {name: found["dedicated_epochs"] for name, found in result["budgets"].items()} == {"passes": 1, "total": 1}
    folders = {path.name for path in out.iterdir() if path.is_dir()}
    assert folders == {folder_name(key, 1, seed) for key in CHOSEN for seed in (0, 1)}


def test_a_dedicated_network_is_plain_and_sees_just_its_channels(compared):
    config = read_config(compared[0] / folder_name("band_2", 1, 1))
    assert config.only_channels == ("band_2",)
    assert (config.stem, config.norm, config.training.sampler, config.training.distill) == (
        "static",
        "shared",
        "full",
        0.0,
    )
    assert (config.training.seed, config.training.monitor) == (1, "auto")
    assert list(load_evaluation(compared[0] / folder_name("band_2", 1, 1)).subsets) == ["band_2"]


def test_the_table_pairs_the_same_images_of_the_same_seed(compared, adaptive):
    out, result = compared
    row = next(row for row in result["budgets"]["passes"]["rows"] if row["subset"] == "band_2")
    for seed in (0, 1):
        alone = load_evaluation(out / folder_name("band_2", 1, seed))
        pair = compare(alone, load_evaluation(adaptive[seed]), subset="band_2")
        assert (row["dedicated"][seed], row["adaptive"][seed]) == (pair.first, pair.second)
        assert row["p_values"][seed] == pair.p_value


def test_the_table_is_kept_beside_every_run_and_shown_in_its_report(compared, adaptive):
    out, result = compared
    for folder in (out, *adaptive):
        assert json.loads((folder / "gap.json").read_text()) == json.loads(json.dumps(result))
    page = write_report(adaptive, out / "page.html").read_text(encoding="utf-8")
    assert page.count("Against dedicated networks</h2>") == 1
    assert "2 of 7 evaluated subsets" in page


def test_epochs_are_told_as_they_were_run(adaptive, tmp_path):
    values = merge(VALUES, {"training": {"epochs": 4, "patience": 1, "monitor": "val_loss", "lr": 1e-6}})
    run = train_run(RunConfig.from_dict(values), tmp_path / "run", cost=False)
    found = compare_dedicated([run], tmp_path / "out", subsets=["band_2"], budgets=["passes"])["budgets"]["passes"]
    assert (found["adaptive_epochs"], found["dedicated_epochs"]) == (4, 4)
    assert found["adaptive_epochs_run"] == [read_record(run)["epochs_run"]] * 2
    (alone,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert found["dedicated_epochs_run"] == [read_record(alone)["epochs_run"]] * 2


def test_a_run_that_may_not_be_written_to_is_compared_all_the_same(compared, adaptive, monkeypatch):
    out, result = compared
    whole = dedicated.write_json

    def write(path, value):
        if path.parent == adaptive[0]:
            raise PermissionError(13, "Permission denied", str(path))
        whole(path, value)

    monkeypatch.setattr(dedicated, "write_json", write)
    with pytest.warns(UserWarning, match=r"s0 takes no gap.json \(Permission denied\), .* it is in .*gap.json"):
        assert compare_dedicated(adaptive, out, subsets=CHOSEN) == result


def test_finished_networks_are_not_trained_again(compared, adaptive):
    out, result = compared
    before = {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")}
    assert len(before) == 4
    assert compare_dedicated(adaptive, out, subsets=CHOSEN) == result
    assert {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")} == before


def test_a_sample_holds_every_size(adaptive):
    runs = load_adaptive(adaptive)
    assert len(choose_keys(runs, None, None)) == 7
    drawn = choose_keys(runs, None, 4)
    assert drawn[0] == FULL
    assert {key.count(",") for key in drawn} == {0, 1, 2}
    assert choose_keys(runs, ["band_3,band_1"], None) == ["band_1,band_3"]
    with pytest.raises(RunError, match="sample is a number of subsets"):
        choose_keys(runs, None, 0)
    with pytest.raises(ValueError, match="unknown channel 'band_9'"):
        choose_keys(runs, ["band_9"], None)


def test_passes_are_counted_as_the_sampler_makes_them():
    config = RunConfig.from_dict(merge(VALUES, {"training": {"epochs": 2}}))
    sandwich = replace(config, training=replace(config.training, sampler="sandwich", sampler_options={}))
    assert epochs_of(config, 3, "passes", 7) == 2
    assert epochs_of(sandwich, 3, "passes", 7) == 6
    assert epochs_of(sandwich, 3, "total", 3) == 2
    assert epochs_of(config, 3, "total", 7) == 1
    with pytest.raises(RunError, match="unknown budget 'same'"):
        epochs_of(config, 3, "same", 7)


def test_long_lists_of_channels_make_short_different_folder_names():
    keys = [",".join(f"band_{i}" for i in range(start, start + 40)) for start in (0, 1)]
    names = {folder_name(key, 10, 0) for key in keys}
    assert len(names) == 2
    assert max(map(len, names)) < 100
    assert folder_name("near infrared,B/G", 3, 2).startswith("near_infrared+B_G-")


@pytest.mark.parametrize("pair", [("GFP 1,x", "GFP_1,x"), ("a/b", "a b"), ("a+b", "a,b")])
def test_names_that_differ_in_a_character_have_folders_of_their_own(pair):
    assert len({folder_name(subset, 3, 2) for subset in pair}) == 2


def test_what_cannot_be_compared_is_refused_before_training(adaptive, tmp_path):
    other = train_run(
        RunConfig.from_dict(merge(VALUES, {"training": {"lr": 0.01, "seed": 3}})),
        tmp_path / "r",
        cost=False,
    )
    with pytest.raises(RunError, match=r"differ in more than the seed \(training\.lr"):
        compare_dedicated([adaptive[0], other], tmp_path / "out")
    with pytest.raises(RunError, match="each run needs another seed, got 0, 0"):
        compare_dedicated([adaptive[0], adaptive[0]], tmp_path / "out")
    (other / "evaluation" / "test.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        compare_dedicated([other], tmp_path / "out")
    with pytest.raises(RunError, match="no run was given"):
        compare_dedicated([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dedicated_recipe_keeps_what_is_not_about_channels():
    training = {"epochs": 3, "schedule": "cosine", "warmup_epochs": 2, "ema": 0.99}
    config = RunConfig.from_dict(merge(VALUES, {"training": training}))
    alone = dedicated_config(config, FULL, 1)
    assert (alone.training.lr, alone.training.ema, alone.training.warmup_epochs) == (0.05, 0.99, 1)
    assert alone.classes == 2
