"""``anychannel list``."""

from __future__ import annotations

from typing import Annotated

import typer

from anychannel.cli.common import Json, print_json

KINDS = ("models", "stems", "samplers", "datasets", "sensors")
DESCRIPTIONS = {
    "resnet18": "ResNet with 18 layers and a 3x3 first convolution; 11 million parameters. The default.",
    "resnet34": "ResNet with 34 layers and a 3x3 first convolution; 21 million parameters.",
    "compact_k3": "one residual block with attention after a 3x3 first convolution of stride 1, for small images",
    "compact_k7": "one residual block with attention after a 7x7 first convolution of stride 2",
    "compact_rrdb": "residual-in-residual blocks with self-attention",
    "static": "the plain convolution, without the slices of missing channels",
    "completion": "a plain convolution that predicts the missing channels' part from the others. The default.",
    "sliced": "the plain convolution, scaled up where channels are missing",
    "grey": "replaces a missing channel by the mean of the others",
    "table": "an own kernel for each subset; for few channels",
    "hypernetwork": "makes each channel's kernel from a learned embedding",
    "template": "mixes each channel's kernel from shared templates",
    "descriptor": "makes each channel's kernel from what is known of it, such as its wavelength",
    "dofa": "makes kernels from wavelengths by a transformer, as DOFA does",
    "masked": "makes a kernel for each image from its values; for one channel set",
    "per_size": "makes a kernel for each image from its values; a generator for each number of channels",
    "kernel_attention": "mixes learned kernels for each image",
    "full": "all images with all channels: ordinary training",
    "dropout": "drops each channel at random",
    "uniform_size": "draws the number of channels evenly, then which",
    "sandwich": "each image three times: with all channels, with one, and with some",
    "split": "half of a batch with all channels, the rest with one or some. The default.",
    "bands": "small images rendered in memory, to try things; bands:8 has 8 channels",
}
"""One line about each name; those of sensors are with the sensors."""


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
            about = SENSORS[name].title if key == "sensors" else DESCRIPTIONS.get(name, "")
            typer.echo(f"  {name:<18}{about}".rstrip())
            if kind == "sensors":
                sensor = SENSORS[name]
                for channel, wavelength, shows in sensor.bands:
                    place = "" if wavelength is None else f"{wavelength:g} nm"
                    typer.echo(f"      {channel:<5}{place:>10}  {shows}")
                typer.echo(f"    {sensor.source}")
    if kind in (None, "models") and not timm:
        typer.echo("Any timm model works too: anychannel list models --timm")
