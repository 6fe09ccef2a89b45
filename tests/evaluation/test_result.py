"""An evaluation in a run's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest

from anychannel.evaluation import Evaluation, load_evaluation
from anychannel.results.metrics import compute_metrics


def make(keys=("R,G", "R", "G"), full="R,G", refused=()):
    generator = np.random.default_rng(0)
    labels = np.array([0, 1, 1, 0])
    tables = {key: generator.dirichlet([1, 1], size=4).astype(np.float32) for key in keys if key not in refused}
    return Evaluation(
        split="test",
        classes=("née", "b"),
        full=full,
        subsets={
            key: {"refused": "no"} if key in refused else compute_metrics(labels, tables[key], ("née", "b"))
            for key in keys
        },
        sampled=True,
        note="a sample",
        paths=("x/1.png", "x/2.png", "y/3.png", "y/ü.png"),
        labels=labels,
        probabilities=tables,
    )


def test_an_evaluation_reads_back_as_it_was_saved(tmp_path):
    saved = replace(make(refused=("G",)), digests=("1f", "2e", "3d", "4c"))
    saved.save(tmp_path)
    loaded = load_evaluation(tmp_path)
    assert loaded.digests == saved.digests
    assert loaded.to_dict() == saved.to_dict()
    assert loaded.paths == saved.paths
    np.testing.assert_array_equal(loaded.labels, saved.labels)
    assert list(loaded.probabilities) == ["R,G", "R"]
    for key, table in saved.probabilities.items():
        np.testing.assert_array_equal(loaded.probabilities[key], table)


def test_the_files_hold_what_the_report_reads(tmp_path):
    make().save(tmp_path)
    record = json.loads((tmp_path / "evaluation" / "test.json").read_text(encoding="utf-8"))
    assert set(record) == {"split", "n", "classes", "full", "subsets", "gap", "shapley", "sampled", "note"}
    with np.load(tmp_path / "evaluation" / "test_predictions.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"paths", "labels", "classes", "R,G", "R", "G"}
        assert arrays["R,G"].dtype == np.float32
        assert arrays["classes"].tolist() == ["née", "b"]


def test_saving_again_replaces_both_files_and_leaves_nothing_else(tmp_path):
    make().save(tmp_path)
    make(keys=("R,G",)).save(tmp_path)
    assert list(load_evaluation(tmp_path).probabilities) == ["R,G"]
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == ["test.json", "test_predictions.npz"]


def test_equal_evaluations_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        make().save(tmp_path / name)
    first, second = ((tmp_path / name / "evaluation" / "test_predictions.npz").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("name", ["paths", "labels", "classes", "file", "allow_pickle", "Cy5/red"])
def test_a_channel_may_have_any_name(tmp_path, name):
    saved = make(keys=(f"{name},G", name, "G"), full=f"{name},G")
    saved.save(tmp_path)
    loaded = load_evaluation(tmp_path)
    assert list(loaded.probabilities) == [f"{name},G", name, "G"]
    np.testing.assert_array_equal(loaded.probabilities[name], saved.probabilities[name])
    assert loaded.paths == saved.paths


@pytest.mark.parametrize("name", ["test.json", "test_predictions.npz"])
@pytest.mark.parametrize("damage", ["truncated", "junk", "empty", "another"])
def test_a_damaged_file_is_named_with_how_to_write_it_anew(tmp_path, name, damage):
    make().save(tmp_path)
    file = tmp_path / "evaluation" / name
    whole = file.read_bytes()
    with ZipFile(tmp_path / "another.npz", "w"):
        pass
    another = b"[3]" if name == "test.json" else (tmp_path / "another.npz").read_bytes()
    file.write_bytes({"truncated": whole[:40], "junk": b"PK\x03\xff", "empty": b"", "another": another}[damage])
    message = rf"{name} is damaged; write it anew: anychannel evaluate .* --split test --save"
    with pytest.raises(ValueError, match=message):
        load_evaluation(tmp_path)


def test_a_run_that_was_not_evaluated_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"val\.json is missing; evaluate the run on its val split first"):
        load_evaluation(tmp_path, "val")
