"""``anychannel sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anychannel.cli.common import parse_options, plain_errors, say

if TYPE_CHECKING:
    from anychannel.sweeps import Outcome


def sweep(
    recipe: Annotated[Path, typer.Argument(help="TOML recipe: the settings of every trial.")],
    space: Annotated[Path, typer.Option(help="TOML file: the recipe's keys to vary, with ranges or choices.")],
    trials: Annotated[int, typer.Option(help="Trials in all, those of earlier starts included.")],
    out: Annotated[Path, typer.Option(help="Folder for the sweep; new or empty.")],
    data: Annotated[str | None, typer.Option(help="Folder of images, or an embedded data set's name.")] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="What to optimise on the validation images: val_accuracy and val_loss (all channels), "
            "mean_subset_accuracy (mean over the channel subsets), val_mean_accuracy, val_reduced_accuracy."
        ),
    ] = "val_accuracy",
    seed: Annotated[int, typer.Option(help="Seed of the search; training's is the recipe's.")] = 0,
    prune: Annotated[bool, typer.Option(help="Stop trials whose validation curve is behind the median.")] = True,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="Another setting of the recipe as KEY=VALUE; repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the sweep in --out; start it if it is not there.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded images.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Search for the settings of a recipe that do best on validation images; test images stay unread.

    Prints the best recipe, also written to best.toml, which `anychannel train --config` takes. Each trial is a run in a
    folder of its own. Kill it at any time and start it again with --resume; to use several GPUs or machines with a
    shared disk, start it several times with --resume. Needs the extra: `pip install 'anychannel[sweep]'`.

    Examples:

    - `anychannel sweep recipes/quick.toml --data photos --space space.toml --trials 30 --out sweeps/photos`

    - `anychannel sweep recipes/stains.toml --data cells --space space.toml --metric mean_subset_accuracy --trials 50
      --out sweeps/cells --resume`
    """

    def tell(outcome: Outcome) -> None:
        settings = ", ".join(f"{key}={value}" for key, value in outcome.settings.items())
        figure = "" if outcome.value is None else f" {metric} {outcome.value:.4f}"
        say(f"{outcome.name} {outcome.state}{figure} ({settings}){': ' * bool(outcome.error)}{outcome.error}")

    with plain_errors():
        from anychannel.runs import load_recipe
        from anychannel.runs.config import absolute_paths, merge, nest
        from anychannel.sweeps import sweep as search
        from anychannel.sweeps.search import BEST, best_of

        values = merge(load_recipe(recipe), {} if data is None else {"data": data})
        values = absolute_paths(merge(values, nest(parse_options(option or []))))
        outcomes = search(
            values,
            load_recipe(space),
            out,
            trials=trials,
            metric=metric,
            seed=seed,
            prune=prune,
            resume=resume,
            cache_dir=cache,
            progress=not quiet,
            on_trial=tell,
        )
        best = best_of(outcomes, metric)
        if best is None:
            say(f"no trial has finished yet; another process is at work in {out}")
            return
        counts = ", ".join(
            f"{sum(outcome.state == state for outcome in outcomes)} {state}"
            for state in ("finished", "pruned", "failed")
        )
        say(f"best of {len(outcomes)} trials ({counts}): {best.name}, {metric} {best.value:.4f}; {out / BEST}:")
        typer.echo((out / BEST).read_text(encoding="utf-8"), nl=False)
        say(f"train it, and read the test images once: anychannel train --config {out / BEST} --out runs/best")
