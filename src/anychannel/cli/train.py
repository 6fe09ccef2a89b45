"""``anychannel train``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from anychannel.cli.common import (
    Cache,
    Groups,
    Quiet,
    describe_missing,
    figures_head,
    main_figures,
    parse_options,
    say,
    warn_of_fault,
)

Options = list[str] | None


def train(
    run: Annotated[
        Path | None, typer.Argument(help="With --resume: the run to continue, in place of --out.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the run; new or empty. Default: the run to resume.", show_default=False),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML recipe. Flags override it. Default: none.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder of images, shards (wds:FOLDER), or name of an embedded data set. Default: the recipe's."
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            help="Channels of the files in order: R,G,B, sentinel2 or sentinel2:B04,B03,B02. Default: the data's own."
        ),
    ] = None,
    group: Groups = None,
    only_channels: Annotated[
        str | None,
        typer.Option(
            "--only-channels",
            "--use",
            help="Train a network dedicated to these channels or groups. Default: all.",
        ),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Height and width in pixels. Default: the files' size.")] = None,
    epoch_images: Annotated[
        int | None, typer.Option(help="Images per epoch, for shards (wds:...). Default: count them.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Use only the first so many classes, as 5, or those named, as oak,pine. Of a table with a column for "
            "each label, the columns that are labels. Default: all."
        ),
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            help="Split at random by this column of a CSV beside the images; images with equal values stay together. "
            "Default: the data's own split, or at random."
        ),
    ] = None,
    fold_by: Annotated[
        str | None,
        typer.Option(
            help="Cross-validate over this column of a CSV: a run for each of its values, its test images. Default: no."
        ),
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="With --fold-by: train only the run of this value. Default: all.")
    ] = None,
    skip_bad: Annotated[
        bool | None,
        typer.Option("--skip-bad", help="Leave out images that cannot be used, and list them. Default: refuse."),
    ] = None,
    convert: Annotated[
        str | None,
        typer.Option(help="rgb converts grey, alpha, palette, CMYK and 16-bit images to 8-bit RGB. Default: no."),
    ] = None,
    nodata: Annotated[
        str | None, typer.Option(help="keep, or a replacement for values that files mark as no data. Default: refuse.")
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Bands are files of their own, named like this: '{scene}_{band}.tif', or sentinel2 (docs/bands.md). "
            "Default: no."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network (`anychannel list models`), or folder of a finished run to start from. Default: resnet18."
        ),
    ] = None,
    model_option: Annotated[Options, typer.Option(help="KEY=VALUE for the network; repeatable. Default: none.")] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option("--pretrained", help="Start from timm's published weights of --model timm/NAME."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Start from the weights in this file (safetensors or torch). Default: new.")
    ] = None,
    source_channels: Annotated[
        str | None, typer.Option(help="Channels that these weights were trained on. Default: R,G,B.")
    ] = None,
    adapt_option: Annotated[
        Options,
        typer.Option(help="KEY=VALUE for adapting trained weights; see docs/pretrained.md; repeatable. Default: none."),
    ] = None,
    stem: Annotated[
        str | None, typer.Option(help="First convolution (`anychannel list stems`). Default: completion.")
    ] = None,
    stem_option: Annotated[Options, typer.Option(help="KEY=VALUE for the stem; repeatable. Default: none.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Channel sampling in training (`anychannel list samplers`). Default: split.")
    ] = None,
    sampler_option: Annotated[
        Options, typer.Option(help="KEY=VALUE for the sampler; repeatable. Default: none.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="Batch norm: auto, shared, statistics, subset, size or stem. Default: auto.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Largest number of epochs, in all; more of them than a finished run has train it further with "
            "--resume. Default: 15."
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(help="End before the epoch that would pass this time, as 20m or 1h30m. Default: no limit."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch. Default: 128.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Batches per step, whose gradients are added. Default: 1.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate. Default: 0.1, or 0.01 for trained weights.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without improvement. Default: never.")
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            help="For uneven classes: loss weights images by their class's inverse frequency, sample draws each class "
            "equally often. Default: none."
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="Random changes of training images: none, default (shifts, left-right flips), light, scenes (no side "
            "is up) or strong (with mixup and cutmix); see docs/training.md. Default: default."
        ),
    ] = None,
    monitor: Annotated[
        str | None,
        typer.Option(
            help="Validation figure that chooses the best epoch: accuracy, balanced_accuracy, macro_f1, val_loss, ... "
            "Default: auto: balanced_accuracy if classes are uneven, else accuracy; mean_average_precision of several "
            "labels an image."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed. Default: 0.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ... Default: auto.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or fp32. Default: auto.")] = None,
    option: Annotated[
        Options,
        typer.Option(
            "--set", help="Any other setting as KEY=VALUE, such as training.ema=0.999; repeatable. Default: none."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run in reports. Default: the folder's name.")] = None,
    track: Annotated[
        str | None, typer.Option(help="Trackers to log to: tensorboard, mlflow, or tensorboard,mlflow. Default: none.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out, with its own settings where none are given, or start it if there is none.",
        ),
    ] = False,
    allow_pipe: Annotated[
        bool,
        typer.Option("--allow-pipe", help="Run the commands typed as --data wds:pipe:COMMAND. A recipe's are refused."),
    ] = False,
    cache: Cache = None,
    cost: Annotated[
        bool | None,
        typer.Option(
            "--cost/--no-cost", help="Measure FLOPs, memory and latency at the end. Default: yes; --resume: as before."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a network, evaluate it on every channel subset, and write everything into one folder.

    Under torchrun or accelerate launch, all processes train one network together.

    Test images are read once, after training, with the weights of the best validation epoch. Without a test split, the
    validation images are evaluated.

    Examples:

    - `anychannel train --data bands --stem per_size --sampler dropout --epochs 5 --out runs/bands`

    - `anychannel train --data photos --channels R,G,B --model resnet18 --size 84 --out runs/photos`

    - `anychannel train --data tiles --channels sentinel2 --size 64 --out runs/tiles`

    - `anychannel train --data scenes --bands '{scene}_{band}.tif' --size 64 --out runs/scenes`

    - `anychannel train --data photos --channels R,G,B,NIR --model timm/resnet18 --pretrained --lr 0.01
      --stem completion --out runs/tuned`

    - `anychannel train --data crowns --channels R,G,B,height --group camera=R,G,B --group lidar=height
      --out runs/crowns`

    - `anychannel train --data crowns --split-by plot --out runs/crowns`

    - `anychannel train --data crowns --fold-by fold --out runs/folds`

    - `anychannel train --config recipes/quick.toml --data photos --seed 1 --out runs/seed-1 --resume`

    - `anychannel train --resume runs/photos --epochs 30 --lr 0.01`

    - `anychannel train --data photos --channels R,G,B --track tensorboard --out runs/photos`

    - `anychannel train --data wds:shards --channels R,G,B --size 84 --out runs/shards`

    - `torchrun --nproc-per-node 8 -m anychannel train --data photos --batch-size 1024 --out runs/photos`
    """
    flags = dict(locals())
    from anychannel.runs.config import RunConfig, absolute_paths, check_source, check_typed, load_recipe, merge, nest
    from anychannel.runs.folder import prepare_folder, resumed_recipe

    out = choose_folder(out, run, resume)
    typed = merge(settings_of(flags), nest(parse_options(option)))
    values = merge(load_recipe(config) if config else resumed_recipe(out, typed) if resume else {}, typed)
    values |= {"groups": typed["groups"]} if "groups" in typed else {}
    if allow_pipe:
        check_typed(values, typed)
    settings = RunConfig.from_dict(absolute_paths(values))
    check_source(settings.data)
    folds = "fold_by" in settings.data_options and "fold" not in settings.data_options
    if os.environ.get("WORLD_SIZE", "1") == "1" and not folds:  # several processes check it together
        prepare_folder(settings, out, resume)
    from anychannel.report import write_report  # not before, since torch takes long to import
    from anychannel.runs import cross_validate, train_run
    from anychannel.utils.processes import leave

    options: dict[str, Any] = {"resume": resume, "cache_dir": cache, "progress": not quiet, "cost": cost}
    if folds:
        runs = cross_validate(settings, out, allow_pipe=allow_pipe, **options)
        if leave().is_main:
            show_folds(runs)
            say(f"the runs are in {out}; open their report: {write_report(runs, out / 'report.html')}")
        return
    home = train_run(settings, out, allow_pipe=allow_pipe, **options)
    if not leave().is_main:
        return
    show_run(home)
    page = write_report([home], home / "report.html")
    say(f"the run is in {home}; open its report: {page}")


