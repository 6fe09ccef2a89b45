"""Tables of networks that were adapted without training."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from benchmarks.tables import results, robustness


def keep(folder: Path, name: str, channels: str, accuracy: float) -> None:
    """A result whose accuracy on a subset of k channels is ``accuracy`` + k."""
    keys = [",".join(names) for k in range(1, len(channels) + 1) for names in itertools.combinations(channels, k)]
    figures = {key: accuracy + len(key.split(",")) for key in keys}
    result = {
        "command": "python measure.py --images 1500 --seed 0",
        "n": 1000,
        "zero_fill": figures,
        "completion": figures,
    }
    (folder / "zero_shot").mkdir(parents=True, exist_ok=True)
    (folder / "zero_shot" / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


@pytest.fixture
def measured(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_few_channels_have_a_column_for_each_subset(measured):
    keep(measured, "photos-s0", "RGB", 40)
    keep(measured, "photos-s1", "RGB", 50)
    keep(measured, "photos_3x-s0", "RGB", 90)
    text = robustness.adapted("photos")
    assert "2 seeds, 1,500 images" in text
    lines = text.splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[2:-1]] == ["R G B", "R G", "R B", "G B", "R", "G", "B"]
    rows = [line.split("|")[1:-1] for line in lines[4:]]
    assert [row[0].strip() for row in rows] == [robustness.WAYS["zero_fill"], robustness.WAYS["completion"]]
    assert rows[0][1].strip() == "48.0 ± 7.1"


def test_many_channels_have_a_column_for_each_number_of_missing_ones(measured):
    keep(measured, "bands-s0", "abcd", 40)
    lines = robustness.adapted("bands").splitlines()
    heads = ["all channels", "1 missing", "2 missing", "3 missing"]
    assert [cell.strip() for cell in lines[2].split("|")[2:-1]] == heads
    assert [cell.strip() for cell in lines[4].split("|")[2:-1]] == ["44.0", "43.0", "42.0", "41.0"]


def test_channels_broken_on_purpose_have_a_row_for_each_kind_under_their_data(measured):
    kinds = dict.fromkeys(("found", "others", "used", "left_out", "drop_dead"), 10.0)
    whole = {"accuracy": 50.0, "drop_dead": 49.5, "images_with_alarm": 1.5}
    one = {"channels": 3, "images": 300, "intact": whole} | dict.fromkeys(robustness.BROKEN, kinds)
    measured.mkdir()
    (measured / "broken_channels.json").write_text(json.dumps(dict.fromkeys(robustness.SETS, one)), encoding="utf-8")
    lines = robustness.make("broken_channels").splitlines()
    assert lines[2] == "| cells, 3 channels, 300 images | nothing |  | 1.5 | 50.0 |  | 49.5 |"
    assert lines[3] == "|  | zeros | 10.0 | 10.0 | 10.0 | 10.0 | 10.0 |"
    assert len(lines) == 2 + 3 * 5
