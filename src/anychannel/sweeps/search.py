"""Try settings of a recipe one after the other, and keep those that do best on validation images.

Every trial is a run in its own folder, whose test images stay unread. Optuna proposes the settings and records the
trials in a database in the sweep's folder. A killed sweep continues: finished trials count, and an unfinished trial
resumes from its checkpoint. The settings of a trial depend only on the seed, its number and the results before it, so a
resumed sweep ends like an uninterrupted one. Several processes may share one folder; each trial is done by one of them.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from torch import OutOfMemoryError

from anychannel.results.run import read_record
from anychannel.runs.config import RunConfig, flatten, list_changes, merge, nest, without_none
from anychannel.runs.data import find_changes, load_data
from anychannel.runs.execute import RunStopped, train_run
from anychannel.runs.folder import read_config
from anychannel.sweeps.objective import OBJECTIVES, choose_metric, curve_of, value_of
from anychannel.sweeps.space import SweepError, check_space, parse_space
from anychannel.training import TrainingError
from anychannel.training.early_stopping import RENAMED
from anychannel.training.metrics import read_metrics
from anychannel.utils.files import is_free, write_json, write_text

RECORD, DATABASE, LOCK, BEST, TABLE = "sweep.json", "optuna.db", ".lock", "best.toml", "trials.csv"
PRUNE_AFTER = 4
"""Number of finished trials before a trial can be pruned."""
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class Outcome:
    """The result of one trial, by the name of its folder.

    ``state`` is ``finished``, ``pruned`` (stopped early, behind the others) or ``failed``. ``value`` is None unless
    finished. ``settings`` are the varied ones, by dotted key. ``error`` says why a trial failed.
    """

    name: str
    state: str
    value: float | None
    settings: dict[str, Any]
    error: str


@dataclass(frozen=True)
class Plan:
    """What all trials of a sweep share."""

    recipe: Mapping[str, Any]
    space: Mapping[str, BaseDistribution]
    metric: str
    seed: int
    prune: bool


def sweep(
    recipe: Mapping[str, Any],
    space: Mapping[str, Any],
    folder: str | Path,
    *,
    trials: int,
    metric: str = "auto",
    seed: int = 0,
    prune: bool = True,
    resume: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    on_trial: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Search for the best settings, and write ``best.toml`` and ``trials.csv``.

    Args:
        recipe: settings of every trial, as ``RunConfig.from_dict`` takes them.
        space: settings to vary; see ``anychannel.sweeps.space``.
        folder: folder for the trials' runs and the record.
        trials: total number of trials, including those of earlier starts.
        metric: metric of the validation images to optimise, a key of ``OBJECTIVES``; ``auto``: see ``choose_metric``.
        seed: random seed of the search. The recipe has that of training.
        prune: stop trials whose validation curve is behind the median of the finished trials.
        resume: continue the sweep in the folder.
        cache_dir, progress: see ``train_run``.
        on_trial: called with each trial that this process ends.

    Returns:
        All trials that have ended, in order. Other processes may be at work on more.

    Raises:
        SweepError: the space or a setting is impossible, the folder holds another sweep or one of other data, or no
            trial succeeded.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SweepError(
            "a sweep's trials train in one process; instead of torchrun, start several with --resume on one folder"
        )
    if trials < 1:
        raise SweepError(f"trials must be at least 1, got {trials}")
    metric = RENAMED.get(metric, metric)
    if metric not in ("auto", *OBJECTIVES):
        raise SweepError(f"unknown metric {metric!r}; use one of auto, {', '.join(OBJECTIVES)}")
    parse_space(space)
    if metric == "auto":
        metric = metric_of(folder) or choose_metric(metric, load_data(RunConfig.from_dict(recipe), cache_dir=cache_dir))
    plan = Plan(recipe, parse_space(space), metric, seed, prune)
    check_space(recipe, plan.space)
    home = Path(folder)
    prepare(home, vars(plan) | {"recipe": without_none(dict(recipe)), "space": dict(space)}, resume)
    study = open_study(home, plan)
    check_data(home, study, cache_dir)
    while (picked := pick(home, study, plan, trials)) is not None:
        trial, lock = picked
        try:
            run_trial(trial, study, home, plan, cache_dir=cache_dir, progress=progress)
        finally:
            lock.release()
        outcomes = summarise(home, study, metric)
        if on_trial is not None:
            on_trial(next(outcome for outcome in outcomes if outcome.name == trial.user_attrs["folder"]))
        if [outcome.state for outcome in outcomes] == ["failed"]:
            raise SweepError(f"the first trial failed: {outcomes[0].error}; correct it and choose a new folder")
    outcomes = summarise(home, study, metric)
    if len(outcomes) >= trials and not any(outcome.state == "finished" for outcome in outcomes):
        raise SweepError(f"none of the {len(outcomes)} trials succeeded; {home / TABLE} says why")
    return outcomes


def metric_of(folder: str | Path) -> str | None:
    """The metric of the sweep in a folder; None if there is no sweep."""
    path = Path(folder) / RECORD
    return str(read_plan(path)["metric"]) if path.is_file() else None


def read_plan(path: Path) -> dict[str, Any]:
    """The record of a sweep."""
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plan | {"metric": RENAMED.get(plan["metric"], plan["metric"])}


def prepare(home: Path, record: dict[str, Any], resume: bool) -> None:
    """Start a sweep in a new folder, or check that the folder's sweep is the same."""
    if home.exists() and not home.is_dir():
        raise SweepError(f"{home} is a file; give --out a folder")
    home.mkdir(parents=True, exist_ok=True)
    path = home / RECORD
    with FileLock(home / LOCK):
        if not path.is_file():
            if any(entry.name != LOCK for entry in home.iterdir()):
                raise SweepError(f"{home} is not empty and not a sweep; choose a new folder for --out")
            write_json(path, record)
            return
    if not resume:
        raise SweepError(f"{home} already holds a sweep; add --resume to continue it, or choose another --out")
    before, now = read_plan(path), json.loads(json.dumps(record))
    changed = list_changes(flatten(before), flatten(now))
    if changed:
        raise SweepError(
            f"{home} holds a sweep of other settings ({'; '.join(changed)}); resume it with its own, or choose another"
        )


