"""``anychannel predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import parse_options, plain_errors, print_json


def predict(
    run: Annotated[Path, typer.Argument(help="Folder that `anychannel train` wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Image files that hold just the channels of --channels.")],
    channels: Annotated[
        str | None, typer.Option(help="Channels in the files, in order, as G,R. Default: the run's full set.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to print for each image.")] = 3,
    layout: Annotated[str | None, typer.Option(help="planar or interleaved, where a TIFF does not say.")] = None,
    nodata: Annotated[
        str | None, typer.Option(help="keep, or a number, for files that mark values as no data. Default: the run's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Classify image files with a trained network, whichever of its channels they hold.

    Examples:

    - `anychannel predict runs/photos cat.jpg`

    - `anychannel predict runs/cells cell.tif --channels PI,darkfield --json`
    """
    with plain_errors():
        from anychannel.runs.predict import predict_files

        missing = None if nodata is None else parse_options([f"nodata={nodata}"])["nodata"]
        results = predict_files(run, images, channels=channels, top=top, layout=layout, nodata=missing)
    for result in results:
        for note in result["notes"]:
            typer.secho(f"{result['path']}: {note}", fg="yellow", err=True)
    if as_json:
        print_json(results)
        return
    for result in results:
        ranked = ", ".join(f"{entry['class']} {100 * entry['probability']:.1f} %" for entry in result["top"])
        typer.echo(f"{result['path']}: {ranked}")
