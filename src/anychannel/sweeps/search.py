"""Try settings of a recipe one after the other, and keep what does best on validation images.

Every trial is a run in a folder of its own whose test images stay unread. Optuna proposes the settings and keeps its
record in a database in the sweep's folder, so a sweep that is killed goes on: finished trials count, and an unfinished
one goes on from its checkpoint. What is proposed is a function of the seed, the trial and the results before it, so the
sweep ends as it would have without the kill. Several processes may work on one folder; each trial is done by one.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from torch import OutOfMemoryError

from anychannel.results.run import read_record
from anychannel.runs.config import RunConfig, flatten, merge, nest, without_none
from anychannel.runs.data import find_changes, load_data
from anychannel.runs.execute import RunStopped, train_run
from anychannel.runs.folder import read_config
from anychannel.sweeps.objective import OBJECTIVES, curve_of, read_rows, value_of
from anychannel.sweeps.space import Domain, SweepError, check_space, parse_space
from anychannel.training import TrainingError
from anychannel.utils.extras import need
from anychannel.utils.files import write_json, write_text

if TYPE_CHECKING:
    from optuna import Study, Trial

RECORD, DATABASE, LOCK, BEST, TABLE = "sweep.json", "optuna.db", ".lock", "best.toml", "trials.csv"
PRUNE_AFTER = 4
"""Trials that must have come to their end before one is stopped early."""
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class Outcome:
    """What became of one trial.

    Args:
        name: of its folder.
        state: ``finished``, ``pruned`` (stopped early, behind the others) or ``failed``.
        value: of the objective; None unless finished.
        settings: what was varied, by dotted key.
        error: why it failed, or empty.
    """

    name: str
    state: str
    value: float | None
    settings: dict[str, Any]
    error: str


@dataclass(frozen=True)
class Plan:
    """What is the same in all trials of a sweep."""

    recipe: Mapping[str, Any]
    space: Mapping[str, Domain]
    metric: str
    seed: int
    prune: bool

    def record(self, space: Mapping[str, Any]) -> dict[str, Any]:
        """What ``sweep.json`` keeps."""
        return {
            "recipe": without_none(dict(self.recipe)),
            "space": dict(space),
            "metric": self.metric,
            "seed": self.seed,
            "prune": self.prune,
        }


def sweep(
    recipe: Mapping[str, Any],
    space: Mapping[str, Any],
    folder: str | Path,
    *,
    trials: int,
    metric: str = "val_accuracy",
    seed: int = 0,
    prune: bool = True,
    resume: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    on_trial: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Search, and write ``best.toml`` and ``trials.csv``.

    Args:
        recipe: settings of every trial, as ``RunConfig.from_dict`` takes them.
        space: what to vary; see ``anychannel.sweeps.space``.
        folder: where the trials' runs and the record go.
        trials: how many in all, those of earlier starts included.
        metric: what to optimise, a key of ``OBJECTIVES``; measured on the validation images.
        seed: of the search; the seed of training is the recipe's.
        prune: stop trials whose validation curve is behind the median of the finished ones.
        resume: go on with the folder's sweep.
        cache_dir, progress: see ``train_run``.
        on_trial: called with each trial that comes to its end here.

    Returns:
        All trials of the sweep that have come to their end, in order; other processes may be at work on more.

    Raises:
        SweepError: the space or a setting is impossible, the folder holds another sweep or one of other data, or no
            trial succeeded.
        MissingExtraError: Optuna is not installed.
    """
    need("optuna", "sweep", "a sweep")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SweepError(
            "a sweep's trials train in one process; instead of torchrun, start several with --resume on one folder"
        )
    if trials < 1:
        raise SweepError(f"trials must be at least 1, got {trials}")
    if metric not in OBJECTIVES:
        raise SweepError(f"unknown metric {metric!r}; use one of {', '.join(OBJECTIVES)}")
    plan = Plan(recipe, parse_space(space), metric, seed, prune)
    check_space(recipe, plan.space)
    home = Path(folder)
    prepare(home, plan.record(space), resume)
    study = open_study(home, plan)
    check_data(home, study, cache_dir)
    while (picked := pick(home, study, plan, trials)) is not None:
        trial, lock = picked
        try:
            do(trial, study, home, plan, cache_dir=cache_dir, progress=progress)
        finally:
            lock.release()
        outcomes = summarise(home, study, metric)
        if on_trial is not None:
            on_trial(next(outcome for outcome in outcomes if outcome.name == trial.user_attrs["folder"]))
        if all(outcome.state == "failed" for outcome in outcomes) and len(outcomes) == 1:
            raise SweepError(f"the first trial failed: {outcomes[0].error}; correct it and choose a new folder")
    outcomes = summarise(home, study, metric)
    if len(outcomes) >= trials and not any(outcome.state == "finished" for outcome in outcomes):
        raise SweepError(f"none of the {len(outcomes)} trials succeeded; {home / TABLE} says why")
    return outcomes


