"""``anychannel evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from anychannel.cli.common import Cache, Json, Run, describe_missing, percent, print_json, say, warn_of_fault


def evaluate(
    run: Run,
    channels: Annotated[
        list[str] | None,
        typer.Option(help="Subset to evaluate, as R,G; repeatable. Default: the run's own subsets."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data: Annotated[str | None, typer.Option(help="Another folder with the same classes.")] = None,
    data_channels: Annotated[
        str | None,
        typer.Option(help="Channels of those files in order, as B,G,R. Default: its channels.txt, else the run's."),
    ] = None,
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Let the masked stem try subsets that it was not trained on.")
    ] = False,
    allow_unfinished: Annotated[
        bool, typer.Option("--allow-unfinished", help="Read test images although the run is not finished.")
    ] = False,
    save: Annotated[bool, typer.Option("--save", help="Replace the evaluation in the run's folder.")] = False,
    as_json: Json = False,
    cache: Cache = None,
) -> None:
    """Evaluate the best weights of a run on channel subsets.

    Examples:

    - `anychannel evaluate runs/bands`

    - `anychannel evaluate runs/photos --channels R,G --channels B --json`

    - `anychannel evaluate runs/photos --data other-camera --data-channels B,G,R`
    """
    from anychannel.runs.folder import check_evaluation

    check_evaluation(run, split, data, allow_unfinished=allow_unfinished)  # before torch is imported, which takes long
    from anychannel.runs import evaluate_run

    evaluation = evaluate_run(
        run,
        subsets=channels,
        split=split,
        data=data,
        data_channels=data_channels,
        allow_untrained=allow_untrained,
        allow_unfinished=allow_unfinished,
        save=save,
        cache_dir=cache,
        progress=not as_json,
    )
    result = evaluation.to_dict()
    warn_of_fault(run, result)
    if as_json:
        print_json(result)
        return
    partial = evaluation.present is not None
    typer.echo(f"{'channels':>24}  accuracy  top-5  macro F1    ECE{'   images' if partial else ''}")
    for key, figures in result["subsets"].items():
        if "refused" in figures:
            typer.echo(f"{key:>24}  {describe_missing(figures)}")
            continue
        row = (figures["accuracy"], figures["top5"], figures["macro"]["f1"], figures["ece"])
        images = f"   {figures['n']:6,}" if partial else ""
        typer.echo(f"{key:>24}  {'   '.join(percent(value) for value in row)}{images}")
    if result["note"]:
        say(result["note"])
