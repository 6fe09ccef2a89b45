"""The verdict: what the figures say in plain words, and no more than they support.

Accuracy here is the runs' main figure: balanced accuracy or macro F1 if training watched it.

Two accuracies are called different only if they differ by more than two standard errors. The standard error of one
accuracy is binomial (``SubsetResult.standard_error``), that of mean average precision, which takes its place if images
may have several labels, from the bootstrap. That of a mean over subsets is at most the mean of the subsets' standard
errors, whatever their correlation, and that bound is used. Two runs are treated as independent. On the same images they
usually err together, so that this too is cautious.

A network that does better without some of its channels than with all of them is never praised: something is wrong or
unfinished. As the best of m subsets is also the luckiest, it has to be better by more standard errors the larger m is
(Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from anychannel.results.evaluation import Scores, SubsetResult
from anychannel.results.folds import Folds, Spread, find_folds
from anychannel.results.run import Run
from anychannel.results.run import measured as measured_on
from anychannel.utils.plurals import plural
from anychannel.utils.uneven import is_uneven as any_uneven

SEPARATE = 2.0
"""Standard errors beyond which two accuracies are called different."""

FEW_EPOCHS = 10
"""Fewer are called a short training."""


@dataclass(frozen=True)
class Mean:
    """Mean accuracy, or mean average precision, over subsets, with an upper bound of its standard error."""

    score: float
    standard_error: float


Measured = Mean | SubsetResult


@dataclass(frozen=True)
class Standing:
    """A run's accuracies: on the full set, and mean and worst over the subsets for which all ranked runs have results.

    None stands for no result.
    """

    run: Run
    test: Scores
    full: SubsetResult | None
    mean: Mean | None
    worst: SubsetResult | None

    @property
    def refused(self) -> int:
        """Number of subsets with channels missing that the run refuses."""
        return len(self.test.refused.keys() - {self.test.full})

    @property
    def refuses(self) -> bool:
        """Whether it refused all subsets with channels missing, and at least one."""
        return self.refused > 0 and not self.test.others


@dataclass(frozen=True)
class Verdict:
    """A headline about runs that were evaluated on the same test images, and sentences with the figures behind it.

    ``standings`` are the runs by their mean accuracy with channels missing, on the subsets with these keys;
    ``heading`` says what the runs have in common, for pages with several groups. ``folds`` are the figures over the
    folds of a cross-validation.
    """

    headline: str
    sentences: tuple[str, ...]
    standings: tuple[Standing, ...]
    subsets: tuple[str, ...]
    heading: str
    folds: Folds | None = None

    @property
    def top(self) -> float:
        """A round fraction above every accuracy of the standings."""
        values = [each.score for entry in self.standings for each in (entry.full, entry.mean) if each]
        return min(1.0, math.ceil(10 * max(values, default=1.0) + 0.05) / 10) or 1.0


def percent(fraction: float, digits: int = 1) -> str:
    """``0.4712`` as ``47.1 %``, with a no-break space."""
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def points(fraction: float) -> str:
    """A difference, without its sign, in percentage points."""
    size = f"{abs(100 * fraction):.1f}"
    return f"{size} point" if size == "1.0" else f"{size} points"


def listed(items: Iterable[str]) -> str:
    """``a, b and c``."""
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def differ(one: Measured, other: Measured, separate: float = SEPARATE) -> bool:
    """Whether two accuracies differ by more than two standard errors, or by more than ``separate``."""
    error = math.hypot(one.standard_error, other.standard_error)
    return abs(one.score - other.score) > separate * error


def describe_watched(group: Sequence[tuple[Run, Scores]]) -> list[str]:
    """By which figures runs chose their epochs, of those that differ from the one that leads here."""
    said = []
    for run, test in group:
        by_loss = run.text("monitor").endswith("_loss")
        if by_loss or (run.watched and run.watched != next(iter(run.figures))):
            figure = "loss" if by_loss else run.figures[run.watched]
            said.append(f"{run.name} chose its epoch by {figure}, and not by {test.headline}.")
    return said


def describe_fault(run: Run, test: Scores) -> list[str]:
    """What is wrong with a run if a subset beats the full set, and the likely cause; empty if none does.

    If images lack channels, subsets are compared on the images that have every channel.
    """
    whole = test.whole
    others: list[tuple[str, Measured]] = [(each.label, each) for each in test.others.values()]
    if whole is None or not others:
        return []
    if test.partial:
        others = []
        for key, gap in test.score_gaps.items():
            error = test.answered[key].standard_error * math.sqrt(test.answered[key].n / whole.n)
            others.append((test.answered[key].label, Mean(whole.score + gap, error)))
    label, best = max(others, key=lambda each: each[1].score, default=("", whole))
    separate = NormalDist().inv_cdf(1 - NormalDist().cdf(-SEPARATE) / max(1, len(others)))
    if best.score <= whole.score or not differ(best, whole, separate):
        return []
    cause = "Probably training was too short, or the other channels mislead it: check their order, units and content."
    if 0 < len(run.epochs) < FEW_EPOCHS:
        cause = f"It was trained for {plural(len(run.epochs), 'epoch')}, probably too short: train longer."
    return [
        f"Something is wrong or unfinished in {run.name}: it reaches {percent(best.score)}{unit_of(test)} with "
        f"{label} alone, but {percent(whole.score)} with all channels.",
        cause,
    ]


def judge(runs: Sequence[Run]) -> tuple[list[Verdict], list[str]]:
    """Verdicts, one for each set of runs with the same test images, and sentences about runs that are not ranked."""
    groups: dict[tuple[object, ...], list[tuple[Run, Scores]]] = {}
    notes = []
    crossed = find_folds(runs)
    for run in runs:
        if any(run in found.runs for found in crossed):
            continue
        test = run.test
        if run.status == "finished" and test is not None and test.answered:
            same = run.text("dataset"), run.text("fingerprint"), run.channels, run.classes, test.full, test.n
            groups.setdefault(same, []).append((run, test))
        else:
            notes.append(f"{describe_unranked(run)} It is not ranked.")
    if len(groups) + len(crossed) > 1:
        notes.insert(
            0,
            f"The runs fall into {len(groups) + len(crossed)} groups that saw different data, classes or image sizes; "
            "accuracies are compared within a group only.",
        )
    return [*map(judge_folds, crossed), *(judge_group(group) for group in groups.values())], notes


def judge_folds(folds: Folds) -> Verdict:
    """The verdict on a cross-validation: mean and standard deviation over the folds."""
    first, spreads = folds.runs[0], folds.rows.get(folds.full)
    tests = [(run, run.test) for run in folds.runs if run.test is not None]
    count = plural(len(folds.runs), "fold")

    def words(spread: Spread) -> str:
        return f"{percent(spread.mean)} ± {100 * spread.deviation:.1f}"

    def line(what: str, found: dict[str, Spread]) -> str:
        return f"{what}: {', '.join(f'{label} {words(found[name])}' for name, label in folds.figures.items())}."

    headline = f"{count} of {first.text('dataset')} by {first.text('fold_by')} have no subset in common."
    sentences = []
    if spreads:
        name = next(iter(folds.figures))
        headline = f"Over {count}, {folds.figures[name]} is {words(spreads[name])} with all channels"
        headline += f", and {words(folds.reduced[name])} when channels are missing." if folds.reduced else "."
        sentences.append(line("All channels", spreads))
    if folds.reduced:
        sentences.append(line("Mean over the subsets with channels missing", folds.reduced))
    sentences += [sentence for run, test in tests for sentence in describe_fault(run, test)]
    sentences += describe_watched(tests)
    total = sum(test.n for _, test in tests)
    sentences.append(
        f"Each fold of {first.text('fold_by')!r} is the test split of one run, {total:,} images in all. ± is the "
        "standard deviation over the folds, which share most of their training images."
    )
    shared = tuple(key for key in tests[0][1].others if all(key in test.others for _, test in tests))
    standings = tuple(stand(run, test, shared) for run, test in tests)
    heading = f"{first.text('dataset') or 'unnamed data'}, {count} by {first.text('fold_by')}"
    return Verdict(headline, tuple(sentences), standings, shared, heading, folds)


def is_uneven(result: SubsetResult) -> bool:
    """Whether classes are uneven, so that accuracy and balanced accuracy differ."""
    return any_uneven(score["support"] for score in result.per_class)


def describe_classes(standings: Sequence[Standing]) -> list[str]:
    """Balanced accuracy and macro F1 of each run, if classes are uneven; micro and macro F1 of several labels."""
    said = []
    for entry in standings:
        if entry.full is None or not (is_uneven(entry.full) or entry.full.has_several):
            continue
        kept = list(entry.test.others.values())
        parts = []
        for name, label in list(entry.test.figures.items())[1:]:
            full, others = getattr(entry.full, name), [getattr(each, name) for each in kept]
            fewer = f", {percent(fmean(others))} on average with channels missing" if others else ""
            parts.append(f"{label} is {percent(full)} with all channels{fewer}")
        if entry.full.has_several:
            said.append(f"With the thresholds chosen on validation images, {'; '.join(parts)} ({entry.run.name}).")
            continue
        counts = [score["support"] for score in entry.full.per_class]
        uneven = "" if said else f"Classes are uneven ({min(counts):,} to {max(counts):,} images). "
        said.append(f"{uneven}Of {entry.run.name}, {'; '.join(parts)}.")
    return said


def describe_unranked(run: Run) -> str:
    """Why a run is not ranked."""
    planned = run.record.get("epochs_planned")
    done = f"{len(run.epochs)} of {planned} epochs" if planned else plural(len(run.epochs), "epoch")
    error = run.text("error").strip().rstrip(".")
    because = f": {error}" if error else ""
    finished = "without test results" if run.test is None else "but refuses every subset"
    states = {
        "finished": f"finished {finished}.",
        "running": f"is still running ({done} so far).",
        "not finished": f"was killed after {done}, or runs on another machine; --resume continues it.",
        "failed": f"failed after {done}{because}.",
        "interrupted": f"was interrupted after {done}{because}.",
        "stopped": f"was stopped after {done}{because}.",
    }
    return f"{run.name} {states.get(run.status, f'has the unknown status {run.status!r} after {done}{because}.')}"


def stand(run: Run, test: Scores, shared: Sequence[str]) -> Standing:
    """A run's standing, with mean and worst over the subsets with these keys."""
    kept = [test.others[key] for key in shared if key in test.others]
    accuracies, errors = [each.score for each in kept], [each.standard_error for each in kept]
    mean = Mean(fmean(accuracies), fmean(errors)) if kept else None
    return Standing(run, test, test.whole, mean, min(kept, key=lambda each: each.score, default=None))


