"""Cross-validation over a fold column, splits by a column and data without a test split, as runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anychannel.evaluation import load_evaluation
from anychannel.report import write_report
from anychannel.results.folds import find_folds
from anychannel.results.run import RunError, load_runs
from anychannel.runs import RunConfig, cross_validate, evaluate_run, train_run
from anychannel.runs.config import ConfigError
from tests.helpers.commands import anychannel
from tests.helpers.image_files import bright_halves, write_image

TRAINING = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def crowns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of two uneven classes, with plots and folds, in a CSV."""
    root = tmp_path_factory.mktemp("data") / "crowns"
    draw = bright_halves(np.random.default_rng(0), 12, 12)
    lines = ["file,label,plot,fold"]
    for i in range(60):
        label = int(i % 4 == 0)
        write_image(root / f"images/{i}.png", draw(label))
        lines.append(f"images/{i}.png,{('pine', 'oak')[label]},P{i // 5},{i // 5 % 3}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def config_of(data: Path, **options) -> RunConfig:
    network = {"model": "compact_k7", "model_options": {"width": 16}, "stem": "static"}
    return RunConfig.from_dict({"data": str(data), **network, "data_options": options, "training": TRAINING})


@pytest.fixture(scope="module")
def folds(crowns: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return cross_validate(config_of(crowns, fold_by="fold"), tmp_path_factory.mktemp("runs") / "cv", cost=False)


def test_every_image_is_tested_once_by_a_network_that_did_not_see_its_fold(folds: list[Path]):
    assert [run.name for run in folds] == ["fold-0", "fold-1", "fold-2"]
    paths = [path for run in folds for path in load_evaluation(run).paths]
    assert sorted(paths) == sorted(f"images/{i}.png" for i in range(60))
    records = [json.loads((run / "run.json").read_text()) for run in folds]
    assert [record["fold"] for record in records] == ["0", "1", "2"]
    assert {record["monitor"] for record in records} == {"val_mean_balanced_accuracy"}
    assert records[0]["split"] == "split by fold: 0 is the test split, 1 validation"
    assert sum(records[0]["class_counts"]["train"]) == 20


def test_the_summary_is_the_mean_over_folds_and_resuming_trains_nothing(folds: list[Path], crowns: Path):
    (found,) = find_folds(load_runs(folds))
    for name, spreads in found.rows.items():
        values = [load_evaluation(run).subsets[name]["balanced_accuracy"] for run in folds]
        assert spreads["balanced_accuracy"].values == pytest.approx(values)
        assert spreads["balanced_accuracy"].deviation == pytest.approx(np.std(values, ddof=1))
    before = [(run / "run.json").stat().st_mtime_ns for run in folds]
    config = config_of(crowns, fold_by="fold")
    assert cross_validate(config, folds[0].parent, resume=True, cost=False) == folds
    assert [(run / "run.json").stat().st_mtime_ns for run in folds] == before
    with pytest.raises(RunError, match="is not empty; add --resume to continue its folds"):
        cross_validate(config, folds[0].parent)
    with pytest.raises(ConfigError, match="cross-validation needs fold_by, the column of folds, and no fold"):
        cross_validate(config_of(crowns, fold_by="fold", fold="1"), folds[0].parent)
    page = write_report(folds, folds[0].parent / "report.html").read_text()
    assert "Over 3 folds, balanced accuracy is" in page


def test_the_command_trains_folds_and_prints_their_mean(crowns: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(config_of(crowns).to_toml())
    done = anychannel("train", "--config", recipe, "--fold-by", "fold", "--no-cost", "--out", tmp_path / "cv")
    assert "3 folds (%)       accuracy       balanced       macro F1" in done.stderr
    assert "2 classes; 20 / 20 / 20 images (train / val / test), split by fold: 0 is the test split" in done.stderr
    assert (tmp_path / "cv" / "report.html").is_file()


def test_data_without_a_test_split_are_evaluated_on_validation_images(crowns: Path, tmp_path: Path):
    root = tmp_path / "small"
    root.mkdir()
    (root / "images").symlink_to(crowns / "images")
    for split, rows in (("train", range(40)), ("val", range(40, 60))):
        (root / f"{split}.txt").write_text("".join(f"images/{i}.png {int(i % 4 == 0)}\n" for i in rows))
    home = train_run(config_of(root), tmp_path / "run", cost=False)
    assert not (home / "evaluation/test.json").exists()
    stored = load_evaluation(home)
    assert (stored.split, len(stored.labels)) == ("val", 20)
    (run,) = load_runs([home])
    assert run.measured == "validation"
    assert run.test.n == 20
    assert evaluate_run(home).split == "val"
    assert "no test split" in write_report([home], tmp_path / "report.html").read_text()
