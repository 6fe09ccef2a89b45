"""Gather the studies of one network for every subset into one file, with the gap tables and their paired tests.

    python -m benchmarks.tables.any_subset

Reads ``benchmarks/results/any_subset_*/``, the plain networks of ``report_quick`` and ``zero_shot/``. Writes
``benchmarks/results/any_subset.json``: test accuracy in percent for each subset, one entry a seed in the order of
``seeds``. Photographs at full size are at the top, the others under the names in ``PROTOCOLS``.

Only seeds count for which the plain network, one network for all and every dedicated network are finished; other
networks are included if they have all of these seeds. ``ours`` is trained three times as long as a dedicated network,
of which there is one for each subset. Under ``equal_passes`` is the network trained as long as one of them, and under
``equal_compute`` those that also cost a plain network: twice a dedicated network, where all dedicated networks and the
plain one cost as much as there are subsets. ``zero_shot`` adapts the plain network, ``zero_shot_3x`` the one trained
three times as long. On all channels the gap is to a plain network trained as long as the one network.
"""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np

from anychannel.evaluation import gap_table
from anychannel.utils.files import write_json
from benchmarks.queue.bits import unpack
from benchmarks.tables import results
from benchmarks.tables.results import STUDIES, Runs, accuracies, read_any_subset, read_study
from benchmarks.tables.robustness import WAYS

PROTOCOLS = {
    "full": "mini-imagenet-50, 50 classes, 84 x 84 pixels, recipes/photos.toml; 1x is 10 epochs",
    "quick": "mini-imagenet-50, first 25 classes, 42 x 42 pixels, recipes/quick.toml; 1x is 10 epochs",
    "jurkat": "jurkat-cell-cycle, 40 x 40 pixels, recipes/stains.toml; 1x is 15 epochs",
    "jurkat_lite0": "jurkat-cell-cycle, 64 x 64 pixels, EfficientNet-Lite0 with ImageNet weights; 1x is 15 epochs",
    "bands": "bands:8, 24 x 24 pixels, benchmarks/studies/any_subset_bands.toml; 1x is 10 epochs; 16 subsets",
}

LEDGERS = {
    "equal_passes": {"ours": "ours_1x"},
    "equal_compute": {"ours_taught": "ours_taught", "ours_warm": "ours_warm"},
}
"""The networks for all subsets by what they cost, with their keys in the file."""


def percents(runs: Runs, seeds: list[int]) -> dict[str, list[float]]:
    """Return test accuracy in percent for each subset, one entry a seed."""
    found = accuracies(runs)
    return {key: [round(found[key][seed], 2) for seed in seeds] for key in runs[seeds[0]]["test"]["subsets"]}


def dedicated_subsets(kind: str) -> list[str]:
    """Return the subsets for which a study trains dedicated networks."""
    study = tomllib.loads((STUDIES / f"any_subset_{kind}.toml").read_text(encoding="utf-8"))
    return [str(key) for key in study["dedicated"]]


def correct(runs: Runs, key: str, seeds: list[int]) -> list[np.ndarray]:
    """Return which test images were classified correctly, one record a seed."""
    return [unpack(runs[seed]["test"]["subsets"][key]["correct"], runs[seed]["test"]["n"]) for seed in seeds]


def gather(kind: str) -> dict[str, Any] | None:
    """Return one data set's part of the file; None if no seed is finished."""
    found = read_any_subset(kind)
    dedicated = {key: found.get(f"dedicated_{key}", {}) for key in dedicated_subsets(kind)}
    longest = "ours_3x" if "ours_3x" in found else "ours"
    needed = [found.get("plain", {}), found.get(longest, {}), *dedicated.values()]
    seeds = sorted(set.intersection(*(set(runs) for runs in needed)))
    if not seeds:
        return None
    plain = found["plain"]
    full = plain[seeds[0]]["test"]["full"]
    result: dict[str, Any] = {
        "protocol": PROTOCOLS[kind],
        "seeds": seeds,
        "budget": "ours: 3x the image passes of one dedicated network; equal_passes: as many as one; equal_compute: 2x "
        "with the plain network",
        "n": plain[seeds[0]]["test"]["n"],
        "plain": {full: percents(plain, seeds)[full]},
        "dedicated": {key: percents(runs, seeds)[key] for key, runs in dedicated.items()},
        "zero_shot": zero_shot(kind, seeds),
        "zero_fill": percents(plain, seeds),
    }
    if adapted := zero_shot(f"{kind}_3x", seeds):
        result["zero_shot_3x"] = adapted
    whole = {name: runs for name, runs in found.items() if set(seeds) <= set(runs)}
    if "ours_3x" in whole:
        result["ours"] = percents(whole["ours_3x"], seeds)
    for ledger, keys in LEDGERS.items():
        result[ledger] = {key: percents(whole[run], seeds) for run, key in keys.items() if run in whole}
    for name, runs in whole.items():
        if name == "plain_3x" or name.startswith("dedicated_3x_"):
            result[name] = percents(runs, seeds)
    longer = {full: whole["plain_3x"]} if "plain_3x" in whole else {}
    result["gap"] = {
        name: gap_table(
            {
                key: list(zip(correct(found[run], key, seeds), correct(runs, key, seeds), strict=True))
                for key, runs in (alike | dedicated).items()
            }
        ).to_dict()
        for name, run, alike in (
            ("ours", "ours_3x", longer),
            *((key, run, {full: plain}) for keys in LEDGERS.values() for run, key in keys.items()),
        )
        if run in whole
    }
    counted = {"ours_3x", *(run for keys in LEDGERS.values() for run in keys)}
    others = [name for name in found if not name.startswith(("dedicated", "plain")) and name not in counted]
    result["variants"] = {name: percents(found[name], sorted(found[name])) for name in others}
    return result


def zero_shot(name: str, seeds: list[int]) -> dict[str, dict[str, list[float]]]:
    """Return the plain network adapted in each way, one entry a seed; empty until all seeds are measured."""
    runs = read_study("zero_shot").get(name, {})
    if not set(seeds) <= set(runs):
        return {}
    measured = [runs[seed] for seed in seeds]
    return {
        way: {key: [one[way][key] for one in measured] for key in measured[0][way]}
        for way in WAYS
        if way != "zero_fill" and all(way in one for one in measured)
    }


def compose() -> dict[str, Any]:
    """Return the file's content; empty if no study has a finished seed."""
    gathered = {kind: part for kind in PROTOCOLS if (part := gather(kind)) is not None}
    return gathered.pop("full", {}) | gathered


def main() -> None:
    """Write the file and print each gap."""
    result = compose()
    if not result:
        raise SystemExit("no study has a seed with all of its runs finished; see benchmarks.queue.study --list")
    write_json(results.RESULTS / "any_subset.json", result)
    for kind in PROTOCOLS:
        part = result if kind == "full" else result.get(kind, {})
        for name, gap in part.get("gap", {}).items():
            worst = gap["worst"]
            print(
                f"{kind:<13}{name:<12} seeds {part['seeds']}: mean {100 * gap['mean']:+.2f}, worst "
                f"{100 * worst['difference']:+.2f} ({worst['subset']})"
            )


if __name__ == "__main__":
    main()
