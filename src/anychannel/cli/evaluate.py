"""``anychannel evaluate``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from anychannel.cli.common import (
    Cache,
    Json,
    Run,
    Tta,
    Use,
    describe_missing,
    figures_head,
    former_use,
    main_figures,
    percent,
    print_json,
    say,
    warn_of_fault,
)

TOP = 5
"""With up to so many classes, every answer is right among the first five."""
OTHERS = {"exact_match": "all right", "top5": "top-5", "ece": "  ECE"}
"""Heads of the figures after the main ones."""


def evaluate(
    run: Run,
    use: Use = None,
    by: Annotated[
        str | None,
        typer.Option(help="groups or channels: of which all subsets are evaluated. Default: groups, if there are any."),
    ] = None,
    tta: Tta = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test. Default: test, or val if the data have no test split.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Another folder with the same classes. Default: the run's data.")
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            help="Channels of the files of --data in order, as B,G,R. Default: its channels.txt, else the run's."
        ),
    ] = None,
    data_channels: Annotated[str | None, typer.Option(hidden=True, help="The former name of --channels.")] = None,
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
    """Evaluate the best weights of a run on channel subsets, and say which channels matter.

    The Shapley value of a channel is what it adds to accuracy on average over the orders in which channels can arrive.

    Examples:

    - `anychannel evaluate runs/bands`

    - `anychannel evaluate runs/photos --use R,G --use B --json`

    - `anychannel evaluate runs/crowns --by channels --save`

    - `anychannel evaluate runs/photos --data other-camera --channels B,G,R`
    """
    from anychannel.runs.folder import check_evaluation

    # before torch is imported, which takes long
    check_evaluation(run, split or "test", data, allow_unfinished=allow_unfinished)
    from anychannel.runs import evaluate_run

    if data is None or data_channels is not None or len(channels or ()) > 1:
        use = former_use(use, channels)
    elif channels is not None:
        data_channels = channels[0]
    evaluation = evaluate_run(
        run,
        subsets=use,
        by=by,
        tta=tta,
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
    name_of = {key: figures.get("name", key) for key, figures in result["subsets"].items()}
    partial = evaluation.present is not None
    several = evaluation.thresholds is not None
    shown = ("exact_match",) if several else ("top5", "ece") if len(evaluation.classes) > TOP else ("ece",)
    more = "  ".join(OTHERS[name] for name in shown)
    typer.echo(f"{'channels':>24}  {figures_head(several)}  {more}{'   images' if partial else ''}")
    for key, figures in result["subsets"].items():
        if "refused" in figures:
            typer.echo(f"{name_of[key]:>24}  {describe_missing(figures)}")
            continue
        images = f"   {figures['n']:6,}" if partial else ""
        others = (f"{percent(figures[name]):>{len(OTHERS[name])}}" for name in shown)
        typer.echo(f"{name_of[key]:>24}  {main_figures(figures)}  {'  '.join(others)}{images}")
    if several and evaluation.full in evaluation.probabilities:
        typer.echo("\n" + describe_labels(result["subsets"][evaluation.full]))
    for kind, found in evaluation.shapley.items():
        typer.echo("\n" + describe_shapley(kind, found))
    if result["note"]:
        say(result["note"])


def describe_labels(figures: dict[str, Any]) -> str:
    """A table of each label's figures with all channels, of several labels an image."""
    lines = [f"{'label, all channels':>24}  average precision     F1  precision  recall  images  threshold"]
    for one in figures["per_class"]:
        precision = "" if one["average_precision"] is None else percent(one["average_precision"])
        rates = f"{percent(one['f1'])}  {percent(one['precision']):>9}  {percent(one['recall']):>6}"
        lines.append(f"{one['class']:>24}  {precision:>17}  {rates}  {one['support']:6,}  {one['threshold']:9.3f}")
    return "\n".join(lines)


def describe_shapley(kind: str, found: dict[str, Any]) -> str:
    """A table of what each channel or group contributes to accuracy, in points, and the subsets that need fewer."""
    first = "accuracy" if "accuracy" in found else "mean_average_precision"
    ranking = found[first]
    ordered = sorted(ranking["values"].items(), key=lambda entry: -entry[1]["shapley"])

    def points(value: float | None) -> str:
        return "     " if value is None else f"{100 * value:+5.1f}"

    lines = [f"{kind:>24}  Shapley value  added to all others  {'mean AP' if first != 'accuracy' else first} alone"]
    for name, one in ordered:
        error = "" if one["standard_error"] is None else f" ± {100 * one['standard_error']:.1f}"
        alone = "" if one["alone"] is None else percent(one["alone"])
        share = points(one["shapley"]) + error
        lines.append(f"{name:>24}  {share:<13}  {points(one['adds']):>19}  {alone:>14}".rstrip())
    best = [(f"best of {one['size']}", one) for one in ranking["best"]]
    best.append(("within one point of all", ranking["smallest"]))
    lines += [f"{head:>24}  {percent(one['value'])}  {one['subset']}" for head, one in best]
    how = "exact" if found["exact"] else f"from {found['orders']} random orders, with the standard error of the mean"
    return "\n".join([*lines, f"Shapley values are {how}; {found['n']:,} images that have every channel."])