def open_study(home: Path, plan: Plan) -> Study:
    """Open or create Optuna's record of the sweep."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    epochs = RunConfig.from_dict(plan.recipe).training.epochs
    pruner = MedianPruner(n_startup_trials=PRUNE_AFTER, n_warmup_steps=max(1, epochs // 4))
    with FileLock(home / LOCK):
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{(home / DATABASE).resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        return optuna.create_study(
            study_name="sweep",
            storage=storage,
            direction="maximize" if OBJECTIVES[plan.metric] > 0 else "minimize",
            pruner=pruner if plan.prune else NopPruner(),
            load_if_exists=True,
        )


def check_data(home: Path, study: Study, cache_dir: str | Path | None) -> None:
    """Check that the data have not changed since an earlier trial, so that the trials can be compared."""
    for each in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))[:1]:
        folder = home / each.user_attrs["folder"]
        config = read_config(folder)
        changes = find_changes(read_record(folder), load_data(config, cache_dir=cache_dir))
        if changes:
            raise SweepError(
                f"the data in {config.data} are not those of the trials in {home} ({'; '.join(changes)}); restore them "
                "to continue, or choose a new folder for --out"
            )


def pick(home: Path, study: Study, plan: Plan, trials: int) -> tuple[Trial, FileLock] | None:
    """Choose and lock the next trial: an unfinished one if its process has died, else a new one; None if all are taken.

    A process holds the lock of the trial it works on, so a free lock shows at once that the process has died. (Optuna's
    heartbeat shows it only after a grace period.) The trial is then recorded as failed and added again with the same
    settings and folder. Trials that failed by themselves have an ``error``.
    """
    with FileLock(home / LOCK):
        known = study.get_trials(deepcopy=False)
        folders = list(dict.fromkeys(each.user_attrs["folder"] for each in known if "folder" in each.user_attrs))
        waiting = [each.user_attrs["folder"] for each in known if each.state is TrialState.WAITING]
        for left in known:
            name = left.user_attrs.get("folder")
            if left.state is not TrialState.RUNNING or (name and not is_free(lock_file(home, name))):
                continue
            # again, as a trial that ends tells so and then frees its lock
            if study.get_trials(deepcopy=False)[left.number].state is not TrialState.RUNNING:
                continue
            if name and name not in waiting:
                again = {"params": left.params, "distributions": left.distributions, "user_attrs": left.user_attrs}
                study.add_trial(optuna.create_trial(state=TrialState.WAITING, **again))
                waiting.append(name)
            study.tell(left.number, state=TrialState.FAIL)
        if not waiting and len(folders) >= trials:
            return None
        index = folders.index(waiting[0]) if waiting else len(folders)
        study.sampler = TPESampler(seed=int(np.random.SeedSequence((plan.seed, index)).generate_state(1)[0]))
        trial = study.ask(dict(plan.space))
        name = trial.user_attrs.get("folder", f"trial-{index:04d}")
        trial.set_user_attr("folder", name)
        lock = FileLock(lock_file(home, name))
        lock.acquire(timeout=0)
        return trial, lock


def lock_file(home: Path, name: str) -> Path:
    """The file that a process locks while it works on a trial."""
    return home / f".{name}.lock"


def run_trial(
    trial: Trial, study: Study, home: Path, plan: Plan, *, cache_dir: str | Path | None, progress: bool
) -> None:
    """Train the network of a trial and report its result to Optuna."""
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

    for row in read_metrics(folder):
        report(row)
    try:
        config = RunConfig.from_dict(merge(plan.recipe, nest(trial.params)))
        options: dict[str, Any] = {"cache_dir": cache_dir, "progress": progress, "on_epoch": on_epoch}
        train_run(config, folder, resume=True, cost=False, split="val", **options)
        study.tell(trial, value_of(plan.metric, folder))
    except RunStopped:
        study.tell(trial, state=TrialState.PRUNED)
    except (ValueError, TrainingError, OutOfMemoryError) as error:  # these settings cannot be trained, others may
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)


def summarise(home: Path, study: Study, metric: str) -> list[Outcome]:
    """Write the table of ended trials and the best recipe; returns these trials in order."""
    ended = {
        each.user_attrs["folder"]: Outcome(
            each.user_attrs["folder"],
            STATES[each.state],
            each.value if each.state is TrialState.COMPLETE else None,
            each.params,
            each.user_attrs.get("error", ""),
        )
        for each in study.get_trials(deepcopy=False, states=tuple(STATES))
        if each.state is not TrialState.FAIL or "error" in each.user_attrs
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
    """The finished trial with the best value; the first one of equals."""
    finished = [outcome for outcome in outcomes if outcome.value is not None]
    return max(finished, key=lambda outcome: OBJECTIVES[metric] * (outcome.value or 0.0), default=None)
