"""Run studies: a queue of training runs that resumes, skips finished runs, and keeps small results.

    python -m benchmarks.queue.study benchmarks/studies/report_quick.toml --data DATA/mini-imagenet-50 --runs runs
    python -m benchmarks.queue.study benchmarks/studies/*.toml --data DATA/mini-imagenet-50 --runs runs --workers 14

Each run is one ``anychannel train`` in its own process. You can kill a study at any time and start it again: it skips
finished runs and continues an unfinished one from its checkpoint. Several studies, or one study twice, can run side by
side, because a run is locked while it is trained. The result is ``benchmarks/results/STUDY/RUN-sSEED.json``, a few
kilobytes with the figures and where they come from. The makers in ``benchmarks/tables`` turn these files into the
tables of the documentation.

With ``--workers N``, N processes share the queue, and each trains one network after the other without restarting. A
small network on small images leaves a GPU idle most of the time; a dozen of them at once do not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from anychannel.channels import parse_names
from anychannel.evaluation import Evaluation, load_evaluation
from anychannel.results.metrics import compute_metrics
from anychannel.runs.config import load_recipe, merge
from anychannel.utils.files import write_atomically, write_json, write_text
from benchmarks.published import published_weights
from benchmarks.queue.bits import pack

RESULTS = Path(__file__).parents[1] / "results"
OTHERS = {"teacher": "teacher", "start": "model"}
"""What names another run of a study, and the setting that gets its folder."""
OF_A_NETWORK = ("checkpoint", "adapt_options", "model_options")
"""Settings about a network that does not come from another run."""
MOST_STARTS = 4
"""Starts of one worker."""
KEPT_FIGURES = ("n", "name", "accuracy", "balanced_accuracy", "top5", "loss", "ece", "refused")


@dataclass(frozen=True)
class Job:
    """One run of a study. ``data`` is a folder or the name of an embedded data set."""

    study: str
    name: str
    config: dict[str, Any] = field(hash=False)
    data: str
    cost: bool
    parts: dict[str, str] = field(default_factory=dict, hash=False)
    """Beginnings of paths, by name: test images that are scored by themselves too."""

    @property
    def result(self) -> Path:
        """The file that keeps its figures."""
        return RESULTS / self.study / f"{self.name}.json"


def queue(study: Path, data: str | Path | None, seeds: list[int] | None = None) -> list[Job]:
    """Return every run of a study's file, seed by seed.

    A file may name its embedded ``data`` itself. With ``fold_by``, a column of folds, a seed is the fold that tests.
    """
    values = tomllib.loads(study.read_text(encoding="utf-8"))
    base = load_recipe(study.parent / values["recipe"]) if "recipe" in values else {}
    base = merge(base, values.get("base", {}))
    chosen = values["runs"] | {f"dedicated_{key}": dedicated(key) for key in values.get("dedicated", [])}
    source = values.get("data", data)
    if source is None:
        raise SystemExit(f"{study} needs --data, the folder of its images")
    jobs = []
    for seed in seeds or values["seeds"]:
        for name, changes in chosen.items():
            config = merge(merge(base, changes), {"name": name, "training": {"seed": seed}})
            if "fold_by" in values:
                config = merge(config, {"data_options": {"fold_by": values["fold_by"], "fold": str(seed)}})
            more = {"parts": values["parts"]} if "parts" in values else {}
            jobs.append(Job(study.stem, f"{name}-s{seed}", config, str(source), values.get("cost", True), **more))
    return jobs


def dedicated(key: str) -> dict[str, Any]:
    """Return the settings of a run dedicated to a subset (``"R,G"``); the study's base must be a plain network."""
    return {"only_channels": list(parse_names(key)), "subsets": [key]}


