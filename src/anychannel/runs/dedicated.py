"""Dedicated networks, one for each subset, to measure what a network for every subset costs in accuracy.

    anychannel compare runs/adaptive --dedicated

A dedicated network is an ordinary network for data with just its channels: it has the adaptive run's configuration, but
the plain stem, no channel sampling, one batch norm and no teacher. There are two budgets:

- ``passes``: each dedicated network gets as many image passes as the adaptive network, so C subsets cost C times as
  much;
- ``total``: the dedicated networks share the adaptive network's passes, in whole epochs and at least one each.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anychannel.channels import ChannelSet, parse_names
from anychannel.evaluation import Evaluation, compare_with_dedicated, load_evaluation
from anychannel.results.run import RunError, find_unfinished, read_record
from anychannel.runs.config import RunConfig, flatten
from anychannel.runs.execute import train_run
from anychannel.runs.folder import read_config
from anychannel.training import TrainingSettings
from anychannel.training.early_stopping import REDUCED_MONITORS
from anychannel.training.step_parts import training_sampler
from anychannel.utils.files import write_json
from anychannel.utils.names import unknown_name

BUDGETS = ("passes", "total")
LONGEST_NAME = 80


@dataclass(frozen=True)
class Adaptive:
    """A finished run of a network for every subset, with its configuration and test results."""

    folder: Path
    config: RunConfig
    evaluation: Evaluation


def load_adaptive(folders: Sequence[str | Path]) -> list[Adaptive]:
    """Load runs of one configuration with different seeds."""
    runs = []
    for folder in map(Path, folders):
        if reason := find_unfinished(folder):
            raise RunError(f"{reason} and is not finished; finish it first (--resume)")
        try:
            runs.append(Adaptive(folder, read_config(folder), load_evaluation(folder)))
        except FileNotFoundError as error:
            raise RunError(f"{folder} is not finished: {error}; finish it first (--resume)") from error
    if not runs:
        raise RunError("no run was given; name at least one folder that `anychannel train` wrote")
    first, *others = runs
    for other in others:
        aside = ("name", "training.seed", "training.device", "training.checkpoint_seconds")
        changed = [line for line in first.config.differences(other.config) if line.split(":")[0] not in aside]
        if changed:
            raise RunError(
                f"{first.folder} and {other.folder} differ in more than the seed ({'; '.join(changed)}); compare runs "
                "of one configuration at a time"
            )
    seeds = [run.config.training.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise RunError(f"each run needs another seed, got {', '.join(map(str, seeds))}")
    return runs


def passes_an_image(config: RunConfig, channels: ChannelSet | int) -> float:
    """Forward passes per image in a training step, counted on one batch of the sampler."""
    training = config.training
    parts = training_sampler(training, channels)(training.batch_size, torch.Generator().manual_seed(0))
    return sum(map(len, parts)) / training.batch_size


def epochs_of(config: RunConfig, channels: ChannelSet | int, budget: str, networks: int) -> int:
    """Number of epochs of each of several dedicated networks, from the configuration of the adaptive network."""
    if budget not in BUDGETS:
        raise RunError(unknown_name("budget", budget, BUDGETS))
    epochs = config.training.epochs * passes_an_image(config, channels)
    return max(1, round(epochs / (networks if budget == "total" else 1)))


def dedicated_config(config: RunConfig, subset: str, epochs: int, name: str | None = None) -> RunConfig:
    """The configuration of a plain network for ``subset`` (``"R,G"``, shown as ``name``) and a number of epochs."""
    return replace(
        config,
        only_channels=parse_names(subset),
        stem="static",
        stem_options={},
        norm="shared",
        teacher=None,
        subsets=(subset,),
        report_name=None,
        name=f"dedicated to {name or subset}",
        training=replace(
            config.training,
            sampler="full",
            sampler_options={},
            distill=0.0,
            distill_temperature=TrainingSettings.distill_temperature,
            monitor="auto" if config.training.monitor in REDUCED_MONITORS else config.training.monitor,
            epochs=epochs,
            warmup_epochs=min(config.training.warmup_epochs, epochs),
        ),
    )


def folder_name(subset: str, epochs: int, seed: int) -> str:
    """Name of the folder of a dedicated run: ``B-10-epochs-s0``.

    Characters that do not suit a folder are replaced, and a long list of channels is shortened. A digest of the subset
    keeps these names unique.
    """
    name = re.sub(r"[^\w.+-]+", "_", subset.replace(",", "+"))
    digest = hashlib.blake2b(subset.encode(), digest_size=4).hexdigest()
    if len(name) > LONGEST_NAME:
        name = f"{subset.count(',') + 1}-channels-{digest}"
    elif "+" in subset or name != subset.replace(",", "+"):
        name = f"{name}-{digest}"
    return f"{name}-{epochs}-epochs-s{seed}"


def choose_keys(runs: Sequence[Adaptive], subsets: Sequence[str] | None, sample: int | None) -> list[str]:
    """Choose the subsets that get a dedicated network: the named ones, or all that every run was evaluated on.

    ``sample`` uses only so many of the latter, evenly over their sizes and with the full set.
    """
    answered = [key for key in runs[0].evaluation.probabilities if all(key in r.evaluation.probabilities for r in runs)]
    if subsets is not None:
        known = runs[0].evaluation.channels
        chosen = list(dict.fromkeys(known.key(known.subset(subset)) for subset in subsets))
        for key in chosen:
            if key not in answered:
                raise RunError(unknown_name("subset", key, answered))
        return chosen
    if sample is None or sample >= len(answered):
        return answered
    if sample < 1:
        raise RunError(f"sample is a number of subsets, at least 1, got {sample}")
    generator = np.random.default_rng(0)
    seen: Counter[int] = Counter()
    turns = []
    for key in reversed(generator.permutation(answered).tolist()):
        size = key.count(",")
        turns.append((seen[size], -size, key))
        seen[size] += 1
    drawn = {key for _, _, key in sorted(turns)[:sample]}
    return [key for key in answered if key in drawn]


def compare_dedicated(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    budgets: Sequence[str] = BUDGETS,
    subsets: Sequence[str] | None = None,
    sample: int | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train dedicated networks, compare adaptive runs with them, and write the gap table.

    ``folders`` are finished runs of one configuration, one per seed. ``out`` is the parent folder of the dedicated
    runs; finished ones there are used again. Nothing is trained if a run, a subset or a budget is refused.

    Returns the content of ``gap.json``, which is written into ``out`` and each writable adaptive run: ``runs``,
    ``seeds``, ``full`` and, for each budget, the planned and actual epochs (fewest and most) and the ``GapTable``.
    """
    runs = load_adaptive(folders)
    keys = choose_keys(runs, subsets, sample)
    full = runs[0].evaluation.full
    channels = runs[0].evaluation.channels
    name_of = {key: channels.name(channels.subset(key)) for key in keys}
    epochs = {budget: epochs_of(runs[0].config, channels, budget, len(keys)) for budget in budgets}
    settings = flatten(runs[0].config.to_dict())
    result: dict[str, Any] = {
        "runs": [run.folder.resolve().name for run in runs],
        "seeds": [run.config.training.seed for run in runs],
        "network": ", ".join(str(settings[key]) for key in ("model", "stem", "training.sampler", "norm")),
        "full": full,
        "subsets_evaluated": len(runs[0].evaluation.probabilities),
        "budgets": {},
    }
    for budget, count in epochs.items():
        homes: dict[str, list[Path]] = {key: [] for key in keys}
        for run, key in product(runs, keys):
            home = Path(out) / folder_name(name_of[key], count, run.config.training.seed)
            config = dedicated_config(run.config, key, count, name_of[key])
            homes[key].append(train_run(config, home, resume=True, cache_dir=cache_dir, progress=progress, cost=False))
        table = compare_with_dedicated(
            [run.evaluation for run in runs],
            {name_of[key]: [load_evaluation(home) for home in homes[key]] for key in keys},
        )
        result["budgets"][budget] = {
            "adaptive_epochs": runs[0].config.training.epochs,
            "passes_an_image": passes_an_image(runs[0].config, channels),
            "dedicated_epochs": count,
            "adaptive_epochs_run": epochs_run([run.folder for run in runs]),
            "dedicated_epochs_run": epochs_run([home for found in homes.values() for home in found]),
            "networks": len(keys),
            **table.to_dict(),
        }
    write_json(Path(out) / "gap.json", result)
    for run in runs:
        try:
            write_json(run.folder / "gap.json", result)
        except OSError as error:
            warnings.warn(
                f"{run.folder} takes no gap.json ({error.strerror}), so that its report lacks the table; it is in "
                f"{Path(out) / 'gap.json'}",
                UserWarning,
                stacklevel=2,
            )
    return result


def epochs_run(folders: Sequence[Path]) -> list[int]:
    """The fewest and most epochs of several runs; [] if a run does not record them."""
    counts = [int(count) for folder in folders if (count := read_record(folder).get("epochs_run"))]
    return [min(counts), max(counts)] if len(counts) == len(folders) else []
