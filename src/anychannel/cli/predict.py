"""``anychannel predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import Json, Run, parse_options, print_json


def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(help="Image files. All have the channels of --channels.")],
    channels: Annotated[
        str | None,
        typer.Option(help="Channels of the files in order, as G,R; '-' for an unused one. Default: all of the run's."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print for each image.")] = 3,
    layout: Annotated[
        str | None, typer.Option(help="planar or interleaved, for TIFFs that do not declare it. Default: the run's.")
    ] = None,
    nodata: Annotated[
        str | None,
        typer.Option(help="keep, or a replacement for values that a file marks as no data. Default: the run's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Classify image files with a trained network, whichever of its channels they have.

    Examples:

    - `anychannel predict runs/photos cat.jpg`

    - `anychannel predict runs/cells cell.tif --channels PI,darkfield --json`
    """
    from anychannel.runs.predict import predict_files

    replacement = None if nodata is None else parse_options([f"nodata={nodata}"])["nodata"]
    results = predict_files(run, images, channels=channels, top=top, layout=layout, nodata=replacement)
    for result in results:
        for note in filter(None, (result["unlike"], *result["notes"])):
            typer.secho(f"{result['path']}: {note}", fg="yellow", err=True)
    if as_json:
        print_json(results)
        return
    for result in results:
        ranked = ", ".join(f"{entry['class']} {100 * entry['probability']:.1f} %" for entry in result["top"])
        warned = " (unlike the training images)" if result["unlike"] else ""
        typer.echo(f"{result['path']}: {ranked}{warned}")