def judge_group(group: Sequence[tuple[Run, Scores]]) -> Verdict:
    """The verdict on runs with the same test images."""
    first, test = group[0]
    asked = list(dict.fromkeys(key for _, each in group for key in each.subsets if key != each.full))
    takers = [each.others for _, each in group if each.others]
    shared = tuple(key for key in asked if takers and all(key in others for others in takers))
    standings = sorted(
        (stand(run, each, shared) for run, each in group),
        key=lambda entry: (entry.mean.score if entry.mean else -1.0, entry.full.score if entry.full else 0.0),
        reverse=True,
    )
    faults = [describe_fault(entry.run, entry.test) for entry in standings]
    sound = [entry for entry, fault in zip(standings, faults, strict=True) if not fault]
    measured = [(entry, entry.mean, entry.worst) for entry in standings if entry.mean and entry.worst]
    ranked = [each for each in measured if each[0] in sound]
    if measured:
        sentences = [sentence for fault in faults for sentence in fault]
        if len(ranked) == 1:
            sentences += describe_single(*ranked[0], standings if len(measured) == 1 else sound[:1])
        elif ranked:
            sentences += describe_ranked(ranked, shared)
        sentences.append(describe_full((ranked or measured)[0][0], standings))
        sentences += describe_coverage(standings, shared, asked)
    else:
        best = max(standings, key=lambda entry: entry.full.score if entry.full else 0.0)
        sentences = [describe_no_mean(standings, asked), describe_full(best, standings)]
    sentences += describe_classes(standings)
    sentences += [
        f"{run.name} has no test split: its figures are of the validation images, on which its best epoch was chosen, "
        "so that they are too good."
        for run, _ in group
        if run.measured == "validation"
    ]
    if len(group) > 1 and test.headline != "accuracy" and test.main:
        sentences.append(f"Runs are ranked by {test.headline}.")
    sentences += describe_watched(group)
    if any(each.sampled for _, each in group):
        sentences.append("The subsets are a sample of all possible ones.")
    if test.partial:
        sentences.append(
            "Images lack channels, so that accuracies on different subsets rest on different images; differences from "
            "the full set, below, are over the images that have every channel."
        )
    how = {"macro_f1": "by the delta method", "mean_average_precision": "from the bootstrap"}.get(
        next(iter(test.figures)), "binomial"
    )
    counts = sorted(result.n for result in test.answered.values())
    kind = f"{measured_on([run for run, _ in group])} images"
    images = f"the {counts[0]:,} to {counts[-1]:,} of {test.n:,} {kind} that have a subset's channels"
    sentences.append(
        f"Standard errors are {how}, for {images if test.partial else f'{test.n:,} {kind}'}. They cover the "
        f"choice of {kind}, not the effect of another training seed."
    )
    named = "classes" if test.thresholds is None else "labels"
    heading = f"{first.text('dataset') or 'unnamed data'}, {len(first.classes)} {named}"
    heading += f", {first.pixels} pixels" if first.pixels else ""
    headline, *rest = sentences
    return Verdict(headline, tuple(filter(None, rest)), tuple(standings), shared, heading)


