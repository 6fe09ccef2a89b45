"""Evaluation: metrics on every channel subset, and paired comparisons on the same images."""

from __future__ import annotations

from anychannel.evaluation.compare import Comparison, compare, compare_correct, compare_with_dedicated, gap_table
from anychannel.evaluation.evaluate import evaluate
from anychannel.evaluation.subsets import choose_subsets
from anychannel.results.evaluation import Evaluation, load_evaluation
from anychannel.results.gap import GapTable, SubsetGap
from anychannel.results.metrics import MetricError, compute_metrics, expected_calibration_error

__all__ = [
    "Comparison",
    "Evaluation",
    "GapTable",
    "MetricError",
    "SubsetGap",
    "choose_subsets",
    "compare",
    "compare_correct",
    "compare_with_dedicated",
    "compute_metrics",
    "evaluate",
    "expected_calibration_error",
    "gap_table",
    "load_evaluation",
]
