"""``anychannel compare``."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from anychannel.cli.common import Cache, Json, Quiet, Runs, Use, former_use, percent, print_json, refuse_flags, say

FIGURES = ("_balanced_accuracy", "_macro_f1")


def compare(
    runs: Runs,
    dedicated: Annotated[
        bool,
        typer.Option(
            "--dedicated",
            help="Train a plain network for each subset and compare the runs (one configuration, any seeds).",
        ),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            help="With --dedicated. passes: each dedicated network gets as many image passes as the run. total: they "
            "share them. Default: both."
        ),
    ] = None,
    use: Use = None,
    channels: Annotated[list[str] | None, typer.Option(hidden=True, help="The former name of --use.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="With --dedicated: use only so many of the evaluated subsets. Default: all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the dedicated runs. Default: `dedicated` beside the first run.")
    ] = None,
    as_json: Json = False,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Compare runs on the same test images, subset by subset, or one network with a dedicated network per subset.

    Without `--dedicated`, every run is paired with the first: difference, bootstrap interval, McNemar's test. With it,
    missing dedicated networks are trained first. If interrupted, start it again to continue.

    Examples:

    - `anychannel compare runs/plain runs/adaptive`

    - `anychannel compare runs/adaptive-s0 runs/adaptive-s1 --dedicated --budget passes`

    - `anychannel compare runs/satellite --dedicated --sample 16 --json`
    """
    from anychannel.results.run import read_record

    for run in runs:
        read_record(run)  # before torch is imported, which takes long
    use = former_use(use, channels)
    if dedicated:
        from anychannel.report import write_report
        from anychannel.runs.dedicated import BUDGETS, compare_dedicated

        home = out or runs[0].resolve().parent / "dedicated"
        result = compare_dedicated(
            runs,
            home,
            budgets=BUDGETS if budget in (None, "both") else (str(budget),),
            subsets=use,
            sample=sample,
            cache_dir=cache,
            progress=not (quiet or as_json),
        )
        say(f"the report with the gap table: {write_report(runs, home / 'report.html')}")
    else:
        flags = {"--budget": budget, "--sample": sample, "--out": out}
        refuse_flags(flags, "without --dedicated no network is trained")
        result = against_first(runs, use)
    if as_json:
        print_json(result)
    elif dedicated:
        show_gap(result)
    else:
        show_pairs(result)


def against_first(runs: list[Path], channels: list[str] | None) -> dict[str, Any]:
    """Pair each run with the first on every subset that both answered. Their channel orders may differ."""
    from anychannel.channels import parse_names
    from anychannel.results.evaluation import load_evaluation
    from anychannel.results.run import warn_unfinished

    if len(runs) < 2:
        raise ValueError("name at least two runs to compare, or one with --dedicated")
    warn_unfinished(*runs)
    first, *others = [load_evaluation(run) for run in runs]
    from anychannel.evaluation import compare as pair  # not before, since torch takes long to import

    known = first.channels
    named = None if channels is None else [known.key(known.subset(subset)) for subset in channels]
    table = {}
    for run, other in zip(runs[1:], others, strict=True):
        theirs = {frozenset(parse_names(key)): key for key in other.probabilities}
        pairs = {key: theirs.get(frozenset(parse_names(key)), key) for key in named or first.probabilities}
        table[str(run)] = {
            known.name(known.subset(key)): pair(first, other, subset=key, second_subset=found).to_dict()
            for key, found in pairs.items()
            if named or found in other.probabilities
        }
        if not table[str(run)]:
            raise ValueError(
                f"{runs[0]} and {run} have no subset in common: the first answered {' / '.join(first.probabilities)}, "
                f"the other {' / '.join(other.probabilities)}; evaluate them on the same (anychannel evaluate RUN "
                "--use R,G --save)"
            )
    return {"first": str(runs[0]), "others": table}


def show_pairs(result: dict[str, Any]) -> None:
    """Print the paired comparison, in percent and percentage points."""
    for run, rows in result["others"].items():
        typer.echo(f"{run} against {result['first']}")
        several = any("micro_f1" in row for row in rows.values())
        second = "micro F1" if several else "balanced"
        head = f"first  second  difference (95 % interval)       p  {second}, each   macro F1, each"
        typer.echo(f"{'channels':>24}   {head}")
        for key, row in rows.items():
            p_value = "     –" if row["p_value"] is None else f"{row['p_value']:.4f}"
            figures = f"{percent(row['first'])}   {percent(row['second'])}  {interval(row)}  {p_value}"
            pairs = (row["balanced_accuracy"] or row["micro_f1"], row["macro_f1"])
            others = (f"{percent(one)}   {percent(other)}" for one, other in pairs)
            typer.echo(f"{key:>24}   {figures}   {'    '.join(others)}  n = {row['n']:,}")


def interval(row: dict[str, Any]) -> str:
    """A difference with its interval, in percentage points."""
    return f"{100 * row['difference']:+5.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})".rjust(26)


def show_gap(result: dict[str, Any]) -> None:
    """Print one gap table per budget, in percent and percentage points."""
    from anychannel.results.gap import describe_epochs

    for budget, table in result["budgets"].items():
        ours = describe_epochs(table["adaptive_epochs"], table["adaptive_epochs_run"])
        theirs = describe_epochs(table["dedicated_epochs"], table["dedicated_epochs_run"])
        typer.echo(
            f"{result['network']} ({ours} epochs, {len(result['seeds'])} seeds) against {table['networks']} dedicated "
            f"networks of {theirs} epochs each (budget: {budget})"
        )
        head = "for all  dedicated  difference (95 % interval)  balanced, each   macro F1, each"
        typer.echo(f"{'channels':>24}   {head}")
        for row in table["rows"]:
            kinds = [f"{kind}{figure}" for figure in ("", *FIGURES) for kind in ("adaptive", "dedicated")]
            ours, theirs, *others = [percent(fmean(row[kind])) if kind in row else "    –" for kind in kinds]
            cells = f"  {ours}      {theirs}  {interval(row)}   {'   '.join(others[:2])}    {'   '.join(others[2:])}"
            typer.echo(f"{row['subset']:>24}   {cells}")
        worst = table["worst"]
        typer.echo(
            f"{'mean':>24}   {100 * table['mean']:+.1f}; worst {100 * worst['difference']:+.1f} ({worst['subset']})"
        )
