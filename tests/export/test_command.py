"""``anychannel export`` as a person types it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from anychannel.export import FORMATS, open_export
from anychannel.models import load_model
from tests.helpers.program import export


def test_one_subset_as_onnx_is_checked_and_the_largest_difference_printed(run, tmp_path):
    out = tmp_path / "rg.onnx"
    done = export(run, "--channels", "band_3,band_1", "--format", "onnx", "--out", out, "--check")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}\n"
    assert "images (band_3, band_1): any height and width, from 12 up, any batch size" in done.stderr
    assert "largest difference " in done.stderr
    assert "1 of 1 subsets, batches of 1 and 7, images of 12 x 12 and 13 x 15 pixels" in done.stderr
    metadata, answer = open_export(out)
    assert metadata["channels"] == ["band_3", "band_1"]
    images = 255 * torch.rand(2, 2, 12, 12)
    expected = load_model(run)(images, channels="band_3,band_1").detach()
    torch.testing.assert_close(torch.from_numpy(answer(images.numpy())), expected, rtol=1e-4, atol=1e-4)


def test_any_subset_as_torch_export_with_json(run, tmp_path):
    out = tmp_path / "any.pt2"
    done = export(run, "--channels", "any", "--format", "pt2", "--out", out, "--check", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["subset"] == "any"
    assert answer["check"]["passed"] is True
    assert 0 <= answer["check"]["largest_difference"] <= answer["check"]["allowed"]
    assert (answer["check"]["subsets"], answer["check"]["batches"]) == (7, [1, 7])


def test_the_check_ends_with_status_1_where_the_files_weights_are_not_the_models(run, tmp_path, monkeypatch):
    kind = FORMATS["pt2"]

    def write(program, path, metadata):
        for name, value in program.state_dict.items():
            if name.endswith("weight"):
                value.data.mul_(1.05)
        kind.write(program, path, metadata)

    monkeypatch.setitem(FORMATS, "pt2", replace(kind, write=write))
    options = (run, "--channels", "band_1", "--format", "pt2", "--out", tmp_path / "x.pt2", "--fixed-size")
    done = export(*options, "--check", "--json")
    assert done.exit_code == 1
    check = json.loads(done.stdout)["check"]
    assert check["passed"] is False
    assert check["largest_difference"] > check["allowed"]
    assert "x.pt2 does not answer as the model does" in done.stderr
    assert export(*options, "--check", "--tolerance", 10).exit_code == 0, "as much as one allows"
    assert export(*options).exit_code == 0, "nothing is compared unless asked"


def test_the_files_ending_tells_the_format_where_none_is_named(run, tmp_path):
    done = export(run, "--channels", "band_2", "--out", tmp_path / "x.pt2", "--fixed-size")
    assert done.exit_code == 0, done.output
    assert "images (band_2): 12 x 12, any batch size" in done.stderr
    assert open_export(tmp_path / "x.pt2")[0]["fixed_size"] == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--channels", "infrared", "--out", "x.onnx"], "unknown channel 'infrared'"),
        (["--format", "tflite", "--out", "x.onnx"], "unknown format 'tflite'"),
        (["--format", "onnx", "--out", "x.pt2"], "a file of format onnx ends in .onnx, got x.pt2"),
        (["--out", "x.bin"], "x.bin ends in '.bin'; exported files end in .onnx or .pt2"),
        (["--format", "hub", "--channels", "band_1", "--out", "x"], "a hub folder holds the whole model; leave"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = export(run, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_stem_without_a_form_for_any_subset_is_refused_by_name(refusing_run, tmp_path):
    done = export(refusing_run, "--channels", "any", "--out", tmp_path / "x.onnx")
    assert done.exit_code == 2
    assert "the MaskedStem has no kernel that one graph could compute for every subset" in done.stderr


def test_a_folder_that_is_no_run_is_told(tmp_path):
    done = export(tmp_path, "--out", tmp_path / "x.onnx")
    assert done.exit_code == 2
    assert "is missing" in done.stderr
