"""The short form of ``benchmarks/measure/faults.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults.case import Case
from benchmarks.faults.sections import SECTIONS, section_cases


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{section}: {case.name}")
        for section in SECTIONS
        for case in section_cases(section)
        if case.short
    ],
)
def test_the_promise_holds(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)
