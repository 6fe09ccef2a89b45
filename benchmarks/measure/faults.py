"""Make faults on purpose and count what holds. Writes ``benchmarks/results/faults.json``.

    python -m benchmarks.measure.faults
    python -m benchmarks.measure.faults --only bombs service --workers 2

Each case runs in an empty temporary folder. A section that ran replaces its entry in the file; the others stay.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from anychannel.runs.environment import describe_environment
from anychannel.utils.files import write_json
from benchmarks.faults.sections import SECTIONS, section_cases

RESULT = Path(__file__).parents[1] / "results" / "faults.json"


def run_case(section: str, position: int) -> str | None:
    """Run one case. Returns the error as text, or None when the promise held."""
    case = section_cases(section)[position]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            case.check(Path(folder))
        except Exception:  # Any error is what is measured here.
            return traceback.format_exc(limit=-3)
    return None


def run_section(section: str, workers: int) -> dict[str, Any]:
    """Run all cases of a section and count them, fuzzed ones apart."""
    cases = section_cases(section)
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    errors: list[str | None] = []
    while len(errors) < len(cases):  # new processes now and then; max_tasks_per_child can wait for ever (gh-115634)
        some = range(len(errors), min(len(errors) + 50 * workers, len(cases)))
        with ProcessPoolExecutor(workers, context) as pool:
            errors += pool.map(run_case, [section] * len(some), some)
    promises: dict[str, dict[str, int]] = {}
    entry: dict[str, Any] = {"tried": 0, "passed": 0}
    fuzzed = {"tried": 0, "passed": 0}
    for case, error in zip(cases, errors, strict=True):
        promise = promises.setdefault(case.promise, {"tried": 0, "passed": 0})
        for counts in (promise, fuzzed if case.fuzzed else entry):
            counts["tried"] += 1
            counts["passed"] += error is None
        if error is not None:
            print(f"{section}: {case.promise} ({case.name})\n{error}", file=sys.stderr)
    if fuzzed["tried"]:
        entry["fuzzed"] = fuzzed
    return {**entry, "promises": promises, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run; default: all")
    parser.add_argument("--workers", type=int, default=2, help="processes; default: 2")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the JSON goes")
    arguments = parser.parse_args()
    known: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for section in arguments.only:
        known[section] = run_section(section, arguments.workers)
        ordered = {name: known[name] for name in SECTIONS if name in known}
        write_json(arguments.out, {**ordered, "environment": describe_environment()})
        print(f"{section}: {known[section]['passed']} of {known[section]['tried']} in {known[section]['seconds']} s")


if __name__ == "__main__":
    main()
