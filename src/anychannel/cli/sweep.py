"""``anychannel sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anychannel.cli.common import Cache, Quiet, parse_options, say

if TYPE_CHECKING:
    from anychannel.sweeps import Outcome


def sweep(
    recipe: Annotated[Path, typer.Argument(help="TOML recipe: the settings of every trial.")],
    space: Annotated[Path, typer.Option(help="TOML file: the settings to vary, with ranges or choices.")],
    trials: Annotated[int, typer.Option(help="Total number of trials, including those of earlier starts.")],
    out: Annotated[Path, typer.Option(help="Folder for the sweep; new or empty.")],
    data: Annotated[
        str | None, typer.Option(help="Folder of images, or name of an embedded data set. Default: the recipe's.")
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="Validation metric to optimise: val_accuracy, val_balanced_accuracy, val_macro_f1 or val_loss (all "
            "channels), mean_subset_accuracy, ... (mean over the channel subsets), val_mean_accuracy, ... or "
            "val_reduced_accuracy, .... auto: val_balanced_accuracy if classes are uneven, else val_accuracy; "
            "val_mean_average_precision if images have several labels."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed of the search. The recipe has that of training.")] = 0,
    prune: Annotated[bool, typer.Option(help="Stop trials whose validation curve is behind the median.")] = True,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting of the recipe as KEY=VALUE; repeatable. Default: none."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the sweep in --out, or start it if there is none.")
    ] = False,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Search for the settings of a recipe that do best on validation images. Test images stay unread.

    Prints the best recipe and writes it to best.toml, for `anychannel train --config`. Each trial is a run in its own
    folder. If interrupted, start it again with --resume. To use several GPUs, or machines with a shared disk, start it
    several times with --resume. Needs an extra: `pip install 'anychannel[sweep]'`.

    Examples:

    - `anychannel sweep recipes/quick.toml --data photos --space space.toml --trials 30 --out sweeps/photos`

    - `anychannel sweep recipes/stains.toml --data cells --space space.toml --metric mean_subset_accuracy --trials 50
      --out sweeps/cells --resume`
    """
    from anychannel.runs.config import RunConfig, absolute_paths, check_source, load_recipe, merge, nest

    def report(outcome: Outcome) -> None:
        settings = ", ".join(f"{key}={value}" for key, value in outcome.settings.items())
        figure = "" if outcome.value is None else f" {metric} {outcome.value:.4f}"
        say(f"{outcome.name} {outcome.state}{figure} ({settings}){': ' * bool(outcome.error)}{outcome.error}")

    values = merge(load_recipe(recipe), {} if data is None else {"data": data})
    values = absolute_paths(merge(values, nest(parse_options(option))))
    ranges = load_recipe(space)
    check_source(RunConfig.from_dict(values).data)
    from anychannel.sweeps import sweep as search  # not before, since torch takes long to import
    from anychannel.sweeps.search import BEST, best_of, metric_of

    outcomes = search(
        values,
        ranges,
        out,
        trials=trials,
        metric=metric,
        seed=seed,
        prune=prune,
        resume=resume,
        cache_dir=cache,
        progress=not quiet,
        on_trial=report,
    )
    metric = metric_of(out) or metric
    best = best_of(outcomes, metric)
    if best is None:
        say(f"no trial has finished yet; another process is at work in {out}")
        return
    states = [outcome.state for outcome in outcomes]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("finished", "pruned", "failed"))
    say(f"best of {len(outcomes)} trials ({counts}): {best.name}, {metric} {best.value:.4f}; {out / BEST}:")
    typer.echo((out / BEST).read_text(encoding="utf-8"), nl=False)
    say(f"train it, and read the test images once: anychannel train --config {out / BEST} --out runs/best")
