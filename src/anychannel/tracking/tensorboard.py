"""TensorBoard: logs to event files in the run's folder, for ``tensorboard --logdir runs``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from anychannel.tracking.base import Settings
from anychannel.utils.extras import need

FOLDER = "tensorboard"


class TensorBoard:
    """The event files of a run, in its subfolder ``tensorboard``. Each start of the run adds one."""

    def __init__(self, home: Path, name: str) -> None:  # noqa: ARG002 - TensorBoard names a run after its folder
        need("tensorboard", "tracking", "the tracker tensorboard")
        from accelerate.tracking import TensorBoardTracker

        self.folder = home / FOLDER
        wait_for_a_later_name(self.folder)
        self.tracker = TensorBoardTracker(FOLDER, home)
        self.tracker.start()

    def logged(self) -> dict[str, set[int]]:
        """The steps of each scalar in all event files. An incomplete record at the end of a file is skipped."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.folder), size_guidance={"scalars": 0})
        events.Reload()
        return {tag: {event.step for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}

    def configure(self, settings: Settings) -> None:
        """Write the settings as hyperparameters."""
        if not any(self.folder.glob("*/hparams.yml")):
            self.tracker.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write and flush the values."""
        self.tracker.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:  # noqa: ARG002
        """Close the file."""
        self.tracker.finish()


def wait_for_a_later_name(folder: Path) -> None:
    """Wait up to one second, until a new event file sorts after the existing ones.

    TensorBoard reads event files in the order of their names. A name holds the second of the start and then the process
    id, so two starts within one second could be read in the wrong order.
    """
    newest = max((int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")), default=0)
    time.sleep(min(max(newest + 1 - time.time(), 0), 1))
