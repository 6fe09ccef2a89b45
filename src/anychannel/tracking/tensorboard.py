"""TensorBoard: event files in the run's folder, for ``tensorboard --logdir runs``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from anychannel.tracking.base import Settings
from anychannel.utils.extras import need

FOLDER = "tensorboard"


class TensorBoard:
    """A run's event files; each time that the run is started adds one.

    Args:
        home: the run's folder; the files go to ``tensorboard`` there.
        name: not used, TensorBoard calls a run by its folder.
    """

    def __init__(self, home: Path, name: str) -> None:  # noqa: ARG002
        need("tensorboard", "tracking", "the tracker tensorboard")
        from accelerate.tracking import TensorBoardTracker

        self.folder = home / FOLDER
        wait_for_a_later_name(self.folder)
        self.tracker = TensorBoardTracker(FOLDER, home)
        self.tracker.start()

    def logged(self) -> dict[str, set[int]]:
        """Steps of each scalar in all event files; half a record at the end of a killed one is passed over."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.folder), size_guidance={"scalars": 0})
        events.Reload()
        return {tag: {event.step for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}

    def configure(self, settings: Settings) -> None:
        """Write the hyperparameters, which TensorBoard shows as a run of their own inside this one."""
        if not any(self.folder.glob("*/hparams.yml")):
            self.tracker.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write and flush."""
        self.tracker.log(dict(values), step=step)

    def close(self, *, finished: bool) -> None:  # noqa: ARG002
        """Close the file."""
        self.tracker.finish()


def wait_for_a_later_name(folder: Path) -> None:
    """Wait, for a second at most, until a new event file sorts after those there.

    TensorBoard reads event files by name, and the name holds the second in which the file was made, then the process:
    two starts within a second could show the later steps first.
    """
    newest = max((int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")), default=0)
    time.sleep(min(max(newest + 1 - time.time(), 0), 1))
