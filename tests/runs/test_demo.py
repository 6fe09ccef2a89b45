from __future__ import annotations

import json

from anychannel.report import write_report
from anychannel.runs.demo import run_demo


def test_the_demonstration_trains_compares_and_goes_on_where_it_stopped(tmp_path):
    runs = run_demo(tmp_path, epochs=1, classes=2)
    assert [run.name for run in runs] == ["plain", "adaptive"]
    for run in runs:
        assert len(json.loads((run / "evaluation" / "test.json").read_text())["subsets"]) == 15
        assert json.loads((run / "cost.json").read_text())["params"] > 4_000_000
    written = [(run / "weights" / "best.safetensors").stat().st_mtime_ns for run in runs]
    assert run_demo(tmp_path, epochs=1, classes=2) == runs
    assert [(run / "weights" / "best.safetensors").stat().st_mtime_ns for run in runs] == written
    assert "band_1" in write_report(runs, tmp_path / "report.html").read_text()
