"""``anychannel list``."""

from __future__ import annotations

from typing import Annotated

import typer

from anychannel.cli.common import Json, print_json

KINDS = ("models", "stems", "samplers", "datasets", "sensors")


def list_names(
    kind: Annotated[
        str | None, typer.Argument(help="models, stems, samplers, datasets or sensors. Default: all.")
    ] = None,
    timm: Annotated[bool, typer.Option("--timm", help="Also list every timm model.")] = False,
    as_json: Json = False,
) -> None:
    """List the names that the other commands take.

    Examples:

    - `anychannel list`

    - `anychannel list models --timm`

    - `anychannel list sensors`
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; list one of {', '.join(KINDS)}")
    from anychannel.data import list_datasets
    from anychannel.models import list_models
    from anychannel.nn.channel_sampling import list_samplers
    from anychannel.nn.stems import list_stems
    from anychannel.sensors import SENSORS, list_sensors

    names = (list_models(with_timm=timm), list_stems(), list_samplers(), list_datasets(), list_sensors())
    chosen = {key: value for key, value in zip(KINDS, names, strict=True) if kind in (None, key)}
    if as_json:
        print_json(chosen)
        return
    for key, value in chosen.items():
        typer.echo(f"{key}:" if kind is None else f"{len(value)} {key}:")
        for name in value:
            typer.echo(f"  {name}")
            if kind == "sensors":
                sensor = SENSORS[name]
                typer.echo(f"    {sensor.title}")
                for channel, wavelength, shows in sensor.bands:
                    place = "" if wavelength is None else f"{wavelength:g} nm"
                    typer.echo(f"      {channel:<5}{place:>10}  {shows}")
                typer.echo(f"    {sensor.source}")
    if kind in (None, "models") and not timm:
        typer.echo("Any timm model works too: anychannel list models --timm")
