from __future__ import annotations

import json
import re

import pytest

from anychannel.report import write_report
from anychannel.results.run import RunError, load_runs
from tests.helpers.run_folders import make_run


def test_a_folder_that_is_not_a_run_is_named(tmp_path):
    expected = re.escape(f"{tmp_path} is not a run: it has no run.json; give a folder that `anychannel train` wrote")
    with pytest.raises(RunError, match=expected):
        write_report([tmp_path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(RunError, match=re.escape(f"{tmp_path / 'gone'} is not a run: there is no such folder")):
        load_runs([tmp_path / "gone"])


def test_no_folder_at_all_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no run was given"):
        load_runs([])


@pytest.mark.parametrize(
    ("text", "said"), [("{", "run.json is damaged: it is not JSON"), ("[]", "holds a list, expected an object")]
)
def test_a_damaged_record_is_named(tmp_path, text, said):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=said):
        load_runs([tmp_path])


def test_a_folder_given_twice_is_read_once(tmp_path):
    run = make_run(tmp_path / "a")
    assert len(load_runs([run, tmp_path / "." / "a"])) == 1


def test_runs_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    folders = [make_run(tmp_path / part / "run", name="net") for part in ("a", "b")]
    folders.append(make_run(tmp_path / "c", name="other"))
    assert [run.name for run in load_runs(folders)] == ["net (a/run)", "net (b/run)", "other"]


@pytest.mark.parametrize("name", ["evaluation/test.json", "cost.json", "examples.json", "environment.json"])
@pytest.mark.parametrize("text", ["{", '{"subsets": 3}', "[1]"])
def test_a_damaged_piece_is_left_out_and_said(tmp_path, name, text):
    run = make_run(tmp_path / "a")
    (run / name).write_text(text)
    (loaded,) = load_runs([run])
    if name == "environment.json" and text.startswith('{"'):
        assert not loaded.problems
    else:
        (problem,) = loaded.problems
        assert problem.startswith(f"{name} is damaged and was left out")
    write_report([run], tmp_path / "page.html")


@pytest.mark.parametrize("value", ["Infinity", "NaN", '"long"', "[]"])
def test_a_figure_of_the_record_that_says_nothing_is_left_out(tmp_path, value):
    run = make_run(tmp_path / "a")
    record = json.loads((run / "run.json").read_text()) | {"seconds": 0, "image_size": 0}
    text = json.dumps(record)
    for key in ("seconds", "image_size"):
        text = text.replace(f'"{key}": 0', f'"{key}": {value}')
    (run / "run.json").write_text(text)
    write_report([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Training time" not in page
    assert " pixels" not in page


def test_a_damaged_line_of_the_metrics_is_counted(tmp_path):
    run = make_run(tmp_path / "a", epochs=4)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "train')
    (loaded,) = load_runs([run])
    assert [row.epoch for row in loaded.epochs] == [1, 2, 3, 4]
    assert loaded.problems == ("metrics.jsonl has 1 damaged line, left out.",)


def test_a_value_of_another_type_is_named_by_its_place(tmp_path):
    run = make_run(tmp_path / "a")
    record = json.loads((run / "evaluation/test.json").read_text())
    record["subsets"]["R,G"]["macro"]["f1"] = "high"
    (run / "evaluation/test.json").write_text(json.dumps(record))
    (loaded,) = load_runs([run])
    assert loaded.test is None
    assert "(subsets: R,G: macro: f1: expected float, got 'high')" in loaded.problems[0]


def test_the_best_epoch_of_a_run_that_has_not_ended_is_its_best_validation(tmp_path):
    run = make_run(tmp_path / "a", epochs=10, status="running", best_epoch=None, test=False, cost=False)
    (loaded,) = load_runs([run])
    assert loaded.best == max(loaded.epochs, key=lambda row: row.val_accuracy)


def test_only_pictures_are_taken_from_the_examples(tmp_path):
    run = make_run(tmp_path / "a")
    path = run / "examples.json"
    path.write_text(path.read_text().replace("data:image/png;base64,", "https://example.org/", 1))
    (loaded,) = load_runs([run])
    assert [sorted(image["png"]) for image in loaded.examples["images"]] == [["B", "G"], ["B", "G", "R"]]


MEASURES = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")


@pytest.mark.parametrize("status", ["finished", "running", "failed"])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("epochs", [(4,), tuple(range(1, 11))])
def test_epochs_without_a_finite_loss_are_left_out_of_the_curves_and_said(tmp_path, status, value, epochs):
    run = make_run(tmp_path / "a", status=status)
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["epoch"] in epochs:
            row |= dict.fromkeys(MEASURES, value) | {"skipped_steps": 7}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report([run, make_run(tmp_path / "b")], tmp_path / "page.html").read_text()
    named = "epoch 4" if len(epochs) == 1 else "epochs 1, 2, 3, 4, 5, ..."
    assert f"There is no finite training loss for {named}, which the curves leave out." in page
    assert f"a: {7 * len(epochs)} training steps skipped, because the gradients were not finite." in page
    assert not re.search(r"\b(nan|inf|None)\b", page.split("</head>")[1])


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluation/test.json", "cost.json", "examples.json", "config.toml"])
@pytest.mark.parametrize("status", ["finished", "running"])
def test_a_report_is_drawn_without_a_file(tmp_path, name, status):
    run = make_run(tmp_path / "a", status=status)
    (run / name).unlink()
    page = write_report([run], tmp_path / "page.html").read_text()
    said = "metrics.jsonl is missing or has no epoch, so there are no curves."
    assert (said in page) is (name == "metrics.jsonl" and status == "finished")


@pytest.mark.parametrize("key", ["channels", "classes", "num_train", "num_test", "image_size", "params", "seed"])
@pytest.mark.parametrize("value", [None, "x", -1, [], {}])
def test_a_report_is_drawn_whatever_a_field_of_the_record_holds(tmp_path, key, value):
    run = make_run(tmp_path / "a")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {key: value}))
    assert "Verdict" in write_report([run], tmp_path / "page.html").read_text()
