"""Make ``neon.json`` and the tables of docs/tutorials/three-sensors.md: tree crowns over five folds.

    python -m benchmarks.tables.neon

The file holds accuracy and balanced accuracy in percent for each network and subset of instruments, one entry a fold;
under ``virginia`` those of the images of one site; under ``lite0`` the same for networks with ImageNet weights.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from anychannel.utils.files import write_json
from anychannel.utils.plurals import plural
from benchmarks.tables.results import DOCS, RESULTS, Runs, paired_interval, read_study, table, write

PAGE = DOCS / "tutorials" / "three-sensors.md"
SCRATCH, LITE0 = "neon_folds", "neon_folds_lite0"
BALANCED = "balanced_accuracy"
LABELS = {
    "plain": "ordinary network, zeros for what is missing",
    "plain_dropout": "+ instruments left out in training",
    "dedicated": "a network for each set",
    "ours": "anychannel, one network",
}


def by_name(runs: Runs) -> dict[str, str]:
    """The key of each subset by its name."""
    subsets = next(iter(runs.values()))["test"]["subsets"]
    return {figures.get("name", key): key for key, figures in subsets.items()}


def figures(runs: Runs, key: str, folds: list[int], part: str | None) -> dict[str, list[float]]:
    """Accuracy and balanced accuracy of a subset, one entry a fold, in percent."""
    found = [(runs[fold]["parts"][part] if part else runs[fold]["test"])["subsets"][key] for fold in folds]
    return {name: [round(100 * each[name], 2) for each in found] for name in ("accuracy", BALANCED)}


def gather(study: str, part: str | None = None) -> dict[str, Any]:
    """The figures of all networks over the folds in which all of them are finished; empty if there is none."""
    runs = read_study(study)
    ours = runs.get("ours", {})
    if not ours:
        return {}
    names = by_name(ours)
    whole = next(iter(names))
    dedicated = {name: runs.get(f"dedicated_{name}", {}) for name in names if name != whole} | {whole: runs["plain"]}
    folds = sorted(set(ours).intersection(runs["plain"], runs["plain_dropout"], *dedicated.values()))
    if not folds:
        return {}
    found: dict[str, Any] = {"folds": folds}
    found["n"] = [(ours[fold]["parts"][part] if part else ours[fold]["test"])["n"] for fold in folds]
    for name in ("plain", "plain_dropout", "ours"):
        found[name] = {label: figures(runs[name], key, folds, part) for label, key in names.items()}
    found["dedicated"] = {label: figures(dedicated[label], key, folds, part) for label, key in names.items()}
    ours, other = found["ours"], found["dedicated"]
    found["gap"] = {label: interval(ours[label][BALANCED], other[label][BALANCED]) for label in names}
    found["gap"]["mean of subsets"] = interval(
        *(mean_of([way[label][BALANCED] for label in names if label != whole]) for way in (ours, other))
    )
    return found


def mean_of(rows: list[list[float]]) -> list[float]:
    """The mean of several rows, fold by fold."""
    return [statistics.fmean(values) for values in zip(*rows, strict=True)]


def interval(ours: list[float], other: list[float]) -> dict[str, float]:
    """The mean difference over the folds, with its paired 95 % interval if there are several."""
    gaps = [one - two for one, two in zip(ours, other, strict=True)]
    mean = statistics.fmean(gaps)
    if len(gaps) == 1:
        return {"mean": round(mean, 2)}
    low, high = paired_interval(gaps)
    return {"mean": round(mean, 2), "low": round(low, 2), "high": round(high, 2)}


def show(found: dict[str, Any]) -> str:
    """A table with a row for each network and a column for each set of instruments."""
    names = list(found["ours"])
    rows = []
    for way, label in LABELS.items():
        cells = [[statistics.fmean(values) for values in found[way][name].values()] for name in names]
        rows.append([label, *(f"{balanced:.1f} ({accuracy:.1f})" for accuracy, balanced in cells)])
    gaps = [interval_text(found["gap"][name]) for name in names]
    rows.append(["anychannel minus dedicated", *gaps])
    return table(["", *(name.replace("+", " + ").replace("spectrometer", "spectr.") for name in names)], rows)


def interval_text(gap: dict[str, float]) -> str:
    """A mean difference with its interval, which one fold has not."""
    return f"{gap['mean']:+.1f}" + (f" ({gap['low']:+.1f}, {gap['high']:+.1f})" if "low" in gap else "")


def tables(result: dict[str, Any], training: str, study: str) -> str:
    """The tables of one study: all crowns, then one site."""
    folds = len(result["folds"])
    spread = " and its 95 % interval over the folds" if folds > 1 else ""
    return "\n\n".join(
        [
            f"{sum(result['n'])} crowns of 8 species at two sites, recorded from the air by NEON: camera (3 channels), "
            f"LiDAR (1) and spectrometer (12), {plural(folds, 'fold')} by groups of plots, one seed a fold. {training} "
            f"Balanced accuracy (%), in brackets accuracy; the last row is the mean difference in balanced "
            f"accuracy{spread}.",
            show(result),
            "Mean over the six sets that lack an instrument, anychannel minus dedicated: "
            f"{interval_text(result['gap']['mean of subsets'])} points.",
            f"The same networks on the {sum(result['virginia']['n'])} crowns of the Virginia site alone, where the "
            "site does not tell the species:",
            show(result["virginia"]),
            f"Made by `python -m benchmarks.queue.study benchmarks/studies/{study}.toml --data neon-tree-crowns` and "
            "`python -m benchmarks.tables`. Data: NEON and the IDTReeS 2020 competition, CC BY 4.0.",
        ]
    )


def make(block: str) -> str:
    """Make the tables of one study."""
    result = json.loads((RESULTS / "neon.json").read_text(encoding="utf-8"))
    if block == LITE0:
        training = (
            "EfficientNet-Lite0 with ImageNet weights is tuned for 30 epochs at 64 x 64 pixels, as long for each row."
        )
        return tables(result["lite0"], training, LITE0)
    training = "A ResNet10-T trains from scratch for 40 epochs at 32 x 32 pixels, as long for each row."
    return tables(result, training, SCRATCH)


def with_virginia(study: str) -> dict[str, Any]:
    """A study's figures on all crowns, and under ``virginia`` on one site's."""
    result = gather(study)
    return result and result | {"virginia": gather(study, "virginia")}


def main() -> None:
    """Write the file."""
    result = with_virginia(SCRATCH)
    if not result:
        raise SystemExit("no fold has all of its runs finished; see benchmarks.queue.study --list")
    lite0 = with_virginia(LITE0)
    write_json(RESULTS / "neon.json", result | ({"lite0": lite0} if lite0 else {}))


if __name__ == "__main__":
    main()
    write(PAGE, make)