def choose_folder(out: Path | None, run: Path | None, resume: bool) -> Path:
    """The folder of the run, from ``--out`` or, with ``--resume``, an argument."""
    if run is not None and (out is not None or not resume):
        raise ValueError(
            f"{run} is a second folder beside --out; name one of them"
            if out is not None
            else f"{run} would be a run to continue; add --resume, or give --out {run} for a new run"
        )
    if run is not None and not (run / "config.toml").is_file():
        raise ValueError(f"{run} holds no run to continue; give --out {run} with --data to start one there")
    if out is None and run is None:
        raise ValueError("the folder for the run is missing; give --out, or name a run with --resume")
    return out or run  # type: ignore[return-value]  # one of them is given


def show_run(home: Path) -> None:
    """Print a run's figures on every subset, and what was converted or skipped."""
    from anychannel.results.run import evaluated_split

    record = json.loads((home / "run.json").read_text(encoding="utf-8"))
    split = evaluated_split(record)
    result = json.loads((home / "evaluation" / f"{split}.json").read_text(encoding="utf-8"))
    say(f"{f'{split} (%)':>24}  {figures_head('thresholds' in result)}")
    for key, figures in result["subsets"].items():
        if "refused" not in figures:
            images = "" if figures["n"] == result["n"] else f"  of {figures['n']:,} images"
            say(f"{figures.get('name', key):>24}  {main_figures(figures)}{images}")
        else:
            say(f"{figures.get('name', key):>24}  {describe_missing(figures)}")
    if result["note"]:
        say(result["note"])
    if converted := record.get("converted"):
        say("converted to RGB: " + ", ".join(f"{count:,} ({kind})" for kind, count in converted.items()))
    if skipped := record.get("skipped"):
        say(f"skipped {len(skipped):,} images that cannot be used (all are in {home / 'run.json'}):")
        say(
            "\n".join(f"  {line}" for line in skipped[:20])
            + (f"\n  and {len(skipped) - 20:,} more" * (len(skipped) > 20))
        )
    if record.get("timed_out"):
        say(
            f"the time limit ended training after {record['epochs_run']} of {record['epochs_planned']} epochs; "
            f"anychannel train --resume {home} trains the others"
        )
    warn_of_fault(home, result)


