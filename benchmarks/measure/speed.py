"""Measure speed: ours against other ways to do the same work, in turns on one machine.

    python -m benchmarks.measure.speed                 # quick: under 20 minutes on two cores
    python -m benchmarks.measure.speed --images 20000 --rounds 5
    python -m benchmarks.measure.speed --rows 3 5      # some rows

Each figure is the median ratio over rounds, in which all ways run one after the other; ``spread`` is the smallest and
the largest. ``benchmarks/results/speed.json`` holds the rows of each device. What a row compares stands in its text.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from anychannel.runs.environment import describe_environment
from anychannel.utils.files import write_json
from benchmarks.speed import epochs, growth, inference, steps
from benchmarks.speed.timing import Row

RESULT = Path(__file__).parents[1] / "results" / "speed.json"


def rows_of(rounds: int, images: int) -> dict[str, Callable[[], Iterator[Row]]]:
    """The groups of rows by number."""
    return {
        "1": lambda: epochs.from_files(max(rounds // 2, 1), images),
        "3": lambda: steps.default_step(rounds),
        "4": lambda: steps.per_image_kernels(rounds),
        "5": lambda: inference.one_subset(rounds),
        "6": lambda: steps.compact_step(rounds),
        "7": lambda: inference.all_subsets(rounds, max(images // 16, 100)),
        "8": lambda: inference.commands(rounds, max(images // 2, 100)),
        "9": lambda: chain(growth.many_channels(rounds), growth.many_images(max(rounds // 4, 1))),
    }


def main() -> None:
    """Measure, print, and write each row when it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rows", nargs="+", help="numbers of rows; 1 holds 2, and 8 holds 10. Default: all.")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    groups = rows_of(options.rounds, options.images)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {"rows": {}}
    found = describe_environment("cpu")
    result |= {"device": f"{found['cpu']}, {found['cpu_cores']} cores", "environment": found}
    result["command"] = f"python -m benchmarks.measure.speed --rounds {options.rounds} --images {options.images}"
    for number in options.rows or groups:
        for row in groups[number]():
            result["rows"][row.key] = row.to_dict()
            result["rows"] = dict(sorted(result["rows"].items(), key=lambda each: (int(each[0][:-1]), each[0])))
            low, high = row.spread
            mark = f"{row.bound.replace('_', ' ')} {row.mark:g}"
            print(f"{row.key:>3}  {row.ratio:8.3f}  ({low:.3f} to {high:.3f}; {mark})  {row.what}", flush=True)
            write_json(options.out, result)


if __name__ == "__main__":
    main()