def small_result(job: Job, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a finished run and where they come from, without paths of this machine."""
    read = {
        name: json.loads((home / f"{name}.json").read_text())
        for name in ("run", "environment", "cost")
        if (home / f"{name}.json").is_file()
    }
    test = json.loads((home / "evaluation" / "test.json").read_text())
    config = tomllib.loads((home / "config.toml").read_text())
    config["data"] = data = Path(job.data).name
    for key in OTHERS.values() & config.keys():
        if Path(config[key]).is_absolute():
            config[key] = "/".join(Path(config[key]).parts[-2:])
    if "checkpoint" in config:
        config["checkpoint"] = Path(config["checkpoint"]).stem
    run = {key: value for key, value in read["run"].items() if key != "classes"}
    rows = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
    evaluation = load_evaluation(home)
    subsets = {
        key: {name: figures[name] for name in KEPT_FIGURES if name in figures}
        | ({"macro": figures["macro"]} if "macro" in figures else {})
        | ({"correct": pack(evaluation.correct(key))} if key in evaluation.probabilities else {})
        for key, figures in test["subsets"].items()
    }
    return (
        {
            "command": f"python -m benchmarks.queue.study benchmarks/studies/{job.study}.toml --data {data} "
            f"--only {config['name']} --seeds {config['training']['seed']} --threads {read['environment']['threads']}",
            "config": config,
            "environment": read["environment"] | ({"commit": options.commit} if options.commit else {}),
            "run": run,
            "metrics": rows,
            "test": {"n": test["n"], "full": test["full"], "subsets": subsets},
        }
        | part_figures(job, evaluation)
        | ({"cost": read["cost"]} if "cost" in read else {})
    )


def part_figures(job: Job, evaluation: Evaluation) -> dict[str, Any]:
    """Return accuracy and balanced accuracy on each part of the test images, for each subset."""
    found: dict[str, Any] = {}
    for name, beginning in job.parts.items():
        rows = [i for i, path in enumerate(evaluation.paths) if path.startswith(beginning)]
        found[name] = {"n": len(rows), "subsets": {}}
        for key, table in evaluation.probabilities.items():
            figures = compute_metrics(evaluation.labels[rows], table[rows], evaluation.classes)
            found[name]["subsets"][key] = {way: figures[way] for way in ("accuracy", "balanced_accuracy")}
    return {"parts": found} if found else {}


def work(job: Job, options: argparse.Namespace, *, here: bool = False) -> str:
    """Do one run, in its own process or ``here`` in this one.

    A run's ``teacher`` is the name of another run, ``resnet34`` of this study or ``report_quick/resnet18`` of another.
    The run distils from this run's network of the same seed. ``start`` names in the same way the run from whose network
    it starts, in place of a checkpoint. A run's ``checkpoint`` is a name of ``published_weights``.

    Returns:
        ``done``; ``failed``, also if a run that it needs failed; or ``waits`` if that is not finished or another
        process trains it.
    """
    config = job.config
    home = options.runs / job.study / job.name
    failure = home.with_suffix(".failed")

    def ended() -> str:
        return "done" if job.result.is_file() else "failed" if here and failure.is_file() else ""

    if ended():
        return ended()
    needed = {}
    for key in OTHERS.keys() & config.keys():
        other = config[key] if "/" in config[key] else f"{job.study}/{config[key]}"
        other += f"-s{config['training']['seed']}"
        if not (RESULTS / f"{other}.json").is_file():
            return "failed" if here and (options.runs / f"{other}.failed").is_file() else "waits"
        needed[key] = options.runs / other
    config = with_folders(config, needed)
    if "checkpoint" in config:
        config = config | {"checkpoint": str(write_published(config["checkpoint"], options.runs))}
    home.parent.mkdir(parents=True, exist_ok=True)
    config = merge(config, {"data": job.data})
    try:
        with FileLock(home.with_suffix(".lock"), timeout=0):
            if ended():  # another worker did it between the first look and the lock
                return ended()
            print(f"--- {job.study}: {job.name}", flush=True)
            try:
                for folder in needed.values():
                    if not folder.is_dir():
                        raise FileNotFoundError(f"{folder} does not hold the weights; train it there")
                (train_here if here else train_apart)(config, home, job.cost, options.threads)
            except Exception as error:
                lost = isinstance(error, (torch.AcceleratorError, torch.OutOfMemoryError))
                if here and lost and not failure.with_suffix(".suspect").is_file():
                    failure.with_suffix(".suspect").touch()
                    raise  # this process is of no more use to a GPU; another tries the run once more
                failure.write_text(traceback.format_exc(), encoding="utf-8")
                print(f"--- {job.name} failed: {traceback.format_exc()}", flush=True)
                return "failed"
            write_json(job.result, small_result(job, home, options))
            return "done"
    except Timeout:
        return "waits"


def with_folders(config: dict[str, Any], needed: dict[str, Path]) -> dict[str, Any]:
    """Return a run's settings with the folders of the runs that it needs, by the key that names them."""
    found = config | {OTHERS[key]: str(folder) for key, folder in needed.items()}
    if "start" not in config:
        return found
    return {key: value for key, value in found.items() if key not in ("start", *OF_A_NETWORK)}


def write_published(name: str, folder: Path) -> Path:
    """Write published weights into a folder, unless they are there, and return their file."""
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: tensor.contiguous() for key, tensor in published_weights(name).items()}
        write_atomically(file, lambda partial: save_file(weights, partial))
    return file


