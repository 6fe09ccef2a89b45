"""MLflow: the server that ``MLFLOW_TRACKING_URI`` names, or a database file beside the run's folder.

Look at the file with ``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`` (from the full package ``mlflow``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from anychannel.tracking.base import Settings, TrackingError
from anychannel.utils.extras import need
from anychannel.utils.files import write_json

EXPERIMENT = "anychannel"
RECORD = "mlflow.json"
DATABASE = "mlflow.db"


class MLflow:
    """A run of the experiment ``anychannel`` (or of the one that ``MLFLOW_EXPERIMENT_NAME`` names).

    Args:
        home: the run's folder; ``mlflow.json`` there keeps the run's identity.
        name: the run's name in MLflow.

    Raises:
        TrackingError: the store cannot be reached, or does not know the run any more.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.mlflow = need("mlflow", "tracking", "the tracker mlflow")
        from accelerate.tracking import MLflowTracker

        self.ours = not self.mlflow.is_tracking_uri_set()
        if self.ours:
            self.mlflow.set_tracking_uri(f"sqlite:///{home.resolve().parent / DATABASE}")
        record = home / RECORD
        known = json.loads(record.read_text(encoding="utf-8"))["run_id"] if record.is_file() else None
        with self.told(home):
            self.tracker = MLflowTracker(EXPERIMENT, run_id=known, run_name=name)
            self.tracker.start()
        self.run_id: str = self.tracker.tracker.info.run_id
        write_json(record, {"tracking_uri": self.mlflow.get_tracking_uri(), "run_id": self.run_id})

    @contextmanager
    def told(self, home: Path) -> Iterator[None]:
        """Errors of the store in words that say what to do."""
        try:
            yield
        except Exception as error:  # MLflow's own, SQLAlchemy's, requests'
            where = self.mlflow.get_tracking_uri()
            self.forget()
            raise TrackingError(
                f"MLflow at {where} cannot take the run {home}: {error}; correct MLFLOW_TRACKING_URI, delete "
                f"{home / RECORD} to begin a new MLflow run, or leave mlflow out of --track"
            ) from error

    def logged(self) -> dict[str, set[int]]:
        """Steps of each metric in the store."""
        client = self.mlflow.MlflowClient()
        tags = client.get_run(self.run_id).data.metrics
        return {tag: {value.step for value in client.get_metric_history(self.run_id, tag)} for tag in tags}

    def configure(self, settings: Settings) -> None:
        """Keep the settings as parameters."""
        if not self.mlflow.MlflowClient().get_run(self.run_id).data.params:
            self.tracker.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send one batch of metrics."""
        self.tracker.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:
        """End the run as FINISHED or FAILED."""
        if finished:
            self.tracker.finish()
        else:
            self.mlflow.end_run("FAILED")
        self.forget()

    def forget(self) -> None:
        """Leave MLflow's choice of a store as it was."""
        if self.ours:
            self.mlflow.set_tracking_uri(None)
