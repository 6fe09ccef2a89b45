"""``anychannel profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anychannel.cli.common import plain_errors, print_json, say


def profile(
    run: Annotated[Path | None, typer.Argument(help="A run's folder; or name a network with --model.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="The report's eight networks.")] = False,
    model: Annotated[str, typer.Option(help="Network; see `anychannel list models`.")] = "resnet18",
    stem: Annotated[str, typer.Option(help="First convolution; see `anychannel list stems`.")] = "completion",
    channels: Annotated[str, typer.Option(help="The full set, as R,G,B or a sensor's name.")] = "R,G,B",
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 50,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 84,
    batch_size: Annotated[int, typer.Option(help="Images a training step.")] = 64,
    memory: Annotated[bool, typer.Option(help="Measure the peak memory of a training step.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Count parameters and FLOPs, measure memory and latency.

    FLOPs come in two conventions: calflops', which leaves the two products of attention out, and one that counts them.

    Examples:

    - `anychannel profile --reference --json`

    - `anychannel profile --model compact_k7 --size 84 --batch-size 16`
    """
    with plain_errors():
        from anychannel.cost import profile as measure
        from anychannel.cost import profile_reference
        from anychannel.models import create_model, load_model

        result: dict[str, Any]
        if reference:
            result = profile_reference(memory=memory, progress=not as_json)
        else:
            if run is not None:
                network = load_model(run)
            else:
                network = create_model(model, channels=channels, num_classes=classes, stem=stem)
            result = measure(network, batch_size=batch_size, image_size=size, memory=memory)
    if as_json:
        print_json(result)
    elif reference:
        show_reference(result)
    else:
        show_profile(result)


def show_reference(result: dict[str, Any]) -> None:
    """The report's cost table."""
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
    """One network's cost for each subset."""
    typer.echo(f"{result['params']:,} parameters; batch {result['batch_size']}, {result['image_size']} pixels")
    if result.get("peak_memory_mb") is not None:
        typer.echo(f"peak memory of a training step: {result['peak_memory_mb']:.0f} MB")
    typer.echo(f"{'channels':>24}{'GFLOPs':>10}{'with attention':>16}{'ms/image at 1':>15}{'at 64':>8}")
    for key, row in result["subsets"].items():
        if "refused" in row:
            typer.echo(f"{key:>24}  refused: {row['refused']}")
            continue
        latency = row["latency_ms"]
        typer.echo(
            f"{key:>24}{row['gflops_calflops']:>10.3f}{row['gflops_with_attention']:>16.3f}"
            f"{latency['1']['median']:>15.2f}{latency['64']['median']:>8.2f}"
        )
