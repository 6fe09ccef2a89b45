"""A run on images with several labels, from its table to the report, predictions, the page's service and an export."""

from __future__ import annotations

import csv
import json
import re

import httpx
import numpy as np
import onnxruntime
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import anychannel as ac
from anychannel.cli import app
from anychannel.evaluation import load_evaluation
from anychannel.models import load_model
from anychannel.report import write_report
from anychannel.runs import evaluate_run
from anychannel.runs.predict import Predictor
from anychannel.runs.scene_map import map_scene
from tests.helpers.browser import CHROMIUM, browser  # noqa: F401
from tests.helpers.service import serving, train
from tests.helpers.several_labels import NAMES, write_table

KEYS = {"R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiles")
    write_table(root, 100)
    return root


@pytest.fixture(scope="module")
def run(data):
    settings = {"epochs": 3, "lr": 0.05, "crop_padding": 0}
    return train(data, data.parent / "several", channels="R,G,B", size=None, stem="completion", training=settings)


def invoke(*arguments):
    found = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_run_holds_thresholds_and_figures_of_each_label(run):
    record = json.loads((run / "run.json").read_text())
    assert record["several_labels"] is True
    assert record["monitor"] == "val_mean_map"
    assert set(record["best"]) >= {"train_loss", "val_mean_average_precision", "val_micro_f1", "val_macro_f1"}
    evaluation = load_evaluation(run)
    assert set(evaluation.subsets) == KEYS
    assert evaluation.thresholds == load_model(run).spec.thresholds
    for key, figures in evaluation.subsets.items():
        shares = evaluation.probabilities[key]
        held = evaluation.labels.any(axis=0)
        expected = average_precision_score(evaluation.labels[:, held], shares[:, held])
        assert figures["mean_average_precision"] == pytest.approx(expected)
        assert [each["threshold"] for each in figures["per_class"]] == list(evaluation.thresholds)
    again = evaluate_run(run, cache_dir=run.parent / "cache")
    assert again.to_dict() == evaluation.to_dict()


def test_a_figure_that_is_not_measured_is_refused_before_anything_is_written(data):
    with pytest.raises(ValueError, match="monitor 'accuracy' is not measured of images that may have several labels"):
        train(data, data.parent / "wrong", channels="R,G,B", size=None, training={"monitor": "accuracy"})
    assert not (data.parent / "wrong").exists()


def test_the_commands_print_mean_average_precision(run):
    found = invoke("evaluate", run, "--use", "R,G,B", "--use", "R,G", "--cache", run.parent / "cache")
    assert "mean AP   micro F1  macro F1" in found
    assert "threshold" in found
    table = invoke("compare", run, run)
    assert "micro F1, each" in table
    assert "–" in table  # no McNemar's test
    values = json.loads(invoke("compare", run, run, "--json"))["others"][str(run)]["R,G"]
    assert (values["difference"], values["p_value"]) == (0, None)


def test_predictions_name_the_labels_that_pass(run, data, tmp_path):
    files = sorted(str(path) for path in (data / "images").glob("00*.png"))
    found = ac.predict(str(run), files)
    assert found.thresholds == load_model(run).spec.thresholds
    given = [[name for name, has in zip(NAMES, row, strict=True) if has] for row in found.labels]
    invoke("predict", run, *files, "--out", tmp_path / "answers.csv", "--quiet")
    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))
    assert [row["labels"].split("|") if row["labels"] else [] for row in rows] == given
    assert "class" not in rows[0]
    shares = np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])
    np.testing.assert_allclose(shares, found.probabilities, atol=1e-5)
    invoke("predict", run, *files, "--out", tmp_path / "answers.jsonl", "--quiet")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["labels"] for line in lines] == given
    assert list(lines[0]["probabilities"]) == list(NAMES)
    brief = json.loads(invoke("predict", run, files[0], "--json", "--drop", "B"))[0]
    assert set(brief["labels"]) <= set(NAMES)
    assert brief["channels"] == ["R", "G"]


def test_the_report_shows_every_label(run, tmp_path):
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "3 labels, several an image" in page
    assert "Test mean average precision for each subset (%)" in page
    assert "there is no confusion matrix" in page
    assert "points of mean average precision" in page
    assert '<th scope="col" aria-sort="none"><button type="button">Threshold</button></th>' in page
    assert "accuracy" not in page.partition("<main>")[2].partition('<section id="cost"')[0].lower()
    assert (run / "figures/mean_average_precision.svg").is_file()
    assert not (run / "figures/confusion.svg").exists()