def show_folds(homes: list[Path]) -> None:
    """Print the mean and the standard deviation over folds on every subset."""
    from anychannel.results.folds import Folds
    from anychannel.results.run import load_runs

    found = Folds.of(load_runs(homes))
    names = ("accuracy", "balanced", "macro F1") if "accuracy" in found.figures else ("mean AP", "micro F1", "macro F1")
    say(f"{f'{len(homes)} folds (%)':>24}  {'  '.join(f'{name:>13}' for name in names)}")
    for name, spreads in found.rows.items():
        cells = (f"{100 * spread.mean:.1f} ± {100 * spread.deviation:.1f}" for spread in spreads.values())
        say(f"{name:>24}  {'  '.join(f'{cell:>13}' for cell in cells)}")


def settings_of(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that are settings of a recipe, by their names. Flags that are not given are left out."""
    from dataclasses import fields

    from anychannel.runs.config import RunConfig
    from anychannel.training.settings import TrainingSettings

    training, known = ({field.name for field in fields(kind)} for kind in (TrainingSettings, RunConfig))
    from anychannel.channels import parse_groups

    settings: dict[str, Any] = {"training": {}}
    if flags["group"]:
        settings["groups"] = parse_groups(flags["group"])
    for flag, value in flags.items():
        key = f"{flag}s" if flag.endswith("_option") else flag
        if key != flag:
            value = parse_options(value) or None
        if value is not None and key in training | known:
            table = settings["training"] if key in training else settings
            table[key] = str(value) if isinstance(value, Path) else value
    options = {
        name: flags[name]
        for name in ("epoch_images", "split_by", "fold_by", "fold", "skip_bad", "convert", "nodata", "bands")
        if flags[name] is not None
    }
    if flags["nodata"] is not None:
        options |= parse_options([f"nodata={flags['nodata']}"])
    return settings | ({"data_options": options} if options else {})
