"""``anychannel evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import percent, plain_errors, print_json, say, why_no_figures


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder that `anychannel train` wrote.")],
    channels: Annotated[
        list[str] | None,
        typer.Option(help="A subset to evaluate, as R,G; repeatable. Default: those of its recipe, or all."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data: Annotated[str | None, typer.Option(help="Another folder with the same classes.")] = None,
    data_channels: Annotated[
        str | None,
        typer.Option(
            help="That folder's channels in its files' order, as B,G,R. Default: its channels.txt, else the run's."
        ),
    ] = None,
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Let the masked stem try subsets that it was not trained on.")
    ] = False,
    save: Annotated[bool, typer.Option("--save", help="Replace the evaluation that the run's folder holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded images.")] = None,
) -> None:
    """Evaluate a run's best weights on channel subsets.

    Examples:

    - `anychannel evaluate runs/bands`

    - `anychannel evaluate runs/photos --channels R,G --channels B --json`

    - `anychannel evaluate runs/photos --data other-camera --data-channels B,G,R`
    """
    with plain_errors():
        from anychannel.runs import evaluate_run

        evaluation = evaluate_run(
            run,
            subsets=channels,
            split=split,
            data=data,
            data_channels=data_channels,
            allow_untrained=allow_untrained,
            save=save,
            cache_dir=cache,
            progress=not as_json,
        )
    result = evaluation.to_dict()
    if as_json:
        print_json(result)
        return
    partial = evaluation.present is not None
    typer.echo(f"{'channels':>24}  accuracy  top-5  macro F1    ECE{'   images' if partial else ''}")
    for key, figures in result["subsets"].items():
        if "refused" in figures:
            typer.echo(f"{key:>24}  {why_no_figures(figures)}")
            continue
        row = (figures["accuracy"], figures["top5"], figures["macro"]["f1"], figures["ece"])
        images = f"   {figures['n']:6,}" if partial else ""
        typer.echo(f"{key:>24}  {'   '.join(percent(value) for value in row)}{images}")
    if result["note"]:
        say(result["note"])
