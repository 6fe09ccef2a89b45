"""The page: run folders in, one HTML file and each run's figures out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from anychannel.report import confusion, figures, tables, theme
from anychannel.report.gap import gap_panels
from anychannel.report.load import load_runs
from anychannel.report.provenance import provenance
from anychannel.report.records import Run, SubsetResult
from anychannel.report.verdict import judge, percent
from anychannel.utils.files import readable, write_text
from anychannel.utils.version import __version__

KINDS = ("accuracy", "loss")
MANY_RUNS = 3
"""Beyond this many runs their curves become small multiples."""
WIDE_SUBSETS = 8
LONG_KEY = 16
"""Beyond this many subsets, or characters in one's name, subsets go down the page and runs across it."""


@dataclass(frozen=True)
class ClassPanel:
    """One run on one subset: its matrix, its most confused pairs and its classes' scores.

    ``order`` counts the runs that have panels; ``names`` is the id of the element that lists the classes.
    """

    order: int
    run: Run
    result: SubsetResult
    matrix: Markup
    width: int
    names: str
    data: str
    pairs: tuple[str, ...]


@dataclass(frozen=True)
class CurvePanel:
    """One chart of a run, its ``kind`` being accuracy or loss, and the data to read it out."""

    run: Run
    kind: str
    chart: Markup
    data: str


@dataclass(frozen=True)
class ExamplePanel:
    """One run's example images; ``keys`` are the subsets whose predictions are shown."""

    run: Run
    channels: tuple[str, ...]
    keys: tuple[str, ...]
    images: tuple[dict[str, Any], ...]


