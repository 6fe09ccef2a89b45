"""Prediction of many files: what is named, what comes out, what a missing channel does."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet
from anychannel.cli import app
from anychannel.data import DataError
from anychannel.data.image_paths import find_images
from anychannel.runs.predict import BATCH, Predictor
from tests.helpers.commands import Command
from tests.helpers.image_files import write_image

STATISTICS = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3)
CLASSES = ("cat", "dog", "a,b")


def save(folder, **options):
    torch.manual_seed(0)
    model = ac.create_model(
        "compact_k7", channels=STATISTICS, num_classes=3, classes=CLASSES, model_options={"width": 16}, **options
    )
    ac.save_model(model.eval(), folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Seven photographs in two folders, of two sizes."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(7):
        side = 16 if number % 2 else 12
        folder = "photos/a" if number < 4 else "photos/b c"
        write_image(tmp_path / folder / f"{number}.png", random.integers(0, 256, (3, side, side)).astype(np.uint8))
    return tmp_path / "photos"


def paths(*named):
    return [image.path for image in find_images(named)]


def run(*arguments, **options):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], **options)


def expected(home, path, channels="R,G,B"):
    """One image at a time through the model, without anything of the predictor."""
    model = ac.load_model(home)
    pixels = np.moveaxis(np.asarray(Image.open(path)), -1, 0)[["RGB".index(name) for name in channels.split(",")]]
    with torch.no_grad():
        return model(torch.from_numpy(pixels[None].copy()), channels=channels).softmax(dim=1)[0].numpy()


def test_files_folders_patterns_and_lists_name_images(photos):
    files = [f"photos/a/{i}.png" for i in range(4)] + [f"photos/b c/{i}.png" for i in range(4, 7)]
    (photos / "a" / "notes.txt").write_text("not an image")
    (photos / "a" / ".hidden.png").write_text("")
    assert paths("photos") == files
    assert paths("photos/*/*.png") == paths("photos/**/*.png") == files
    assert paths("photos/b*/*5.png", "photos/a/0.png") == [files[5], files[0]]
    (photos / "list.txt").write_text("\ufeffa/1.png\r\n\r\n  photos/b c/6.png \n")
    assert paths(photos / "list.txt") == [str(photos / "a/1.png"), files[6]]
    assert paths("missing.png", files[0]) == ["missing.png", files[0]]


def test_names_with_brackets_are_names_and_no_patterns(photos):
    odd = photos / "a" / "[0].png"
    (photos / "a" / "0.png").rename(odd)
    assert paths("photos/a/[0].png") == ["photos/a/[0].png"]


@pytest.mark.parametrize("content", [b"photos/a/0.png\nphotos/b c/5.png\n", b"photos/a/0.png\0photos/b c/5.png\0"])
def test_paths_come_from_standard_input(photos, monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert paths("-") == ["photos/a/0.png", "photos/b c/5.png"]


def test_what_names_no_image_is_refused(photos):
    (photos / "empty").mkdir()
    (photos / "list.txt").write_text("\n")
    refusals = {
        "photos/empty": "holds no image file",
        "photos/list.txt": "names no image file",
        "photos/*.jpg": r"no file fits the pattern photos/\*.jpg",
    }
    for named, message in refusals.items():
        with pytest.raises(DataError, match=message):
            find_images([named])
    with pytest.raises(FileNotFoundError):
        find_images(["none.png", "neither.png"])


def test_every_class_has_its_probability_in_the_table(home, photos):
    done = run(home, "photos", "--precision", "fp32", "--out", "answers.csv")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    with open("answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == paths("photos")
    for row in rows:
        shares = [float(row[f"p_{name}"]) for name in CLASSES]
        np.testing.assert_allclose(shares, expected(home, row["file"]), atol=1e-5)
        assert row["class"] == CLASSES[int(np.argmax(shares))]
        assert float(row["probability"]) == max(shares)
        assert row["channels"] == "R,G,B"


def test_json_lines_hold_the_same(home, photos):
    for name in ("answers.csv", "answers.jsonl"):
        assert run(home, "photos", "--out", name).exit_code == 0
    with open("answers.csv", newline="") as table, open("answers.jsonl") as lines:
        for row, line in zip(csv.DictReader(table), map(json.loads, lines), strict=True):
            assert row["file"] == line["path"]
            assert row["channels"].split(",") == line["channels"]
            assert [float(row[f"p_{name}"]) for name in CLASSES] == pytest.approx(
                list(line["probabilities"].values()), rel=1e-5
            )


def test_a_channel_is_taken_away_or_kept(home, photos):
    kept = ac.predict(home, "photos", use="G,R")
    dropped = ac.predict(home, "photos", drop="B")
    np.testing.assert_array_equal(kept.probabilities, dropped.probabilities)
    assert set(kept.channels) == {("R", "G")}
    np.testing.assert_allclose(kept.probabilities[2], expected(home, kept.paths[2], "R,G"), atol=1e-5)
    assert not np.allclose(kept.probabilities, ac.predict(home, "photos").probabilities, atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--use", "R,X"), "unknown channel 'X'"),
        (("--drop", "R,G,B"), "no channel is left without R, G, B"),
        (("--use", "R", "--drop", "G"), "give one"),
        (("--use", "B", "--channels", "R,G,-"), "the files have the channels R, G, not B"),
        (("--out", "answers.xlsx"), "predictions are written as .csv or .jsonl, got 'answers.xlsx'"),
        (("--out", "nowhere/answers.csv"), "does not exist"),
        (("--precision", "fp8"), "unknown precision 'fp8'"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(home, photos, flags, message):
    done = run(home, "photos", *flags)
    assert done.exit_code == 2
    assert message in done.stderr.replace("\n", " ")
    assert not list(photos.parent.glob("answers*"))


def test_images_with_other_channels_and_sizes_are_mixed(home, photos):
    write_image(photos / "a" / "two.png", np.full((1, 16, 16), 9, np.uint8))
    (photos / "channels.csv").write_text('path,channels\na/two.png,G\nb c,"R,G,X"\n')
    found = ac.predict(home, photos)
    held = dict(zip(found.paths, found.channels, strict=True))
    assert held[str(photos / "a/two.png")] == ("G",)
    assert held[str(photos / "b c/5.png")] == ("R", "G")
    assert held[str(photos / "a/3.png")] == ("R", "G", "B")
    row = found.paths.index(str(photos / "b c/5.png"))
    np.testing.assert_allclose(found.probabilities[row], expected(home, found.paths[row], "R,G"), atol=1e-5)
    without = run(home, photos, "--use", "R", "--json")
    assert without.exit_code == 1
    assert "two.png does not hold R; it holds G" in without.stderr
    assert [entry["channels"] for entry in json.loads(without.stdout) if "error" not in entry] == [["R"]] * 7


def test_answers_do_not_depend_on_the_batch(home, photos):
    many = [*paths("photos")] * (BATCH // 3)
    together = ac.predict(home, many)
    alone = [ac.predict(home, path).probabilities[0] for path in many[:7]]
    assert len(together) == len(many) > 2 * BATCH
    np.testing.assert_allclose(together.probabilities, np.tile(alone, (BATCH // 3, 1)), atol=1e-5)


def test_a_flag_given_twice_is_joined_or_refused_and_hints_name_flags(home, photos):
    dropped = [
        run(home, "photos/a", *given, "--json").stdout for given in (("--drop", "R,G"), ("--drop", "R", "--drop", "G"))
    ]
    assert dropped[0] == dropped[1]
    assert "--use R,G gives all of them" in run(home, "photos/a", "--use", "R", "--use", "G").stderr
    Image.new("L", (8, 8)).save("grey.png")
    Image.new("P", (8, 8)).save("palette.png")
    for name in ("grey.png", "palette.png"):  # a trained network reads images as in training
        assert "convert=" not in (said := run(home, name).stderr)
        assert name in said
    float_image = np.full((3, 8, 8), np.nan, np.float32)
    np.save("nan.npy", float_image)
    assert "give --nodata NUMBER" in run(home, "nan.npy").stderr


def test_a_bad_file_is_named_and_the_others_are_answered(home, photos):
    (photos / "a" / "broken.png").write_bytes(b"no image")
    done = run(home, "photos", "missing.png", "--out", "answers.csv")
    assert done.exit_code == 1
    for name in ("broken.png", "missing.png"):
        assert name in done.stderr
    with open("answers.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == 9
    assert "not an image in a known format (.jpg, .jpeg, .png" in rows["photos/a/broken.png"]["error"]
    assert rows["photos/a/broken.png"]["class"] == ""
    assert run(home, "photos/a/broken.png", "--out", "none.csv").exit_code == 2
    with pytest.raises(DataError, match=r"broken\.png"):
        ac.predict(home, "photos")
    found = ac.predict(home, "photos", skip_bad=True)
    assert len(found) == 7
    assert list(found.failed) == ["photos/a/broken.png"]


def test_a_refused_subset_is_an_error_of_its_images_alone(photos, tmp_path):
    home = save(tmp_path / "masked", stem="masked", stem_options={"trained": [0, 1, 2]})
    write_image(photos / "a" / "one.png", np.full((1, 16, 16), 9, np.uint8))
    (photos / "channels.csv").write_text("path,channels\na/one.png,G\n")
    done = run(home, photos, "--json")
    entries = json.loads(done.stdout)
    assert sorted("error" in entry for entry in entries) == [False] * 7 + [True]
    assert done.exit_code == 1


def test_a_model_is_used_as_it_is(home, photos):
    model = ac.load_model(home).train()
    found = ac.predict(model, photos / "a")
    np.testing.assert_allclose(found.probabilities, ac.predict(home, photos / "a").probabilities, atol=1e-6)
    assert model.training
    assert found.top(1)[0][0][0] == CLASSES[found.labels[0]]


def test_remarks_on_many_images_are_counted(home, photos):
    for number in range(25):
        write_image(photos / "far" / f"{number}.png", np.full((3, 8, 8), 255 * (number % 2), np.uint8))
        np.save(photos / "far" / f"{number}.npy", np.full((3, 8, 8), 9e4, np.float32))
    done = run(home, photos / "far", "--out", "answers.csv")
    assert done.exit_code == 0
    assert done.stderr.count("averages") <= 40
    assert "more remarks about images are in the file" in done.stderr
    with open("answers.csv", newline="") as file:
        assert sum("unlike the training images" in row["unlike"] for row in csv.DictReader(file)) == 25


def test_ctrl_c_leaves_a_readable_table(home, photos):
    many = photos / "many.txt"
    many.write_text("".join(f"a/{i % 4}.png\n" for i in range(6000)))
    command = Command("predict", home, many, "--out", "answers.csv", cwd=Path.cwd())
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (os.path.exists("answers.csv") and os.path.getsize("answers.csv") > 2000):
        time.sleep(0.02)
    os.kill(command.process.pid, signal.SIGINT)
    done = command.finish(60)
    assert done.returncode == 130, done.stderr
    with open("answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 0 < len(rows) < 6000
    assert f"answers.csv holds {len(rows):,} predictions" in done.stderr
    assert all(sum(float(row[f"p_{name}"]) for name in CLASSES) == pytest.approx(1, abs=1e-4) for row in rows)


def test_a_predictor_refuses_a_channel_that_an_image_lacks(home):
    predictor = Predictor(home)
    image = predictor.open(np.zeros((2, 8, 8), np.uint8), "R,G", layout="planar")
    with pytest.raises(ChannelError, match="the image does not hold B; it holds R, G"):
        predictor.predict(image, "B")


def test_a_dead_channel_is_named_and_left_out_if_asked(home, photos):
    whole = np.array(Image.open(photos / "a/1.png"))
    whole[..., 1] = 255
    Image.fromarray(whole).save(photos / "dead.png")
    images = [photos / "dead.png", photos / "a/1.png"]
    done = run(home, *images, "--json")
    first, intact = json.loads(done.stdout)
    assert (first["dead"], first["channels"], intact["dead"]) == (["G"], ["R", "G", "B"], [])
    assert first["notes"] == [
        "G is 255 throughout: it may be dead or saturated, and the answer may be better without it."
    ]
    assert first["notes"][0] in done.stderr
    run(home, *images, "--out", "answers.csv", "--drop-dead")
    with open("answers.csv", newline="") as file:
        fewer, same = list(csv.DictReader(file))
    assert (fewer["dead"], fewer["channels"], same["dead"], same["channels"]) == ("G", "R,B", "", "R,G,B")
    assert "it was left out" in fewer["notes"]
    kept, without = (ac.predict(home, images, drop_dead=True), ac.predict(home, images[0], drop="G"))
    np.testing.assert_allclose(kept.probabilities[0], without.probabilities[0], atol=1e-6)
    assert kept.dead == (("G",), ())
    arrays = np.stack([np.moveaxis(np.array(Image.open(path)), -1, 0) for path in images])
    found = ac.predict(ac.load_model(home), arrays, drop_dead=True)
    np.testing.assert_allclose(found.probabilities, kept.probabilities, atol=1e-5)
    assert (found.dead, found.channels) == (kept.dead, kept.channels)
    assert ac.predict(home, arrays).channels == (("R", "G", "B"),) * 2
