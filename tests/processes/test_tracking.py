"""Of several processes, one speaks to the trackers."""

from __future__ import annotations

from anychannel.runs import RunConfig, train_run
from tests.helpers.trackers import READERS, VALUES


def train_tracked(folder):
    train_run(RunConfig.from_dict(VALUES | {"track": ["tensorboard"]}), folder, cost=False)


def test_two_processes_log_each_epoch_once(pair, tmp_path):
    pair.run(train_tracked, tmp_path / "run")
    assert len(list((tmp_path / "run" / "tensorboard").glob("events.*"))) == 1
    figures, _ = READERS["tensorboard"](tmp_path / "run")
    assert [step for step, _ in figures["val/loss"]] == [1, 2]