def write_report(runs: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Write a page that compares runs, and each run's figures into its own folder.

    Args:
        runs: folders that ``anychannel train`` wrote; unfinished and failed runs are shown as what they are.
        out: the HTML file. It needs no other file and no network.
        title: of the page; None makes one from the runs.

    Returns:
        ``out``.

    Raises:
        ReportError: no run was given, or a folder is not a run.
        OSError: the page cannot be written.

    Warns:
        UserWarning: a run's folder takes no figures.
    """
    loaded = load_runs([Path(run) for run in runs])
    page = render(loaded, title)
    write_text(Path(out), readable(page))
    for run in loaded:
        try:
            write_figures(run)
        except OSError as error:
            warnings.warn(
                f"{out} is complete, but the figures cannot be written to {run.folder / 'figures'} as files of their "
                f"own too: {error.strerror}",
                UserWarning,
                stacklevel=2,
            )
    return Path(out)


def write_figures(run: Run) -> list[Path]:
    """Write what can be drawn of a run into its ``figures`` folder, as SVG files that stand alone."""
    drawings = {}
    if run.epochs:
        limits = figures.shared_limits([run])
        drawings["accuracy"] = figures.curve(run, "accuracy", limits, "accuracy")
        drawings["loss"] = figures.curve(run, "loss", limits, "loss")
    if run.test and run.test.answered:
        drawings["subset_accuracy"] = figures.subset_bars(run, "subsets")
    if run.test and run.test.whole and run.test.whole.confusion:
        drawings["confusion"] = confusion.matrix_drawing(run, run.test.whole, "confusion")
    written = []
    for name, drawing in drawings.items():
        path = run.folder / "figures" / f"{name}.svg"
        write_text(path, theme.stand_alone(drawing))
        written.append(path)
    return written


def render(runs: Sequence[Run], title: str | None = None) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("anychannel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "soft": soft}
    keys = tables.subset_keys(runs)
    limits = figures.shared_limits(runs)
    verdicts, notes = judge(runs)
    scatters = [
        Markup(figures.cost_scatter(runs, f"cost-{name}", width))
        for name, width in (("wide", 980.0), ("narrow", 360.0))
    ]
    panels, class_names = class_panels(runs, keys)
    return environment.get_template("report.html.j2").render(
        title=title or default_title(runs),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        light=Markup(theme.css_variables(theme.LIGHT)),
        dark=Markup(theme.css_variables(theme.DARK)),
        runs=runs,
        facts=facts(runs),
        verdicts=verdicts,
        notes=notes,
        training=tables.training_table(runs),
        cost=tables.cost_table(runs),
        subsets=tables.subset_table(runs, keys),
        gaps=tables.gap_table(runs, keys),
        gap_panels=gap_panels(runs),
        sizes=tables.size_table(runs),
        size_gaps=tables.size_table(runs, gap=True),
        stacked=len(keys) > WIDE_SUBSETS or max(map(len, keys), default=0) > LONG_KEY,
        error=max((held.standard_error for run in runs if run.test for held in run.test.answered.values()), default=0),
        many_subsets=len(keys) > tables.MANY_SUBSETS,
        subset_notes=sorted({run.test.note for run in runs if run.test and run.test.note}),
        chance=sorted({len(run.classes) for run in runs if run.test and run.classes}),
        reference=tables.reference_figures(),
        curves=curve_panels(runs, limits),
        many_runs=len(runs) > MANY_RUNS,
        panels=panels,
        class_runs=list(dict.fromkeys(panel.run.name for panel in panels)),
        some_panels=any(run.test and len(run.test.answered) > tables.MANY_SUBSETS for run in runs),
        class_names=class_names,
        refusals=tables.refusals(runs),
        examples=example_panels(runs, keys),
        scatters=scatters if scatters[0] else [],
        provenance=[provenance(run) for run in runs],
    )


def soft(words: str) -> Markup:
    """``words``, escaped, with places where a long name may break: after commas, underscores and slashes."""
    return Markup(re.sub(r"([,_/])(?=\S)", r"\1<wbr>", str(escape(words))))


def default_title(runs: Sequence[Run]) -> str:
    """What the runs are about."""
    sets = list(dict.fromkeys(run.text("dataset") for run in runs if run.text("dataset")))
    about = f" on {', '.join(sets)}" if sets else ""
    return f"{runs[0].name}{about}" if len(runs) == 1 else f"{len(runs)} runs{about}"


def facts(runs: Sequence[Run]) -> list[str]:
    """What all runs share: channels, classes, images."""

    def common(values: list[str]) -> str:
        return values[0] if len(set(values)) == 1 else ""

    channels = common([", ".join(run.channels) for run in runs])
    classes = common([str(len(run.classes)) for run in runs])
    sizes = common([run.pixels for run in runs])
    counts = common(["/".join(run.text(f"num_{split}") for split in ("train", "val", "test")) for run in runs])
    said = []
    if channels:
        said.append(f"channels {channels}")
    if classes and classes != "0":
        said.append(f"{classes} classes")
    if counts and all(counts.split("/")):
        train, val, test = (f"{int(part):,}" for part in counts.split("/"))
        said.append(f"{train} training, {val} validation and {test} test images")
    if sizes:
        said.append(f"{sizes} pixels")
    return said


def curve_panels(runs: Sequence[Run], limits: figures.Limits) -> list[list[CurvePanel]]:
    """Curves of the runs that have any, on shared axes, each before the others' faint ones.

    Returns:
        Groups of panels: a run's two charts side by side, or where runs are many all accuracies, then all losses.
    """
    trained = [run for run in runs if run.epochs]
    many = len(trained) > MANY_RUNS
    width = 340.0 if many else 480.0

    def panel(run: Run, kind: str) -> CurvePanel:
        others = [other for other in trained if other is not run]
        key = f"{kind}{trained.index(run)}"
        drawing = figures.curve(run, kind, limits, key, others=others, width=width)
        return CurvePanel(run, kind, Markup(drawing), figures.curve_data(run, kind, limits, width))

    if many:
        return [[panel(run, kind) for run in trained] for kind in KINDS]
    return [[panel(run, kind) for kind in KINDS] for run in trained]


def class_panels(runs: Sequence[Run], keys: Sequence[str]) -> tuple[list[ClassPanel], list[tuple[str, list[str]]]]:
    """Panels for the runs' subsets, the full set first, and the lists of class names that they point to."""
    panels = []
    lists: dict[tuple[str, ...], str] = {}
    detail = [(run, found) for run in runs if run.test and (found := detailed(run, keys))]
    for order, (run, found) in enumerate(detail):
        assert run.test is not None
        for place, key in enumerate(found):
            result = run.test.subsets[key]
            classes = tuple(score.name for score in result.per_class)
            drawing = confusion.matrix_drawing(run, result, f"cm{order}-{place}")
            panels.append(
                ClassPanel(
                    order=order,
                    run=run,
                    result=result,
                    matrix=Markup(drawing),
                    width=round(confusion.drawing_width(result)),
                    names=lists.setdefault(classes, f"classes-{len(lists)}"),
                    data=confusion.matrix_data(result),
                    pairs=tuple(confusion.confused_pairs(result)),
                )
            )
    return panels, [(name, list(classes)) for classes, name in lists.items()]


def detailed(run: Run, keys: Sequence[str]) -> list[str]:
    """Subsets shown class by class: all, or where they are many the full set and each size's best and worst."""
    assert run.test is not None
    answered = run.test.answered
    own = [key for key in keys if key in answered and answered[key].confusion]
    if len(own) <= tables.MANY_SUBSETS:
        return own
    chosen = {run.test.full}
    for size in {answered[key].size for key in own}:
        alike = sorted((key for key in own if answered[key].size == size), key=lambda key: answered[key].accuracy)
        chosen |= {alike[0], alike[-1]}
    return [key for key in own if key in chosen]


def example_panels(runs: Sequence[Run], keys: Sequence[str]) -> list[ExamplePanel]:
    """Example images of the runs that have any."""
    panels = []
    for run in runs:
        if not run.examples or not run.examples["images"]:
            continue
        told = {key for image in run.examples["images"] for key in image["predictions"]}
        shown = [key for key in (detailed(run, keys) if run.test else keys) if key in told]
        panels.append(ExamplePanel(run, tuple(run.examples["channels"]), tuple(shown), tuple(run.examples["images"])))
    return panels
