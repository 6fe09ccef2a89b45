"""``anychannel train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from anychannel.cli.common import parse_options, plain_errors, say, why_no_figures


def of_images(count: int, total: int) -> str:
    """On how many images a figure rests, where these are not all."""
    return "" if count == total else f"  of {count:,} images"


def train(
    out: Annotated[Path, typer.Option(help="Folder for the run; new or empty.")],
    config: Annotated[Path | None, typer.Option(help="TOML recipe; flags override it.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of images, shards (wds:FOLDER), or an embedded data set's name.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="The files' channels in order: R,G,B, sentinel2 or sentinel2:B04,B03,B02.")
    ] = None,
    only_channels: Annotated[
        str | None, typer.Option(help="Train a network dedicated to these of the channels: R,G.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Height and width in pixels.")] = None,
    epoch_images: Annotated[
        int | None, typer.Option(help="Images an epoch, of shards (wds:...) that are not to be counted.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Use only the first so many classes.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Network (`anychannel list models`), or a finished run's folder to start from."),
    ] = None,
    model_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the network; repeatable.")] = None,
    pretrained: Annotated[
        bool | None, typer.Option("--pretrained", help="Start from timm's published weights of --model timm/NAME.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Start from the weights in this file, safetensors or torch.")
    ] = None,
    source_channels: Annotated[
        str | None, typer.Option(help="What these weights were trained on; default R,G,B.")
    ] = None,
    adapt_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of how trained weights are taken over; see docs/pretrained.md.")
    ] = None,
    stem: Annotated[str | None, typer.Option(help="First convolution; see `anychannel list stems`.")] = None,
    stem_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the stem; repeatable.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Which channels training shows; `anychannel list samplers`.")
    ] = None,
    sampler_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the sampler; repeatable.")] = None,
    norm: Annotated[str | None, typer.Option(help="auto, shared, statistics, subset, size or stem.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without improvement.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda ...")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or fp32.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting as KEY=VALUE; training.ema=0.999, say; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the report calls this run.")] = None,
    track: Annotated[
        str | None, typer.Option(help="Log to these trackers: tensorboard, mlflow, or tensorboard,mlflow.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out; start it if it is not there.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded images.")] = None,
    cost: Annotated[bool, typer.Option(help="Also measure FLOPs, memory and latency.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network, evaluate it on every channel subset, and write it all into one folder.

    Started by torchrun or accelerate launch, it trains with all their processes and ends with the same weights.

    Test images are read once, after training, with the weights of the best validation epoch.

    Examples:

    - `anychannel train --data bands --stem per_size --sampler dropout --epochs 5 --out runs/bands`

    - `anychannel train --data photos --channels R,G,B --model resnet18 --size 84 --out runs/photos`

    - `anychannel train --data tiles --channels sentinel2 --size 64 --out runs/tiles`

    - `anychannel train --data photos --channels R,G,B,NIR --model timm/resnet18 --pretrained --lr 0.01
      --stem completion --out runs/tuned`

    - `anychannel train --config recipes/quick.toml --data photos --seed 1 --out runs/seed-1 --resume`

    - `anychannel train --data photos --channels R,G,B --track tensorboard --out runs/photos`

    - `anychannel train --data wds:shards --channels R,G,B --size 84 --out runs/shards`

    - `torchrun --nproc-per-node 8 -m anychannel train --data photos --batch-size 1024 --out runs/photos`
    """
    flags: dict[str, Any] = {
        "data": data,
        "channels": channels,
        "only_channels": only_channels,
        "size": size,
        "classes": classes,
        "data_options": None if epoch_images is None else {"epoch_images": epoch_images},
        "model": model,
        "model_options": parse_options(model_option or []) or None,
        "pretrained": pretrained,
        "checkpoint": None if checkpoint is None else str(checkpoint.resolve()),
        "source_channels": source_channels,
        "adapt_options": parse_options(adapt_option or []) or None,
        "stem": stem,
        "stem_options": parse_options(stem_option or []) or None,
        "norm": norm,
        "name": name,
        "track": track,
        "training": {
            "sampler": sampler,
            "sampler_options": parse_options(sampler_option or []) or None,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "patience": patience,
            "seed": seed,
            "device": device,
            "precision": precision,
        },
    }
    with plain_errors():
        from anychannel.report import write_report
        from anychannel.runs import RunConfig, load_recipe, train_run
        from anychannel.runs.config import absolute_paths, merge, nest, without_none
        from anychannel.utils.processes import leave

        values = merge(load_recipe(config) if config else {}, without_none(flags))
        values = absolute_paths(merge(values, nest(parse_options(option or []))))
        home = train_run(
            RunConfig.from_dict(values), out, resume=resume, cache_dir=cache, progress=not quiet, cost=cost
        )
        if not leave().is_main:
            return
        result = json.loads((home / "evaluation" / "test.json").read_text(encoding="utf-8"))
        for key, figures in result["subsets"].items():
            if "accuracy" in figures:
                say(f"{key:>24}  {100 * figures['accuracy']:5.1f} %{of_images(figures['n'], result['n'])}")
            else:
                say(f"{key:>24}  {why_no_figures(figures)}")
        if result["note"]:
            say(result["note"])
        page = write_report([home], home / "report.html")
        say(f"the run is in {home}; open its report: {page}")
