"""The report of a network that was trained elsewhere, from its test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anychannel.report.page import write_report


def report(
    model: Any,
    data: Any,
    out: str | Path = "report.html",
    *,
    folder: str | Path | None = None,
    compare_with: Sequence[str | Path] = (),
    name: str | None = None,
    title: str | None = None,
    **options: Any,
) -> Path:
    """Evaluate a network on every subset of its channels and write the report, wherever the network was trained.

        ac.report(model, test_loader, out="report.html")

    Args:
        model: a channel-adaptive network, from ``adapt``, ``create_model`` or ``load_model``, with trained weights.
        data: its test images: a PyTorch ``Dataset`` or ``DataLoader`` of (image, label) or of dictionaries (see
            ``fit``), a split, or a data set with a test split.
        out: the HTML file. It needs no other file and no network.
        folder: a new folder to keep the evaluation, the network and example images in, as a run that
            ``anychannel compare``, ``report`` and ``serve`` read; None keeps the page alone.
        compare_with: folders of runs to show beside it.
        name: of the network on the page; None uses the folder's name, else the network's class.
        title: of the page; None makes one from the runs.
        options: ``channels``, ``subsets``, ``batch_size``, ``device``, ``precision`` and ``progress`` as ``evaluate``
            takes them, and ``cost=True`` to measure FLOPs, memory and latency too.

    Returns:
        ``out``.

    Raises:
        RunError: the folder holds something else, or one to compare with is not a run.
        TypeError, ValueError, ChannelError: see ``evaluate``.
        OSError: the page cannot be written.

    Warns:
        UserWarning: the folder cannot rebuild the network for ``serve``; the message says what it needs.
    """
    from anychannel.runs.outside import record_model  # here, since reports of runs are written without torch

    with TemporaryDirectory() as scratch:
        home = Path(folder) if folder is not None else Path(scratch) / "network"
        shown = name or (home.resolve().name if folder is not None else type(model).__name__)
        record_model(model, data, home, name=shown, keep_network=folder is not None, **options)
        return write_report([*map(Path, compare_with), home], Path(out), title=title)