def test_the_service_tells_each_labels_probability_and_threshold(run, data):
    with serving(run) as url, httpx.Client(base_url=url, timeout=60) as client:
        model = client.get("/api/model").json()
        assert model["thresholds"] == list(load_model(run).spec.thresholds)
        assert model["expected"][0]["accuracy"] is None
        assert 0 < model["expected"][0]["mean_average_precision"] <= 1
        file = data / "images/001.png"
        answer = client.post("/api/predict", files={"file": (file.name, file.read_bytes())}, data={"top": 1}).json()
        found = ac.predict(str(run), [file])
        assert answer["labels"] == [name for name, has in zip(NAMES, found.labels[0], strict=True) if has]
        assert {guess["class"]: guess["threshold"] for guess in answer["top"]} == dict(
            zip(NAMES, model["thresholds"], strict=True)
        )
        assert "Expected mean average precision with these channels" in client.get("/").text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_says_which_labels_pass(run, browser):  # noqa: F811
    with serving(run) as url:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        page.locator("#strip button").first.click()
        page.wait_for_selector("#result[aria-busy=false]")
        answer = page.locator("#best").inner_text()
        sure = page.locator("#sure").inner_text()
        passing = re.fullmatch(r"(\d) of 3 labels pass their thresholds, (right|wrong: it is .*)", sure)
        assert passing is not None
        lines = page.locator("#top li").all_inner_texts()
        named = [line.split("\n")[0] for line in lines if "passes" in line]
        assert len(lines) == 3
        assert len(named) == int(passing[1])
        assert set(named) == (set() if answer == "no label" else set(answer.split(", ")))
        assert "±" in page.inner_text("#accuracy")
        assert "micro F1" in page.inner_text("#accuracy-note")
        assert page.locator("#top i.passes").count() == len(named)
        assert page.locator("#top i.below").count() == 3 - len(named)

        page.locator("#explain").click()
        page.wait_for_selector("#every:not([hidden])")
        page.locator("#every summary").click()
        with httpx.Client(base_url=url, timeout=60) as client:
            measured = {",".join(one["channels"]): one for one in client.get("/api/model").json()["expected"]}
            for row in page.locator("#every-rows tr").all():
                key = row.locator("th").inner_text().replace(", ", ",")
                asked = client.post("/api/predict", data={"image": "example-0", "channels": key}).json()
                right = (", ".join(asked["labels"]) or "no label") == asked["label"]
                cells = row.locator("td:visible").all_inner_texts()
                assert cells == [
                    f"{with_shares(asked)} ({'right' if right else 'wrong'})",
                    f"{100 * measured.pop(key)['mean_average_precision']:.1f}\u00a0%",
                ]
        assert measured == {}
        assert problems == []
        page.close()


def with_shares(answer):
    shares = {guess["class"]: guess["probability"] for guess in answer["top"]}
    return ", ".join(f"{name}\u00a0{100 * shares[name]:.1f}\u00a0%" for name in answer["labels"]) or "no label"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_lists_the_labels_of_several_images_and_downloads_what_predict_writes(run, data, browser, tmp_path):  # noqa: F811
    files = sorted((data / "images").glob("00*.png"))[:6]
    dead = tmp_path / "dead.png"
    pixels = np.array(Image.open(files[0]))
    pixels[..., 0], pixels[..., 1] = 255, np.arange(12) % 2 * 255
    Image.fromarray(pixels).save(dead)
    files.append(dead)
    command = tmp_path / "command.csv"
    invoke("predict", run, *files, "--out", command, "--quiet")
    with serving(run) as url, httpx.Client(base_url=url, timeout=60) as client:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.goto(url)
        page.wait_for_selector("#strip button")
        page.get_by_label("Choose images").set_input_files(files)
        page.get_by_role("button", name="Download 7 answers as CSV").wait_for()
        with page.expect_download() as download:
            page.locator("#csv").click()
        download.value.save_as(tmp_path / "page.csv")
        ours, theirs = (
            list(csv.reader((tmp_path / name).read_text().splitlines())) for name in ("page.csv", "command.csv")
        )
        assert ours[0] == theirs[0]
        told = ours[0].index("error") + 1
        for mine, other in zip(ours[1:], theirs[1:], strict=True):
            assert mine[1:told] == other[1:told]
            assert other[0].endswith(f"/{mine[0]}")
            np.testing.assert_allclose(list(map(float, mine[told:])), list(map(float, other[told:])), rtol=1e-3)
        assert {len(row[2].split("|")) for row in ours[1:]} > {1}
        for row, file in zip(page.locator("#own-rows tr").all(), files, strict=True):
            asked = client.post("/api/predict", files={"file": (file.name, file.read_bytes())}).json()
            doubt = row.locator("td:visible").last.inner_text()
            assert row.locator("td:visible").first.inner_text() == with_shares(asked)
            assert row.locator("td:visible").count() == 2
            assert doubt == ("check R and G; unlike the training images" if file is dead else "")
        page.close()


def test_an_export_holds_the_thresholds(run, data, tmp_path):
    metadata = ac.export_model(load_model(run), tmp_path / "model.onnx", channels="R,G", image_size=12)
    assert metadata["thresholds"] == list(load_model(run).spec.thresholds)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    pixels = Predictor(run).open(data / "images/001.png").pixels[None, :2].astype(np.float32)
    logits = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    expected = ac.predict(str(run), [data / "images/001.png"], use="R,G").probabilities
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-4)
    with pytest.raises(ValueError, match="a map shows one class at each place"):
        map_scene(run, data / "images/001.png", tmp_path / "map.tif")


def test_a_network_of_several_labels_learns_from_another(run, data, tmp_path):
    settings = {"epochs": 1, "lr": 0.05, "crop_padding": 0, "distill": 0.5}
    home = train(
        data, tmp_path / "pupil", channels="R,G,B", size=None, stem="completion", training=settings, teacher=str(run)
    )
    assert json.loads((home / "run.json").read_text())["status"] == "finished"
