"""``anychannel adapt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import Json, Quiet, parse_options, percent, print_json, say


def adapt(
    source: Annotated[
        str,
        typer.Argument(help="Folder of a run, file of weights, or timm/NAME.", metavar="RUN"),
    ],
    images: Annotated[Path, typer.Option(help="Folder of images without labels. Those with all channels are used.")],
    out: Annotated[Path, typer.Option(help="Folder for the adapted network; new or empty.")],
    model: Annotated[
        str | None,
        typer.Option(help="Network that a file of weights is for, as timm/resnet18. Default: the file says it."),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Channels of the files in order. Default: the run's; R,G,B for weights that no run has."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width in pixels. Default: the run's, else the files'.")
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="Images that pass through the network in all.")] = 25_000,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    adapt_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for trained weights; see docs/pretrained.md; repeatable. Default: none."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Teach a trained network every subset of its channels, from unlabelled images, in minutes.

    The network learns its own answers to all channels; those stay as they are. The result is a folder that evaluate,
    predict, serve and export take.

    Examples:

    - `anychannel adapt runs/photos --images photos --out runs/any-subset`

    - `anychannel adapt timm/tf_efficientnet_lite0 --images photos --size 224 --out runs/lite0`

    - `anychannel adapt resnet18.pth --model timm/resnet18 --images photos --size 224 --out runs/mine`
    """
    from anychannel.runs.adapt import RECORD, adapt_folder

    found = adapt_folder(
        source,
        images,
        out,
        model=model,
        channels=channels,
        size=size,
        adapt_options=parse_options(adapt_option),
        passes=passes,
        lr=lr,
        seed=seed,
        device=device,
        progress=not quiet,
    )
    if as_json:
        import json

        print_json(json.loads((out / RECORD).read_text(encoding="utf-8")))
        return
    if found.agreement:
        typer.echo(f"same answer as with all channels, % of {found.held_out} held-out images")
        typer.echo(f"{'channels':>24}  before  after")
        for key, figures in found.agreement.items():
            typer.echo(f"{key:>24}  {percent(figures.before):>6}  {percent(figures.after):>5}")
    say(f"{found.images:,} images, {found.passes:,} passes; the network is in {out}")
