"""``anychannel report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anychannel.cli.common import refuse_flags


def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders that `anychannel train` wrote.")] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file. Default: report.html in the first run.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page. Default: of its networks.")] = None,
    module: Annotated[
        str | None,
        typer.Option(
            help="A network trained elsewhere: FILE.py:FUNCTION or package.module:FUNCTION, which returns it, or "
            "it and its test data. Your code runs. Default: runs are compared."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Its test data: FILE.py:FUNCTION that returns a Dataset or DataLoader, or a data set. "
            "Default: what --module returns."
        ),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Planes of the test data in order, as R,G,B. Default: the network's channels.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the evaluation and the network in this new folder, as a run. Default: no.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the network on the page. Default: its class.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ... Default: the network's.")] = None,
) -> None:
    """Write one self-contained HTML page that compares runs, or that describes a network trained elsewhere.

    Examples:

    - `anychannel report runs/bands`

    - `anychannel report runs/plain runs/adaptive --out compare.html`

    - `anychannel report --module train.py:load_network --data train.py:test_set --out report.html`
    """
    listed = runs or []
    if module is None:
        flags = {"--data": data, "--channels": channels, "--folder": folder, "--name": name, "--device": device}
        refuse_flags(flags, "without --module there is no network to evaluate")
        from anychannel.report import write_report

        if not listed:
            raise ValueError("name at least one run, or a network with --module")
        typer.echo(write_report(listed, out or listed[0] / "report.html", title=title))
        return
    from anychannel.cli.objects import load_object
    from anychannel.report.outside import report as report_network

    network = load_object(module, "--module")
    test: Any = None
    if isinstance(network, tuple) and len(network) == 2:
        network, test = network
    if test is None and data is None:
        raise ValueError("--module returned a network alone; give its test data with --data, or return both")
    if data is not None:
        test = load_test(data, channels)
        channels = None if not is_object(data) else channels
    page = out or (folder / "report.html" if folder else Path("report.html"))
    options = {"channels": channels, "device": device, "progress": True}
    typer.echo(
        report_network(network, test, page, folder=folder, compare_with=listed, name=name, title=title, **options)
    )


def is_object(data: str) -> bool:
    """Whether this names an object in Python code and not a data set."""
    from anychannel.data.sources.registry import split_address

    place, _, _ = data.rpartition(":")
    return not Path(data).exists() and bool(place) and not split_address(data)[0]


def load_test(data: str, channels: str | None) -> Any:
    """The test data that a flag names: of Python code, or the test split of a data set."""
    if is_object(data):
        from anychannel.cli.objects import load_object

        return load_object(data, "--data")
    from anychannel.data import load_dataset

    return load_dataset(data, channels=channels, progress=True)
