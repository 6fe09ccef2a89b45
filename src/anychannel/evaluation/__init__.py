"""Evaluation: metrics on every channel subset, gaps, paired comparison."""

from __future__ import annotations

from anychannel.evaluation.compare import Comparison, compare, compare_correct
from anychannel.evaluation.evaluate import evaluate
from anychannel.evaluation.gap import GapTable, SubsetGap, compare_with_dedicated, gap_table
from anychannel.evaluation.inference_mode import inference_mode
from anychannel.evaluation.metrics import MetricError, compute_metrics, expected_calibration_error
from anychannel.evaluation.result import Evaluation, load_evaluation
from anychannel.evaluation.subsets import choose_subsets

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
    "inference_mode",
    "load_evaluation",
]
