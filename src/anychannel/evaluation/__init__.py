"""Evaluation: metrics on every channel subset, and paired comparisons on the same images."""

from __future__ import annotations

from anychannel.evaluation.compare import compare, compare_with_dedicated, gap_table
from anychannel.evaluation.evaluate import evaluate
from anychannel.evaluation.predict import Predictions
from anychannel.evaluation.subsets import choose_subsets
from anychannel.evaluation.temperatures import fit_temperatures
from anychannel.results.evaluation import Evaluation, load_evaluation

__all__ = [
    "Evaluation",
    "Predictions",
    "choose_subsets",
    "compare",
    "compare_with_dedicated",
    "evaluate",
    "fit_temperatures",
    "gap_table",
    "load_evaluation",
]
