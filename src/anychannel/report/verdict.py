"""The verdict: what the numbers say in plain words, and no more than they support.

Accuracies of two runs are called different only where they differ by more than two standard errors. The standard
error of one accuracy is binomial (``SubsetResult.standard_error``). That of a mean over subsets is at most the mean of
the subsets' standard errors, whatever their correlation, and that bound is used. Two runs are taken as independent;
read on the same images they usually err together, so this too is on the careful side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anychannel.report.records import Run, SubsetResult, TestResult
from anychannel.utils.plurals import plural

SEPARATE = 2.0
"""Standard errors beyond which two accuracies are called different."""


@dataclass(frozen=True)
class Standing:
    """A run's accuracies, as fractions, over the subsets on which its group is compared.

    Args:
        run: which run.
        full, full_error: accuracy on the full set and its standard error; None where it has none.
        mean, mean_error: mean over the other subsets and an upper bound of its standard error; None where none counts.
        worst: the weakest of those subsets.
        answered, refused, asked: how many of the group's other subsets the run has results for, how many it refuses,
            and how many there are.
    """

    run: Run
    full: float | None
    full_error: float
    mean: float | None
    mean_error: float
    worst: SubsetResult | None
    answered: int
    refused: int
    asked: int

    @property
    def refuses(self) -> bool:
        """Whether it was asked for other subsets than the full one and refused them all."""
        return self.refused > 0 and not self.answered


@dataclass(frozen=True)
class Verdict:
    """Sentences about runs that were read on the same test images.

    Args:
        headline: one sentence.
        sentences: what supports it.
        standings: all finished runs with test results; those that keep most accuracy first.
        subsets: keys of the other subsets on which the runs are compared.
        heading: what the runs have in common, for pages with several groups.
    """

    headline: str
    sentences: tuple[str, ...]
    standings: tuple[Standing, ...]
    subsets: tuple[str, ...]
    heading: str

    @property
    def top(self) -> float:
        """A round fraction above every accuracy of the standings."""
        values = [value for entry in self.standings for value in (entry.full, entry.mean) if value is not None]
        return min(1.0, math.ceil(10 * max(values, default=1.0) + 0.05) / 10) or 1.0


def percent(fraction: float, digits: int = 1) -> str:
    """``0.4712`` as ``47.1 %``, the space unbreakable."""
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def points(fraction: float) -> str:
    """A difference, without its sign, in percentage points."""
    size = f"{abs(100 * fraction):.1f}"
    return f"{size} point" if size == "1.0" else f"{size} points"


def listed(items: Iterable[str]) -> str:
    """``a, b and c``."""
    words = list(items)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def apart(difference: float, *errors: float) -> bool:
    """Whether a difference exceeds two standard errors."""
    return abs(difference) > SEPARATE * math.hypot(*errors)


def judge(runs: Sequence[Run]) -> tuple[list[Verdict], list[str]]:
    """Verdicts, one for each set of runs that share their test images, and sentences about runs that are not ranked."""
    groups: dict[tuple[object, ...], list[Run]] = {}
    notes = []
    for run in runs:
        if run.status == "finished" and run.test is not None and run.test.answered:
            groups.setdefault(test_images(run, run.test), []).append(run)
        else:
            notes.append(unranked(run))
    verdicts = [judge_group(group) for group in groups.values()]
    if len(verdicts) > 1:
        notes.insert(
            0,
            f"The runs fall into {len(verdicts)} groups that saw different data, classes or image sizes; "
            "accuracies are compared within a group only.",
        )
    return verdicts, notes


def test_images(run: Run, test: TestResult) -> tuple[object, ...]:
    """What two runs must share for their accuracies to be comparable."""
    return run.text("dataset"), run.text("fingerprint"), run.channels, run.classes, test.full, test.n


def unranked(run: Run) -> str:
    """Why a run is not ranked."""
    planned = run.record.get("epochs_planned")
    done = f"{len(run.epochs)} of {planned} epochs" if planned else plural(len(run.epochs), "epoch")
    if run.status == "finished":
        why = "finished without test results" if run.test is None else "finished, but refuses every subset it was asked"
        return f"{run.name} {why}; it is not ranked."
    if run.status == "running":
        return f"{run.name} is still running ({done} so far); it is not ranked."
    if run.status == "not finished":
        went = f"{run.name} was killed after {done}, or runs on another machine"
        return f"{went}; --resume goes on with it. It is not ranked."
    error = run.text("error").strip()
    because = f": {error.rstrip('.')}" if error else ""
    known = {"failed": "failed", "interrupted": "was interrupted", "stopped": "was stopped"}
    state = known.get(run.status, f"has the unknown status {run.status!r}")
    return f"{run.name} {state} after {done}{because}; it is not ranked."


def judge_group(runs: Sequence[Run]) -> Verdict:
    """The verdict on runs that share their test images."""
    tests = [(run, run.test) for run in runs if run.test is not None]
    asked = list(dict.fromkeys(key for _, test in tests for key in test.subsets if key != test.full))
    takers = [test for _, test in tests if test.others]
    shared = tuple(key for key in asked if takers and all(key in test.others for test in takers))
    standings = sorted(
        (standing(run, test, shared, len(asked)) for run, test in tests),
        key=lambda entry: (-math.inf if entry.mean is None else entry.mean, entry.full or 0.0),
        reverse=True,
    )
    heading = f"{runs[0].text('dataset') or 'unnamed data'}, {plural(len(runs[0].classes), 'class')}".replace(
        "classs", "classes"
    )
    heading += f", {runs[0].pixels} pixels" if runs[0].pixels else ""
    headline, sentences = phrase(standings, shared, asked, tests[0][1])
    return Verdict(headline, tuple(sentences), tuple(standings), shared, heading)


def standing(run: Run, test: TestResult, shared: Sequence[str], asked: int) -> Standing:
    """Where a run stands on the shared subsets."""
    whole = test.whole
    kept = [test.others[key] for key in shared if key in test.others]
    return Standing(
        run=run,
        full=None if whole is None else whole.accuracy,
        full_error=0.0 if whole is None else whole.standard_error,
        mean=sum(result.accuracy for result in kept) / len(kept) if kept else None,
        mean_error=sum(result.standard_error for result in kept) / len(kept) if kept else 0.0,
        worst=min(kept, key=lambda result: result.accuracy) if kept else None,
        answered=len(test.others),
        refused=sum(held.refused is not None for key, held in test.subsets.items() if key != test.full),
        asked=asked,
    )


def phrase(
    standings: Sequence[Standing], shared: Sequence[str], asked: Sequence[str], test: TestResult
) -> tuple[str, list[str]]:
    """Headline and sentences."""
    ranked = [entry for entry in standings if entry.mean is not None]
    silent = [entry for entry in standings if entry.mean is None]
    if not ranked:
        headline, sentences = phrase_full_only(standings, asked)
    elif len(ranked) == 1:
        headline, sentences = phrase_single(ranked[0], shared, silent)
    else:
        headline, sentences = phrase_ranked(ranked, shared)
    if ranked:
        sentences.append(phrase_full(ranked[0], standings))
        sentences += [f"{entry.run.name} {absence(entry)}." for entry in silent]
        partial = [entry for entry in ranked if entry.answered < entry.asked]
        sentences += [
            f"{entry.run.name} has results for {entry.answered} of the {entry.asked} subsets with channels missing."
            for entry in partial
        ]
        if len(shared) < len(asked):
            sentences.append(
                f"Means are over the {plural(len(shared), 'subset')} for which every ranked run has a result."
            )
    if any(entry.run.test and entry.run.test.sampled for entry in standings):
        sentences.append("The subsets are a sample of all possible ones.")
    if test.partial:
        sentences.append(
            "Images lack channels, so that accuracies on different subsets rest on different images; differences from "
            "the full set, below, are over the images that have every channel."
        )
    sentences.append(
        f"Standard errors are binomial, for {describe_images(test)}. They cover the choice of test images, not what "
        "another training seed would change."
    )
    return headline, [sentence for sentence in sentences if sentence]


def describe_images(test: TestResult) -> str:
    """On how many images the figures rest, in words."""
    if not test.partial:
        return f"{test.n:,} test images"
    counts = sorted(result.n for result in test.answered.values())
    return f"the {counts[0]:,} to {counts[-1]:,} of {test.n:,} test images that have a subset's channels"


def absence(entry: Standing) -> str:
    """Why a run has no mean over the subsets on which its group is compared."""
    if entry.answered:
        return "has no result for the subsets on which the others are compared"
    if entry.refuses:
        return (
            "refuses every subset with channels missing"
            if entry.refused == entry.asked
            else (f"refuses the {plural(entry.refused, 'subset')} with channels missing that it was asked")
        )
    return "was evaluated on the full set only"


def phrase_full_only(standings: Sequence[Standing], asked: Sequence[str]) -> tuple[str, list[str]]:
    """No run was read on any subset but the full one, or none that all were read on."""
    best = max(standings, key=lambda entry: entry.full or 0.0)
    if asked and any(entry.answered for entry in standings):
        why = "The runs share no subset with channels missing, so what they keep cannot be compared."
    elif asked:
        refusing = [entry.run.name for entry in standings if entry.refuses]
        if len(standings) == 1:
            why = "It refuses every subset with channels missing."
        elif len(refusing) == len(standings):
            why = "No run takes any of the subsets with channels missing."
        else:
            verb = "refuses" if len(refusing) == 1 else "refuse"
            why = (
                f"{listed(refusing)} {verb} every subset with channels missing, and no other run was evaluated on one."
            )
    else:
        why = "No subset with channels missing was evaluated, so there is nothing to say on missing channels."
    if best.full is None:
        return why, []
    if len(standings) == 1:
        return f"{best.run.name} reaches {percent(best.full)} with all channels.", [
            f"The standard error is {points(best.full_error)}.",
            why,
        ]
    return why, [phrase_full(best, standings)]


def phrase_single(entry: Standing, shared: Sequence[str], silent: Sequence[Standing]) -> tuple[str, list[str]]:
    """One run alone has results with channels missing."""
    assert entry.mean is not None
    assert entry.worst is not None
    start = f"{entry.run.name} averages"
    if silent:
        does = "takes" if all(other.refuses for other in silent) else "was evaluated on"
        start = f"{entry.run.name} alone {does} subsets of the channels and averages"
    headline = f"{start} {percent(entry.mean)} when channels are missing"
    headline += f", against {percent(entry.full)} with all of them." if entry.full is not None else "."
    over = f"over {plural(len(shared), 'subset')}" if len(shared) > 1 else "over one subset"
    sentence = f"The mean is {over}; the worst is {entry.worst.key} at {percent(entry.worst.accuracy)}"
    if entry.full is not None:
        sentence += (
            f", {points(entry.full - entry.worst.accuracy)} {below(entry.worst.accuracy - entry.full)} the full set"
        )
    return headline, [sentence + "."]


def phrase_ranked(ranked: Sequence[Standing], shared: Sequence[str]) -> tuple[str, list[str]]:
    """Two or more runs have results on the same subsets with channels missing."""
    first, second = ranked[0], ranked[1]
    assert first.mean is not None
    assert second.mean is not None
    tied = [first] + [
        entry
        for entry in ranked[1:]
        if entry.mean is not None and not apart(first.mean - entry.mean, first.mean_error, entry.mean_error)
    ]
    if len(tied) == 1:
        headline = f"{first.run.name} keeps most accuracy when channels go missing."
    elif len(tied) == len(ranked):
        which = "two runs are" if len(ranked) == 2 else f"all {len(ranked)} runs are"
        headline = (
            f"No run clearly keeps more accuracy when channels go missing: {which} within two standard errors of "
            f"{'each other' if len(ranked) == 2 else 'the highest mean'}."
        )
    else:
        headline = (
            f"{listed(entry.run.name for entry in tied)} keep most accuracy when channels go missing, "
            "within two standard errors of the highest mean."
        )
    over = f"the {len(shared)} subsets with channels missing" if len(shared) > 1 else f"the subset {shared[0]}"
    gap = first.mean - second.mean
    sentence = (
        f"Over {over}, {first.run.name} averages {percent(first.mean)}, {points(gap)} more than {second.run.name}, "
        f"next at {percent(second.mean)}; {beyond(gap, first.mean_error, second.mean_error)}."
    )
    return headline, [sentence, phrase_worst(ranked)]


def phrase_worst(ranked: Sequence[Standing]) -> str:
    """Who has the best worst case."""
    cases = [(entry, entry.worst) for entry in ranked if entry.worst is not None]
    best, worst = max(cases, key=lambda case: case[1].accuracy)
    first, own = cases[0]
    if best is first:
        return f"Its worst subset is {own.key} at {percent(own.accuracy)}; no other run's worst is better."
    gap = worst.accuracy - own.accuracy
    return (
        f"Its worst subset is {own.key} at {percent(own.accuracy)}. {best.run.name} has the best worst case, "
        f"{percent(worst.accuracy)} on {worst.key}, {points(gap)} more; "
        f"{beyond(gap, own.standard_error, worst.standard_error)}."
    )


def phrase_full(entry: Standing, standings: Sequence[Standing]) -> str:
    """A run's full-set accuracy against that of the run that is best there."""
    if entry.full is None:
        return f"{entry.run.name} has no result on the full set."
    own = f"{percent(entry.full)} (standard error {points(entry.full_error)})"
    rivals = [other for other in standings if other.full is not None and other is not entry]
    if not rivals:
        return (
            f"With all channels {entry.run.name} reaches {own}."
            if len(standings) > 1
            else (f"The standard error with all channels is {points(entry.full_error)}.")
        )
    best = max(rivals, key=lambda other: other.full or 0.0)
    assert best.full is not None
    gap = entry.full - best.full
    other = f"{percent(best.full)} (standard error {points(best.full_error)})"
    judged = beyond(gap, entry.full_error, best.full_error)
    start = f"With all channels {entry.run.name} reaches {own}"
    if gap >= 0:
        return f"{start}, {points(gap)} more than {best.run.name} at {other}; {judged}."
    return f"{start}. The best there is {best.run.name} at {other}, {points(gap)} more; {judged}."


def beyond(gap: float, *errors: float) -> str:
    """Whether a difference can be told from chance."""
    if apart(gap, *errors):
        return "that is more than two standard errors"
    return "that is within two standard errors, so the test images do not separate them"


def below(difference: float) -> str:
    """Which way a difference goes."""
    return "below" if difference < 0 else "above"
