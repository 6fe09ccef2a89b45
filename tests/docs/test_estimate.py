"""The tables of the scaling page are what its script prints."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "cluster" / "estimate.py"


@pytest.fixture(scope="module")
def estimate():
    spec = importlib.util.spec_from_file_location("estimate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["estimate"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["estimate"]


@pytest.mark.parametrize(
    "arguments", [[], ["--side", "120", "--gib-per-second", "5", "--gpus", "1", "8", "16"]], ids=["large", "small"]
)
def test_the_page_holds_what_the_script_prints(arguments, estimate, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["estimate.py", *arguments])
    estimate.main()
    assert capsys.readouterr().out.strip() in (ROOT / "docs" / "scaling.md").read_text()


def test_an_estimate_is_its_formula(estimate):
    plan = estimate.Plan(
        images=1000, channels=2, side=4, epochs=3, gflops=2.0, gpus=4, gpus_per_node=2, peak_tflops=60.0, price=5.0
    )
    found = estimate.estimate(plan)
    assert found["computed"] == pytest.approx(4 * 0.9 * 0.08 * 60e12 / 6e9)
    assert found["read"] == pytest.approx(4 * 2**30 / 64)
    assert found["hours"] * 3600 * found["rate"] == pytest.approx(3000)
    assert found["cost"] == pytest.approx(found["hours"] * 4 * 5)
