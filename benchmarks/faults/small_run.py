"""A small finished run, and the command line, for several sections."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from typer.testing import CliRunner

from anychannel.cli import app
from anychannel.runs import RunConfig, train_run

TRAINING = {"epochs": 1, "batch_size": 4, "device": "cpu", "precision": "fp32", "sampler": "full"}
SETTINGS: dict[str, Any] = {
    "model": "compact_k7",
    "model_options": {"width": 16},
    "stem": "static",
    "training": TRAINING,
}


@cache
def trained() -> Path:
    """A small finished run."""
    config = RunConfig.from_dict({"data": "bands:3", "size": 8, **SETTINGS})
    folder = Path(mkdtemp(prefix="faults-run-"))
    return train_run(config, folder / "run", cost=False, cache_dir=folder / "cache")


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.output
