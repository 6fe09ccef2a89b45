"""What trackers' stores hold, read as their own users read them."""

from __future__ import annotations

import json

import mlflow
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

VALUES = {
    "data": "bands:3",
    "classes": 2,
    "size": 12,
    "model": "compact_k7",
    "model_options": {"width": 16},
    "stem": "completion",
    "training": {"epochs": 2, "batch_size": 128, "lr": 0.05, "device": "cpu", "precision": "fp32", "crop_padding": 1},
}
"""A run of a second or two."""


def read_tensorboard(run):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    figures = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    (settings,) = (run / "tensorboard").glob("*/hparams.yml")
    return figures, yaml.safe_load(settings.read_text())


def read_mlflow(run):
    client = mlflow.MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    found = client.get_run(json.loads((run / "mlflow.json").read_text())["run_id"])
    assert (found.info.status, found.info.run_name) == ("FINISHED", run.name)
    figures = {
        tag: sorted((value.step, value.value) for value in client.get_metric_history(found.info.run_id, tag))
        for tag in found.data.metrics
    }
    return figures, found.data.params


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow}
"""For each tracker: the (step, value) pairs of every figure, and the settings."""
