"""``anychannel predict``."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import Json, Run, parse_options, print_json


def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(help="Image files. All have the channels of --channels.")],
    channels: Annotated[
        str | None,
        typer.Option(help="Channels or groups of the files in order, as G,R; '-': unused. Default: all of the run's."),
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

    A file that cannot be read is named on standard error, and the others are answered; the exit status is then 1, or 2
    if there are no others.

    Examples:

    - `anychannel predict runs/photos cat.jpg`

    - `anychannel predict runs/cells cell.tif --channels PI,darkfield --json`
    """
    from anychannel.runs.folder import check_network

    check_network(run)  # before torch is imported, which takes long
    if not any(path.exists() for path in images):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(images[0]))
    from anychannel.runs.predict import predict_files

    replacement = None if nodata is None else parse_options([f"nodata={nodata}"])["nodata"]
    options = {"layout": layout, "nodata": replacement}
    results = predict_files(run, images, channels=channels, top=top, skip_bad=True, **options)
    failed = [result for result in results if "error" in result]
    answered = [result for result in results if "error" not in result]
    for result in answered:
        for note in filter(None, (result["unlike"], *result["notes"])):
            typer.secho(f"{result['path']}: {note}", fg="yellow", err=True)
    for result in failed:
        typer.secho(f"error: {result['error']}", fg="red", err=True)
    if as_json:
        print_json(results)
    else:
        for result in answered:
            ranked = ", ".join(f"{entry['class']} {100 * entry['probability']:.1f} %" for entry in result["top"])
            warned = " (unlike the training images)" if result["unlike"] else ""
            typer.echo(f"{result['path']}: {ranked}{warned}")
    if failed:
        raise typer.Exit(1 if answered else 2)
