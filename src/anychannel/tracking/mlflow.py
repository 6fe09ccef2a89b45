"""MLflow: logs to the server in ``MLFLOW_TRACKING_URI``, else to a database file beside the run's folder.

Open the file with ``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`` (from the full package ``mlflow``).
"""

from __future__ import annotations

import json
from pathlib import Path

from anychannel.tracking.base import Tracker, TrackingError
from anychannel.utils.extras import need
from anychannel.utils.files import write_json

EXPERIMENT = "anychannel"
RECORD = "mlflow.json"
DATABASE = "mlflow.db"


class MLflow(Tracker):
    """A run of the experiment ``anychannel``, or of the one in ``MLFLOW_EXPERIMENT_NAME``.

    ``mlflow.json`` in the run's folder holds the id of MLflow's run.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.mlflow = need("mlflow", "tracking", "the tracker mlflow")
        from accelerate.tracking import MLflowTracker

        self.ours = not self.mlflow.is_tracking_uri_set()
        if self.ours:
            self.mlflow.set_tracking_uri(f"sqlite:///{home.resolve().parent / DATABASE}")
        record = home / RECORD
        known = json.loads(record.read_text(encoding="utf-8"))["run_id"] if record.is_file() else None
        try:
            self.tracker = MLflowTracker(EXPERIMENT, run_id=known, run_name=name)
            self.tracker.start()
        except Exception as error:  # of MLflow, SQLAlchemy or requests
            where = self.mlflow.get_tracking_uri()
            self.forget()
            raise TrackingError(
                f"MLflow at {where} cannot take the run {home}: {error}; correct MLFLOW_TRACKING_URI, delete "
                f"{home / RECORD} to begin a new MLflow run, or leave mlflow out of --track"
            ) from error
        self.run_id: str = self.tracker.tracker.info.run_id
        write_json(record, {"tracking_uri": self.mlflow.get_tracking_uri(), "run_id": self.run_id})

    def logged(self) -> dict[str, set[int]]:
        """The steps that the store has for each metric."""
        client = self.mlflow.MlflowClient()
        tags = client.get_run(self.run_id).data.metrics
        return {tag: {value.step for value in client.get_metric_history(self.run_id, tag)} for tag in tags}

    def is_configured(self) -> bool:
        """Whether the settings are there as parameters."""
        return bool(self.mlflow.MlflowClient().get_run(self.run_id).data.params)

    def close(self, *, finished: bool) -> None:
        """End the run as FINISHED or FAILED."""
        if finished:
            self.tracker.finish()
        else:
            self.mlflow.end_run("FAILED")
        self.forget()

    def forget(self) -> None:
        """Reset MLflow's tracking URI."""
        if self.ours:
            self.mlflow.set_tracking_uri(None)