def describe_no_mean(standings: Sequence[Standing], asked: Sequence[str]) -> str:
    """Why the runs cannot be compared with channels missing."""
    refusing = [entry.run.name for entry in standings if entry.refuses]
    if not asked:
        return "No subset with channels missing was evaluated."
    if not refusing:
        return "The runs share no subset with channels missing, so they cannot be compared on one."
    alone = ", and no other run was evaluated on one" if len(refusing) < len(standings) else ""
    return f"{listed(refusing)} refuse{'s' * (len(refusing) == 1)} every subset with channels missing{alone}."


def describe_single(entry: Standing, mean: Mean, worst: SubsetResult, standings: Sequence[Standing]) -> list[str]:
    """Headline and sentence if one run alone has results with channels missing."""
    headline = f"{entry.run.name} averages {percent(mean.score)}{unit_of(entry.test)} when channels are missing"
    if len(standings) > 1:
        headline = f"Only {entry.run.name} has results with channels missing: it averages {percent(mean.score)}"
        headline += unit_of(entry.test)
    sentence = f"The worst subset is {worst.label} at {percent(worst.score)}"
    if entry.full:
        headline += f", against {percent(entry.full.score)} with all channels"
        loss = entry.full.score - worst.score
        sentence += f", {points(loss)} {'below' if loss > 0 else 'above'} the full set"
    return [f"{headline}.", f"{sentence}."]


