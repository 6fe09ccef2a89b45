"""``anychannel profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anychannel.cli.common import Groups, Json, print_json, refuse_flags, say
from anychannel.utils.sizes import describe_size, parse_size


def profile(
    run: Annotated[Path | None, typer.Argument(help="A run's folder; or name a network with --model.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Measure the report's eight networks.")] = False,
    model: Annotated[str | None, typer.Option(help="Network (`anychannel list models`). Default: resnet18.")] = None,
    stem: Annotated[
        str | None, typer.Option(help="First convolution (`anychannel list stems`). Default: completion.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channels that the images hold, as R,G,B or a sensor's name. Default: R,G,B.")
    ] = None,
    group: Groups = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes. Default: 50.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Height and width in pixels, as 84 or 48x64. Default: the run's, or 84.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per training step. Default: the run's, or 64.")
    ] = None,
    memory: Annotated[bool, typer.Option(help="Measure the peak memory of a training step.")] = True,
    as_json: Json = False,
) -> None:
    """Count parameters and FLOPs, and measure memory and latency.

    FLOPs come in two conventions: as calflops counts them, without the two matrix products of attention, and with them.

    Examples:

    - `anychannel profile runs/photos`

    - `anychannel profile --reference --json`

    - `anychannel profile --model compact_k7 --size 84 --batch-size 16`
    """
    from anychannel.runs.folder import check_network

    pixels = None if size is None else parse_size(size)
    of_network = {"--model": model, "--stem": stem, "--channels": channels, "--group": group, "--classes": classes}
    if reference:
        of_size = {"RUN": run, "--size": size, "--batch-size": batch_size}
        refuse_flags(of_size | of_network, "--reference measures the report's networks as the report does")
    elif run is not None:
        refuse_flags(of_network, f"{run} says what its network is")
        check_network(run)
    from anychannel.channels import as_channel_set, parse_groups
    from anychannel.cost.profile import profile as measure  # not before, since torch takes long to import
    from anychannel.cost.profile import profile_report_networks
    from anychannel.export import run_image_size
    from anychannel.models import create_model, load_model
    from anychannel.results.run import read_record

    result: dict[str, Any]
    shown: dict[str, Any] = {"memory": memory, "progress": not as_json}
    if reference:
        result = profile_report_networks(**shown)
    elif run is not None:
        network = load_model(run)
        record = read_record(run) if (run / "run.json").is_file() else {}
        batch_size = batch_size or record.get("batch_size", 64)
        result = measure(network, batch_size=batch_size, image_size=pixels or run_image_size(run), **shown)
    else:
        known = as_channel_set(channels or "R,G,B")
        network = create_model(
            model or "resnet18",
            channels=known.with_groups(parse_groups(group)) if group else known,
            num_classes=50 if classes is None else classes,
            stem=stem or "completion",
        )
        result = measure(network, batch_size=batch_size or 64, image_size=pixels or 84, **shown)
    if as_json:
        print_json(result)
    elif reference:
        show_reference(result)
    else:
        show_profile(result)


def show_reference(result: dict[str, Any]) -> None:
    """Print the report's cost table."""
    typer.echo(f"{'network':<16}{'batch':>6}{'parameters':>13}{'GFLOPs':>12}{'with attention':>16}{'peak MB':>10}")
    for name, row in result.items():
        peak = row.get("peak_memory_mb")
        typer.echo(
            f"{name:<16}{row['batch_size']:>6}{row['params']:>13,}{row['gflops_calflops']:>12.4f}"
            f"{row['gflops_with_attention']:>16.4f}{'-' if peak is None else format(peak, '.0f'):>10}"
        )
    for name, row in result.items():
        if row.get("note"):
            say(f"{name}: {row['note']}")


def show_profile(result: dict[str, Any]) -> None:
    """Print the cost of one network for each subset."""
    size = describe_size(result["image_size"])
    typer.echo(f"{result['params']:,} parameters; batch {result['batch_size']}, {size} pixels")
    if result.get("peak_memory_mb") is not None:
        typer.echo(f"peak memory of a training step: {result['peak_memory_mb']:.0f} MB")
    typer.echo(f"{'channels':>24}{'GFLOPs':>10}{'with attention':>16}{'ms/image at 1':>15}{'at 64':>8}")
    for key, row in result["subsets"].items():
        if "refused" in row:
            typer.echo(f"{row.get('name', key):>24}  refused: {row['refused']}")
            continue
        latency = row["latency_ms"]
        typer.echo(
            f"{row.get('name', key):>24}{row['gflops_calflops']:>10.3f}{row['gflops_with_attention']:>16.3f}"
            f"{latency['1']['median']:>15.2f}{latency['64']['median']:>8.2f}"
        )
