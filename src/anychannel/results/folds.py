"""Cross-validation: the figures of the runs of all folds, as mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from anychannel.results.evaluation import SubsetResult
from anychannel.results.run import Run


@dataclass(frozen=True)
class Spread:
    """A figure of each fold, as fractions."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the folds, each counting the same."""
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds, with n - 1; 0 for a single one."""
        return stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Folds:
    """The folds of one cross-validation.

    ``rows`` holds for each subset that all runs were evaluated on, by its name, the spread of each of their main
    ``figures``. ``reduced`` is the same of each run's mean over its subsets with channels missing; empty without any.
    """

    runs: tuple[Run, ...]
    full: str
    rows: dict[str, dict[str, Spread]]
    reduced: dict[str, Spread]
    figures: dict[str, str]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Folds:
        """Summarise finished runs with results, at least one."""
        tests = [run.test for run in runs if run.test is not None]
        first = tests[0]
        shared = [key for key in first.answered if all(key in test.answered for test in tests)]

        def spread(results: Sequence[Sequence[SubsetResult]], name: str) -> Spread:
            return Spread(tuple(fmean(getattr(each, name) for each in found) for found in results))

        rows = {
            first.answered[key].label: {
                name: spread([[test.answered[key]] for test in tests], name) for name in first.figures
            }
            for key in shared
        }
        fewer = [key for key in shared if key != first.full]
        reduced = {
            name: spread([[test.answered[key] for key in fewer] for test in tests], name) for name in first.figures
        }
        full = first.answered[first.full].label if first.full in shared else ""
        return cls(tuple(runs), full, rows, reduced if fewer else {}, first.figures)


def find_folds(runs: Sequence[Run]) -> list[Folds]:
    """The cross-validations among these runs: at least two finished folds of the same settings."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.status == "finished" and run.test is not None and run.test.answered and run.text("folds"):
            groups.setdefault(run.text("folds"), []).append(run)
    return [Folds.of(group) for group in groups.values() if len({run.text("fold") for run in group}) > 1]