def describe_ranked(ranked: Sequence[tuple[Standing, Mean, SubsetResult]], shared: Sequence[str]) -> list[str]:
    """Headline and sentences if several runs have results on the same subsets with channels missing."""
    (first, mean, own), (second, next_mean, _) = ranked[:2]
    tied = [entry.run.name for entry, other, _ in ranked if entry is first or not differ(mean, other)]
    if len(tied) == 1:
        headline = f"{first.run.name} keeps most {first.test.headline} when channels go missing."
    else:
        who = (
            f"No run clearly keeps more {first.test.headline} when channels go missing: the {len(ranked)} runs "
            "compared are"
            if len(tied) == len(ranked)
            else f"{listed(tied)} keep most {first.test.headline} when channels go missing,"
        )
        headline = f"{who} within two standard errors of the highest mean."
    only = first.test.answered[shared[0]].label
    over = f"the {len(shared)} subsets with channels missing" if len(shared) > 1 else f"the subset {only}"
    lead = points(mean.score - next_mean.score)
    best, _, worst = max(ranked, key=lambda each: each[2].score)
    worst_case = f"Its worst subset is {own.label} at {percent(own.score)}"
    if best is first:
        worst_case += "; no other run's worst is better."
    else:
        worst_case += (
            f". {best.run.name} has the best worst case, {percent(worst.score)} on {worst.label}, "
            f"{points(worst.score - own.score)} more; {significance(own, worst)}."
        )
    return [
        headline,
        f"Over {over}, {first.run.name} averages {percent(mean.score)}, {lead} more than {second.run.name}, next at "
        f"{percent(next_mean.score)}; {significance(mean, next_mean)}.",
        worst_case,
    ]


def describe_full(entry: Standing, standings: Sequence[Standing]) -> str:
    """A run's full-set accuracy against that of the best other run."""
    if entry.full is None:
        return f"{entry.run.name} has no result on the full set." if len(standings) > 1 else ""
    said = f"With all channels {entry.run.name} reaches {with_error(entry.full, unit_of(entry.test))}"
    rivals = [(other.full, other.run.name) for other in standings if other.full and other is not entry]
    if not rivals:
        return f"{said}."
    best, name = max(rivals, key=lambda rival: rival[0].score)
    gap = points(entry.full.score - best.score)
    if entry.full.score >= best.score:
        said += f", {gap} more than {name} at {with_error(best)}"
    else:
        said += f". The best there is {name} at {with_error(best)}, {gap} more"
    return f"{said}; {significance(entry.full, best)}."


def describe_coverage(standings: Sequence[Standing], shared: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Which runs lack results on subsets with channels missing."""
    said = []
    for entry in standings:
        answered = len(entry.test.others)
        if entry.mean is None and answered:
            said.append(f"{entry.run.name} has no result for the subsets on which the others are compared.")
        elif entry.refuses:
            every = "every subset" if entry.refused == len(asked) else plural(entry.refused, "subset")
            said.append(f"{entry.run.name} refuses {every} with channels missing.")
        elif not answered:
            said.append(f"{entry.run.name} was evaluated on the full set only.")
        elif answered < len(asked):
            said.append(
                f"{entry.run.name} has results for {answered} of the {len(asked)} subsets with channels missing."
            )
    if len(shared) < len(asked):
        said.append(f"Means are over the {plural(len(shared), 'subset')} for which every ranked run has a result.")
    return said


def unit_of(test: Scores) -> str:
    """What follows a figure that is not the accuracy."""
    return "" if test.headline == "accuracy" else f" {test.headline}"


def with_error(figure: Measured, unit: str = "") -> str:
    """An accuracy with its standard error."""
    return f"{percent(figure.score)}{unit} (standard error {points(figure.standard_error)})"


def significance(one: Measured, other: Measured) -> str:
    """Whether the test images separate two accuracies."""
    if differ(one, other):
        return "that is more than two standard errors"
    return "that is within two standard errors, so the test images do not separate them"