def train_apart(config: dict[str, Any], home: Path, cost: bool, threads: int) -> None:
    """Train in its own process."""
    recipe = home.with_suffix(".toml")
    write_text(recipe, tomli_w.dumps(config))
    command = [sys.executable, "-m", "anychannel", "train"]
    command += ["--config", str(recipe), "--out", str(home), "--resume", *([] if cost else ["--no-cost"])]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    subprocess.run(command, env=environment, check=True)


def train_here(config: dict[str, Any], home: Path, cost: bool, threads: int) -> None:
    """Train in this process."""
    from anychannel.runs import RunConfig, train_run

    torch.set_num_threads(threads)
    train_run(RunConfig.from_dict(config), home, resume=True, cost=cost)


def keep_working(jobs: list[Job], options: argparse.Namespace, number: int) -> None:
    """Do jobs that no other worker has locked, in order, until all are done or failed."""
    with (options.runs / f"worker-{number}.log").open("a", encoding="utf-8", buffering=1) as log:
        sys.stdout = sys.stderr = log
        left = jobs
        while left:
            states = [work(job, options, here=True) for job in left]
            if all(state == "waits" for state in states):
                time.sleep(1)
            left = [job for job, state in zip(left, states, strict=True) if state == "waits"]


def side_by_side(jobs: list[Job], options: argparse.Namespace) -> list[Job]:
    """Share the jobs among workers until all are done or failed, or the time is up; return those that are not done.

    A worker that ends with an error, for example because the GPU's memory is full, is replaced a few times.
    """
    options.runs.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        for mark in (".failed", ".suspect"):
            (options.runs / job.study / job.name).with_suffix(mark).unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    end = time.monotonic() + (options.minutes * 60 if options.minutes else float("inf"))
    workers: dict[int, Any] = {}
    starts = dict.fromkeys(range(options.workers), 0)
    try:
        while time.monotonic() < end:
            for number in starts:
                ended = number not in workers or workers[number].exitcode not in (None, 0)
                if ended and starts[number] < MOST_STARTS:
                    starts[number] += 1
                    workers[number] = context.Process(target=keep_working, args=(jobs, options, number))
                    workers[number].start()
                    time.sleep(0.3)
            if not any(worker.is_alive() for worker in workers.values()):
                break
            time.sleep(0.5)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()
    return [job for job in jobs if not job.result.is_file()]


def one_by_one(jobs: list[Job], options: argparse.Namespace) -> list[Job]:
    """Do the jobs in turn, each in its own process; return those that failed."""
    failed = []
    for job in jobs:
        state = work(job, options)
        if state == "waits":
            print(f"--- {job.name} waits for another run or is under way elsewhere", flush=True)
        if state == "failed":
            failed.append(job)
    return failed


def main() -> None:
    """Run the studies named on the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs under way are stopped too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", help="files of benchmarks/studies")
    parser.add_argument("--data", type=Path, help="folder of the data set, if the study names none")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", help="replace the study's seeds")
    parser.add_argument("--only", nargs="+", help="names of runs")
    parser.add_argument("--threads", type=int, help="threads per run; default: all cores, or one with --workers")
    parser.add_argument("--workers", type=int, default=0, help="processes that share the queue")
    parser.add_argument("--minutes", type=float, help="stop the workers after this time; the same command resumes")
    parser.add_argument("--commit", help="commit of this tree, if it is a copy without git history")
    parser.add_argument("--list", action="store_true", help="print what is done and what is left")
    options = parser.parse_args()
    options.threads = options.threads or (1 if options.workers else os.cpu_count() or 1)
    jobs = [job for study in options.studies for job in queue(study, options.data, options.seeds)]
    if options.only:
        jobs = [job for job in jobs if job.config["name"] in options.only]
    if options.list:
        for job in jobs:
            print(f"{'done' if job.result.is_file() else 'left':<6}{job.name}")
        return
    left = side_by_side(jobs, options) if options.workers else one_by_one(jobs, options)
    if left:
        sys.exit(f"failed or not finished: {', '.join(job.name for job in left)}")


if __name__ == "__main__":
    main()
