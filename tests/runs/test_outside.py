"""A network that was trained elsewhere gets a record and a report from its test images alone."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from typer.testing import CliRunner

import anychannel as ac
from anychannel.cli import app
from anychannel.data import to_tensor
from anychannel.results.evaluation import load_evaluation
from anychannel.results.run import RunError, load_runs
from anychannel.runs import Predictor
from anychannel.runs.outside import record_model
from tests.helpers.run_folders import make_run
from tests.helpers.torch_data import Dictionaries, Pairs, write_folder
from tests.helpers.training import draw_present, make_model, make_split, plain_model

KEYS = ("R,G,B", "R,G", "R,B", "G,B", "R", "G", "B")


def test_the_page_shows_every_subset_of_a_network_that_fit_never_saw(tmp_path):
    model, data = make_model(), Pairs(40)
    out = ac.report(model, DataLoader(data, 16, shuffle=True), out=tmp_path / "report.html", name="theirs")
    text = out.read_text(encoding="utf-8")
    assert "theirs was trained outside anychannel" in text
    assert "40 test images" in text
    assert all(key in text for key in KEYS)
    assert "data:image/png" in text
    assert "damaged" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("kind", ["folder", "loader", "split", "partial"])
def test_the_record_is_a_run_that_other_commands_read(kind, tmp_path):
    split = make_split(40, 1)
    write_folder(tmp_path / "photos", 40)
    sources = {
        "folder": ImageFolder(tmp_path / "photos"),
        "loader": DataLoader(Dictionaries(40), 16),
        "split": split,
        "partial": Dictionaries(40, present=draw_present(40, 1)),
    }
    model = make_model()
    home = record_model(model, sources[kind], tmp_path / "run")
    [run] = load_runs([home])
    assert run.problems == ()
    assert run.trained_elsewhere
    assert set(run.test.subsets) == set(KEYS)
    assert len(run.examples["images"]) == 8
    assert run.text("dataset") == {"folder": "photos", "loader": "Dictionaries", "split": "Split"}.get(
        kind, "Dictionaries"
    )
    expected = ac.evaluate(model, sources[kind])
    assert load_evaluation(home).subsets == expected.subsets
    predictor = Predictor(home)
    image = predictor.open(split.images[3], "R,G,B")
    own = torch.softmax(model.eval()(to_tensor(split.images[3])[None])[0], dim=0)
    torch.testing.assert_close(predictor.predict(image).probabilities, own, rtol=1e-4, atol=1e-5)
    pixels = np.load(home / "examples.npy")
    first = run.examples["images"][0]
    if kind in ("loader", "split"):
        place = int(first["path"].removesuffix(".png").removeprefix("image_"))
        assert np.array_equal(pixels[0], split.images[place])
    assert record_model(model, sources[kind], home) == home  # its own record is replaced


def test_a_folder_of_anything_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty, and holds no record of a network trained elsewhere"):
        record_model(make_model(), Pairs(8), tmp_path)
    make_run(tmp_path / "run")
    with pytest.raises(RunError, match="is not empty"):
        record_model(make_model(), Pairs(8), tmp_path / "run")


def test_a_network_of_an_own_class_is_served_when_it_is_passed(tmp_path):
    model = plain_model().float()
    with pytest.warns(UserWarning, match="weights of your own class .*Plain, which only your code can build"):
        home = record_model(model, Pairs(16), tmp_path / "run")
    image = make_split(16, 1).images[0]
    predictor = Predictor(home, model=model)
    assert predictor.predict(predictor.open(image, "R,G,B")).classes == ("0", "1", "2", "3")
    with pytest.raises(ValueError, match="adapted from a network of your own"):
        Predictor(home)
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from anychannel.serve import create_app

    client = TestClient(create_app(home, model=model))
    assert client.get("/").status_code == 200
    found = client.get("/api/model").json()
    assert found["model"].endswith("Plain")


def test_it_is_compared_with_runs_of_the_same_images(tmp_path):
    one, two = make_model(), make_model(seed=1)
    folder = tmp_path / "one"
    ac.report(one, Pairs(40), tmp_path / "one.html", folder=folder)
    out = ac.report(two, Pairs(40), tmp_path / "both.html", folder=tmp_path / "two", compare_with=[folder])
    text = out.read_text(encoding="utf-8")
    assert "one was trained outside" in text
    assert "two was trained outside" in text
    assert "groups" not in text.split('id="training"')[0]
    done = CliRunner().invoke(app, ["compare", str(folder), str(tmp_path / "two")])
    assert done.exit_code == 0, done.output
    assert "n = 40" in done.output


def test_the_function_is_there_however_the_package_was_imported():
    for first in (
        "",
        "import anychannel.report",
        "import anychannel.report as r; r.write_report; r()",
        "ac.write_report",
    ):
        code = (
            f"import anychannel as ac\ntry:\n    {first or 'pass'}\nexcept TypeError as e: assert 'model' in str(e)\n"
            "assert callable(ac.report)\nfrom anychannel.report import write_report\nimport anychannel.report.page\n"
            "import inspect, sys\nassert 'torch' not in sys.modules\nassert callable(ac.report)\n"
            "assert list(inspect.signature(ac.report).parameters)[:3] == ['model', 'data', 'out']\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


SCRIPT = """
from tests.helpers.torch_data import Pairs
from tests.helpers.training import make_model

def network():
    return make_model()

def both():
    return make_model(), Pairs(24)

def test_set():
    return Pairs(24)

def needs(argument):
    return argument

MODEL = make_model()
"""


def call(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_the_command_reports_on_a_network_of_the_users_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(str(tmp_path))
    for arguments in (
        ("--module", "mine.py:network", "--data", "mine.py:test_set"),
        ("--module", "mine:both"),
        ("--module", "mine:MODEL", "--data", "mine:test_set", "--folder", "kept", "--name", "theirs"),
    ):
        done = call(*arguments, "--out", "page.html")
        assert done.exit_code == 0, done.output
        assert "trained outside anychannel" in (tmp_path / "page.html").read_text(encoding="utf-8")
        (tmp_path / "page.html").unlink()
    assert load_runs([tmp_path / "kept"])[0].name == "theirs"
    for arguments, message in (
        (("--module", "mine.py"), "takes package.module:function or file.py:function"),
        (("--module", "other.py:network"), "there is no file other.py"),
        (("--module", "nowhere.at_all:network"), "there is no module 'nowhere.at_all'"),
        (("--module", "mine.py:nothing"), "mine.py has no 'nothing'"),
        (("--module", "mine.py:needs"), "is called without arguments"),
        (("--module", "mine.py:network"), "give its test data with --data"),
        (("--module", "mine.py:test_set", "--data", "mine.py:test_set"), "a channel-adaptive network, an nn.Module"),
        (("--data", "mine.py:test_set"), "without --module there is no network to evaluate; leave out --data"),
        ((), "name at least one run, or a network with --module"),
    ):
        done = call(*arguments)
        assert done.exit_code == 2, (arguments, done.output, done.exception)
        assert message in done.output


def test_the_page_of_a_run_takes_a_network_of_the_users_code(tmp_path, monkeypatch):
    serve = pytest.importorskip("anychannel.serve")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(SCRIPT)
    taken = {}
    monkeypatch.setattr(serve, "serve", lambda run, **options: taken.update(options, run=run))
    done = CliRunner().invoke(app, ["serve", str(tmp_path), "--module", "own.py:both"])
    assert done.exit_code == 0, done.output
    assert taken["model"].channels.names == ("R", "G", "B")
