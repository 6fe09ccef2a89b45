"""TensorBoard: logs to event files in the run's folder, for ``tensorboard --logdir runs``."""

from __future__ import annotations

import time
from pathlib import Path

from anychannel.tracking.base import Tracker
from anychannel.utils.extras import need

FOLDER = "tensorboard"


class TensorBoard(Tracker):
    """The event files of a run, in its subfolder ``tensorboard``. Each start of the run adds one."""

    def __init__(self, home: Path, name: str) -> None:  # noqa: ARG002 - TensorBoard names a run after its folder
        need("tensorboard", "tracking", "the tracker tensorboard")
        from accelerate.tracking import TensorBoardTracker

        self.folder = home / FOLDER
        # TensorBoard reads event files in the order of their names, which hold the second of the start and then the
        # process id. Without a wait, two starts within one second could be read in the wrong order.
        newest = max((int(path.name.split(".")[3]) for path in self.folder.glob("events.out.tfevents.*")), default=0)
        time.sleep(min(max(newest + 1 - time.time(), 0), 1))
        self.tracker = TensorBoardTracker(FOLDER, home)
        self.tracker.start()

    def logged(self) -> dict[str, set[int]]:
        """The steps of each scalar in all event files. An incomplete record at the end of a file is skipped."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.folder), size_guidance={"scalars": 0})
        events.Reload()
        return {tag: {event.step for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}

    def is_configured(self) -> bool:
        """Whether the settings are there as hyperparameters."""
        return any(self.folder.glob("*/hparams.yml"))
