"""The committed tables are what their makers make of the committed results."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from benchmarks.tables import any_subset, compact, pretrained, report, results, robustness
from benchmarks.tables.__main__ import MAKERS

PAGES = {maker.PAGE.stem: maker for maker in (*MAKERS, compact)}


@pytest.mark.parametrize("name", PAGES)
def test_a_pages_tables_are_those_of_the_results(name: str):
    maker = PAGES[name]
    assert results.fill(maker.PAGE, maker.make) == maker.PAGE.read_text(encoding="utf-8")


def test_no_study_is_left_out_of_the_pages():
    text = "".join(maker.PAGE.read_text(encoding="utf-8") for maker in (pretrained, report, robustness))
    shown = set(re.findall(f"{results.BEGIN}(.+?) -->", text))
    adapted = {f"zero_shot/{name}" for name in results.read_study("zero_shot")}
    studies = {path.name for path in results.RESULTS.glob("any_subset_*") if path.is_dir()}
    assert shown >= adapted | studies | {"report_quick", "report_quick/subsets", "held_out_bands", "published"}


def rounded(value: Any) -> Any:
    """The same value without the last digits of its figures, which may differ between processors."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return round(value, 9) if isinstance(value, float) else value


@pytest.mark.parametrize(("name", "gather"), [("any_subset", any_subset.compose), ("compact", compact.gather)])
def test_a_gathered_file_is_that_of_the_results(name: str, gather):
    committed = json.loads((results.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert rounded(json.loads(json.dumps(gather()))) == rounded(committed)
