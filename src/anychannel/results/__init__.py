"""Results as records, without torch: evaluation and training write them into a run's folder, the report reads them."""

from __future__ import annotations

from anychannel.results.cost import Cost, Latency, SubsetCost
from anychannel.results.evaluation import Evaluation, Scores, SubsetResult, load_evaluation
from anychannel.results.gap import BudgetGap, DedicatedGaps, GapTable, SubsetGap
from anychannel.results.metrics import MetricError, compute_metrics
from anychannel.results.run import Epoch, Run, RunError, load_runs

__all__ = [
    "BudgetGap",
    "Cost",
    "DedicatedGaps",
    "Epoch",
    "Evaluation",
    "GapTable",
    "Latency",
    "MetricError",
    "Run",
    "RunError",
    "Scores",
    "SubsetCost",
    "SubsetGap",
    "SubsetResult",
    "compute_metrics",
    "load_evaluation",
    "load_runs",
]