def prepare(home: Path, record: dict[str, Any], resume: bool) -> None:
    """Take a new folder, or see that the folder's sweep is this one."""
    if home.exists() and not home.is_dir():
        raise SweepError(f"{home} is a file; give --out a folder")
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / LOCK):
        path = home / RECORD
        if not path.is_file():
            if any(entry.name != LOCK for entry in home.iterdir()):
                raise SweepError(f"{home} is not empty and not a sweep; choose a new folder for --out")
            write_json(path, record)
            return
    if not resume:
        raise SweepError(f"{home} already holds a sweep; add --resume to go on with it, or choose another --out")
    before, now = flatten(json.loads(path.read_text(encoding="utf-8"))), flatten(json.loads(json.dumps(record)))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if changed:
        listed = "; ".join(f"{key}: {before.get(key, 'unset')} -> {now.get(key, 'unset')}" for key in changed)
        raise SweepError(
            f"{home} holds a sweep of other settings ({listed}); resume it with its own, or choose another"
        )


def open_study(home: Path, plan: Plan) -> Study:
    """Optuna's record of the sweep."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with FileLock(home / LOCK):
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{(home / DATABASE).resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        epochs = RunConfig.from_dict(plan.recipe).training.epochs
        pruner = optuna.pruners.MedianPruner(n_startup_trials=PRUNE_AFTER, n_warmup_steps=max(1, epochs // 4))
        return optuna.create_study(
            study_name="sweep",
            storage=storage,
            direction="maximize" if OBJECTIVES[plan.metric] > 0 else "minimize",
            pruner=pruner if plan.prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )


def check_data(home: Path, study: Study, cache_dir: str | Path | None) -> None:
    """See that the data are still those of a trial that was finished earlier, so that values can be compared.

    Raises:
        SweepError: says what has changed.
    """
    for each in study.get_trials(deepcopy=False):
        if each.state.name != "COMPLETE":
            continue
        folder = home / each.user_attrs["folder"]
        config = read_config(folder)
        changes = find_changes(read_record(folder), load_data(config, cache_dir=cache_dir))
        if changes:
            raise SweepError(
                f"the data in {config.data} are not those of the trials in {home} ({'; '.join(changes)}); restore them "
                "to go on, or choose a new folder for --out"
            )
        return


def pick(home: Path, study: Study, plan: Plan, trials: int) -> tuple[Trial, FileLock] | None:
    """A trial to do and the lock that says so: one that was left unfinished, else a new one; None if all are taken.

    A trial that was left is told as failed and put in line again with the same settings and folder, which is Optuna's
    own way; failures that count carry an ``error``.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    distributions = {name: domain.distribution() for name, domain in plan.space.items()}
    with FileLock(home / LOCK):
        known = study.get_trials(deepcopy=False)
        folders = list(dict.fromkeys(each.user_attrs["folder"] for each in known if "folder" in each.user_attrs))
        waiting = [each.user_attrs["folder"] for each in known if each.state is TrialState.WAITING]
        for left in known:
            if left.state is not TrialState.RUNNING:
                continue
            name = left.user_attrs.get("folder")
            lock = None if name is None else try_lock(home, name)
            if name is None or lock is not None:
                if name is not None and name not in waiting:
                    whole = len(left.params) == len(distributions)  # else it was killed while it was proposed
                    study.enqueue_trial(left.params if whole else {}, user_attrs={"folder": name})
                    waiting.append(name)
                study.tell(left.number, state=TrialState.FAIL)
            if lock is not None:
                lock.release()
        if not waiting and len(folders) >= trials:
            return None
        index = folders.index(waiting[0]) if waiting else len(folders)
        study.sampler = TPESampler(seed=int(np.random.SeedSequence((plan.seed, index)).generate_state(1)[0]))
        trial = study.ask(distributions)
        name = trial.user_attrs.get("folder", f"trial-{index:04d}")
        trial.set_user_attr("folder", name)
        lock = try_lock(home, name)
        assert lock is not None, f"{name} was free under the sweep's lock"
        return trial, lock


