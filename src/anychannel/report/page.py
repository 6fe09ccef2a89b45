"""The page: run folders in, one HTML file and each run's figures out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from anychannel.report import confusion, figures, tables, theme
from anychannel.report.verdict import is_uneven, judge, percent
from anychannel.results.evaluation import Scores, SubsetResult
from anychannel.results.run import Run, RunError, led_by_watched, load_runs, measured
from anychannel.results.shapley import Shapley
from anychannel.utils.files import readable, write_text
from anychannel.utils.plurals import plural
from anychannel.utils.version import __version__

MANY_RUNS = 3
"""With more runs, their curves become small multiples."""
WIDE_SUBSETS = 8
LONG_KEY = 16
"""With more subsets, or characters in one's name, subsets go down the page and runs across it."""


def write_report(runs: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Write a page that compares runs, and each run's figures into its own folder.

    Args:
        runs: folders that ``anychannel train`` wrote; unfinished and failed runs are shown with their status.
        out: the HTML file. It needs no other file and no network.
        title: of the page; None makes one from the runs.

    Returns:
        ``out``.

    Raises:
        RunError: no run was given, or a folder is not a run.
        OSError: the page cannot be written.

    Warns:
        UserWarning: the figures cannot be written into a run's folder.
    """
    loaded = led_by_watched(load_runs([Path(run) for run in runs]))
    if len({tuple(run.figures) for run in loaded}) > 1:
        several = [run.name for run in loaded if "accuracy" not in run.figures]
        raise RunError(
            f"images have several labels in {', '.join(several)} and one class in the others; write a report of each"
        )
    write_text(Path(out), readable(render(loaded, title)))
    for run in loaded:
        try:
            write_figures(run)
        except OSError as error:
            warnings.warn(
                f"{out} is complete, but the figures cannot be written to {run.folder / 'figures'}: {error.strerror}",
                UserWarning,
                stacklevel=2,
            )
    return Path(out)


def write_figures(run: Run) -> None:
    """Write a run's charts into its ``figures`` folder, as SVG files."""
    drawings = {}
    if run.epochs:
        limits = figures.shared_limits([run])
        drawings = {kind: figures.curve(run, kind, limits, kind) for kind in curve_kinds(run)}
    if run.test and run.test.answered:
        drawings["subset_accuracy"] = figures.subset_chart(run, "subsets")
    for head, found in shapley_kinds(run):
        title = f"{run.name}: contribution of each {head}"
        drawings[f"shapley_{head}s"] = figures.shapley_chart(found, head, 640, title=title)
    if run.test and run.test.whole and run.test.whole.confusion:
        drawings["confusion"] = confusion.matrix_drawing(run, run.test.whole, "confusion")
    for name, drawing in drawings.items():
        write_text(run.folder / "figures" / f"{name}.svg", theme.stand_alone(drawing))


def render(runs: Sequence[Run], title: str | None = None) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("anychannel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "plural": plural, "soft": soft, "pairs": confusion.confused_pairs}
    environment.filters["sentence"] = lambda words: words[:1].upper() + words[1:]
    environment.filters |= {"signed": tables.signed, "width": confusion.width, "matrix_data": confusion.matrix_data}
    keys = tables.subset_keys(runs)
    tests = [run.test for run in runs if run.test]
    verdicts, notes = judge(runs)
    return environment.get_template("report.html.j2").render(
        title=title or default_title(runs),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        light=Markup(theme.css_variables(theme.LIGHT)),
        dark=Markup(theme.css_variables(theme.DARK)),
        runs=runs,
        facts=facts(runs),
        verdicts=verdicts,
        fold_table=tables.fold_table,
        uneven=any(is_uneven(test.whole) for test in tests if test.whole),
        notes=notes,
        training=tables.training_table(runs),
        cost=tables.cost_table(runs),
        measured=measured(runs),
        class_counts=[(run, counts) for run in runs if (counts := tables.class_table(run))],
        subsets=tables.subset_table(runs, keys),
        figures=tables.shared_figures(runs),
        other_figures=[tables.subset_table(runs, keys, name) for name in list(tables.shared_figures(runs))[1:]],
        gaps=tables.subset_gap_table(runs, keys),
        calibration=[table for run in runs if (table := tables.calibration_table(run, keys))],
        shapley=[(run, kinds) for run in runs if (kinds := shapley_kinds(run))],
        shapley_chart=figures.shapley_chart,
        shapley_table=tables.shapley_table,
        best_table=tables.best_table,
        labels=tables.subset_labels(runs),
        comparisons=[run.gaps for at, run in enumerate(runs) if run.gaps not in (None, *(r.gaps for r in runs[:at]))],
        dedicated_table=tables.dedicated_table,
        gap_chart=figures.gap_chart,
        sizes=tables.size_table(runs),
        size_gaps=tables.size_table(runs, gap=True),
        stacked=len(keys) > WIDE_SUBSETS or max(map(len, tables.subset_labels(runs).values()), default=0) > LONG_KEY,
        error=max((result.standard_error for test in tests for result in test.answered.values()), default=0),
        many_subsets=len(keys) > tables.MANY_SUBSETS,
        subset_notes=sorted({test.note for test in tests if test.note}),
        chance=sorted({len(run.classes) for run in runs if run.test and run.classes and "accuracy" in run.headline}),
        reference=tables.reference_figures(),
        curves=curves(runs),
        many_runs=len(runs) > MANY_RUNS,
        classes=[(run, found) for run in runs if run.test and (found := detailed(run.test, keys))],
        matrix=confusion.matrix_drawing,
        some_panels=any(len(test.answered) > tables.MANY_SUBSETS for test in tests),
        refusing=[(run, run.test.refused) for run in runs if run.test and run.test.refused],
        examples=[
            (run, run.examples, [result.key for result in detailed(run.test, keys)] if run.test else keys)
            for run in runs
            if run.examples and run.examples["images"]
        ],
        scatters=[Markup(figures.cost_scatter(runs, f"cost-{width}", width)) for width in (980, 360)],
        provenance=[(run, tables.provenance(run)) for run in runs],
    )


def curve_kinds(run: Run) -> tuple[str, str]:
    """What a run's training curves show."""
    return next(iter(run.figures)), "loss"


def shapley_kinds(run: Run) -> list[tuple[str, Shapley]]:
    """The Shapley values of a run's groups and channels, with the word for one of them."""
    found = run.test.shapley if run.test else {}
    return [(head, found[kind]) for kind, head in (("groups", "group"), ("channels", "channel")) if kind in found]


def soft(words: str) -> Markup:
    """``words``, escaped, with places to break a long name: after commas, underscores and slashes."""
    return Markup(re.sub(r"([,_/])(?=\S)", r"\1<wbr>", str(escape(words))))


def default_title(runs: Sequence[Run]) -> str:
    """The number of runs, or the name of one, and their data."""
    sets = list(dict.fromkeys(run.text("dataset") for run in runs if run.text("dataset")))
    about = f" on {', '.join(sets)}" if sets else ""
    return f"{runs[0].name}{about}" if len(runs) == 1 else f"{len(runs)} runs{about}"


def facts(runs: Sequence[Run]) -> list[str]:
    """What all runs share: channels, classes, images."""

    def of(run: Run) -> list[str]:
        counts = [run.record.get(f"num_{split}") for split in ("train", "val", "test")]
        train, val, test = counts = [f"{count:,}" if isinstance(count, int) else "" for count in counts]
        return [
            f"channels {', '.join(run.channels)}" if run.channels else "",
            f"{len(run.classes)} {'labels, several an image' if run.record.get('several_labels') else 'classes'}"
            if run.classes
            else "",
            f"{train} training, {val} validation and {test} test images" if all(counts) else "",
            run.text("split"),
            f"{run.pixels} pixels" if run.pixels else "",
        ]

    return [each[0] for each in zip(*map(of, runs), strict=True) if each[0] and len(set(each)) == 1]


def curves(runs: Sequence[Run]) -> list[list[tuple[Run, str, Markup, str]]]:
    """Training curves on shared axes, each in front of the other runs' faint ones, with the data to read them out.

    A group is one run's accuracy and loss side by side, or for many runs all accuracies, then all losses.
    """
    trained = [run for run in runs if run.epochs]
    limits = figures.shared_limits(runs)
    many = len(trained) > MANY_RUNS
    width = 340.0 if many else 480.0

    def chart(index: int, kind: str) -> tuple[Run, str, Markup, str]:
        run, others = trained[index], trained[:index] + trained[index + 1 :]
        drawing = figures.curve(run, kind, limits, f"{kind}{index}", others=others, width=width)
        return run, kind, Markup(drawing), figures.curve_data(run, kind, limits, width)

    of_kinds = [[chart(index, curve_kinds(run)[place]) for index, run in enumerate(trained)] for place in (0, 1)]
    return [group for group in of_kinds if group] if many else [list(pair) for pair in zip(*of_kinds, strict=True)]


def detailed(test: Scores, keys: Sequence[str]) -> list[SubsetResult]:
    """Subsets shown class by class: all, or of many the full set and, for each size, the best and the worst."""
    own = [test.answered[key] for key in keys if key in test.answered]
    if len(own) <= tables.MANY_SUBSETS:
        return own
    chosen = [test.whole]
    for size in {test.size(result.key) for result in own}:
        alike = sorted((each for each in own if test.size(each.key) == size), key=lambda each: (each.score, each.key))
        chosen += [alike[0], alike[-1]]
    return [result for result in own if result in chosen]