def try_lock(home: Path, name: str) -> FileLock | None:
    """A trial's lock, or None where another process has it."""
    lock = FileLock(home / f".{name}.lock")
    with suppress(Timeout):
        lock.acquire(timeout=0)
        return lock
    return None


def do(trial: Trial, study: Study, home: Path, plan: Plan, *, cache_dir: str | Path | None, progress: bool) -> None:
    """Train a trial's network and tell Optuna what came of it."""
    from optuna.trial import TrialState

    folder = home / trial.user_attrs["folder"]
    reported: set[int] = set()

    def report(row: Mapping[str, Any]) -> None:
        value = curve_of(plan.metric, row)
        if value is not None and math.isfinite(value) and row["epoch"] not in reported:
            trial.report(value, row["epoch"])
            reported.add(row["epoch"])

    def on_epoch(row: Mapping[str, Any]) -> None:
        report(row)
        if trial.should_prune():
            raise RunStopped(f"pruned at epoch {row['epoch']}: behind the median of the sweep's finished trials")

    for row in read_rows(folder):
        report(row)
    try:
        config = RunConfig.from_dict(merge(plan.recipe, nest(trial.params)))
        train_run(
            config,
            folder,
            resume=True,
            cache_dir=cache_dir,
            progress=progress,
            cost=False,
            split="val",
            on_epoch=on_epoch,
        )
        study.tell(trial, value_of(plan.metric, folder))
    except RunStopped:
        study.tell(trial, state=TrialState.PRUNED)
    except (ValueError, TrainingError, OutOfMemoryError) as error:  # these settings cannot be trained; others can
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)


def summarise(home: Path, study: Study, metric: str) -> list[Outcome]:
    """The trials that have come to their end, in order; writes them and the best recipe down."""
    ended = {
        each.user_attrs["folder"]: Outcome(
            each.user_attrs["folder"],
            STATES[each.state.name],
            each.value if each.state.name == "COMPLETE" else None,
            each.params,
            each.user_attrs.get("error", ""),
        )
        for each in study.get_trials(deepcopy=False)
        if each.state.name in ("COMPLETE", "PRUNED") or (each.state.name == "FAIL" and "error" in each.user_attrs)
    }
    outcomes = sorted(ended.values(), key=lambda outcome: outcome.name)
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.settings))
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["trial", "state", metric, *keys, "error"])
    for outcome in outcomes:
        settings = [outcome.settings.get(key, "") for key in keys]
        writer.writerow([outcome.name, outcome.state, outcome.value, *settings, outcome.error])
    with FileLock(home / LOCK):
        write_text(home / TABLE, table.getvalue())
        best = best_of(outcomes, metric)
        if best is not None:
            write_text(home / BEST, (home / best.name / "config.toml").read_text(encoding="utf-8"))
    return outcomes


def best_of(outcomes: list[Outcome], metric: str) -> Outcome | None:
    """The finished trial with the best value, the first of equals."""
    finished = [outcome for outcome in outcomes if outcome.value is not None]
    return max(finished, key=lambda outcome: OBJECTIVES[metric] * (outcome.value or 0.0), default=None)
