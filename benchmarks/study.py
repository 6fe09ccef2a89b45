"""Work through a study: a queue of training runs that resumes, skips what is finished, and keeps small results.

    python benchmarks/study.py benchmarks/studies/report_quick.toml --data DATA/mini-imagenet-50 --runs runs

Each run is one ``anychannel train`` in a process of its own, which ``small_maps.py`` makes faster on a CPU. Kill the
study at any time and start it again: finished runs are skipped, an unfinished one goes on from its checkpoint. Several
studies, or the same one twice, can work side by side; a run is locked while it is worked on. What stays is
``benchmarks/results/STUDY/RUN-sSEED.json``, a few kilobytes with the figures and where they come from;
``benchmarks/page.py`` turns them into the documentation's tables.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from filelock import FileLock, Timeout

from anychannel.channels import parse_names
from anychannel.evaluation import load_evaluation
from anychannel.files import write_json, write_text
from anychannel.runs.config import load_recipe, merge

RESULTS = Path(__file__).parent / "results"
KEPT_FIGURES = ("n", "accuracy", "top5", "loss", "ece", "refused")


def queue(study: Path, values: dict[str, Any], seeds: list[int] | None) -> list[tuple[str, dict[str, Any]]]:
    """Name and configuration of every run of a study's file, seed by seed."""
    base = load_recipe(study.parent / values["recipe"]) if "recipe" in values else {}
    base = merge(base, values.get("base", {}))
    chosen = values["runs"] | {f"dedicated_{key}": dedicated(key) for key in values.get("dedicated", [])}
    runs = []
    for seed in seeds or values["seeds"]:
        for name, changes in chosen.items():
            config = merge(merge(base, changes), {"name": name, "training": {"seed": seed}})
            runs.append((f"{name}-s{seed}", config))
    return runs


def dedicated(key: str) -> dict[str, Any]:
    """What makes a run of the study one dedicated to a subset (``"R,G"``); its base must be a plain network."""
    return {"only_channels": list(parse_names(key)), "subsets": [key]}


def pack(correct: np.ndarray) -> str:
    """Which images were classified correctly, one bit an image, for paired tests later."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpack(text: str, n: int) -> np.ndarray:
    """Inverse of ``pack`` for ``n`` images."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)


def small_result(study: Path, home: Path, data: Path) -> dict[str, Any]:
    """The figures of a finished run and where they come from, without paths of this machine."""
    read = {
        name: json.loads((home / f"{name}.json").read_text())
        for name in ("run", "environment", "cost")
        if (home / f"{name}.json").is_file()
    }
    test = json.loads((home / "evaluation" / "test.json").read_text())
    config = tomllib.loads((home / "config.toml").read_text())
    config["data"] = data.name
    if "teacher" in config:
        config["teacher"] = "/".join(Path(config["teacher"]).parts[-2:])
    run = {key: value for key, value in read["run"].items() if key not in ("classes",)}
    rows = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
    evaluation = load_evaluation(home)
    subsets = {
        key: {name: figures[name] for name in KEPT_FIGURES if name in figures}
        | ({"macro": figures["macro"]} if "macro" in figures else {})
        | ({"correct": pack(evaluation.correct(key))} if key in evaluation.probabilities else {})
        for key, figures in test["subsets"].items()
    }
    return {
        "command": f"python benchmarks/study.py benchmarks/studies/{study.name} --data {data.name} "
        f"--only {config['name']} --seeds {config['training']['seed']} --threads {read['environment']['threads']}",
        "config": config,
        "environment": read["environment"],
        "run": run,
        "metrics": rows,
        "test": {"n": test["n"], "full": test["full"], "subsets": subsets},
    } | ({"cost": read["cost"]} if "cost" in read else {})


def work(name: str, config: dict[str, Any], study: Path, cost: bool, options: argparse.Namespace) -> bool:
    """Do one run unless it is done, under way elsewhere or its teacher is not done; False if it failed.

    A run's ``teacher`` is the name of another run, whose network of the same seed it learns from: ``resnet34`` of this
    study, or ``report_quick/resnet18`` of another.
    """
    result = RESULTS / study.stem / f"{name}.json"
    if result.is_file():
        return True
    if "teacher" in config:
        teacher = config["teacher"] if "/" in config["teacher"] else f"{study.stem}/{config['teacher']}"
        teacher += f"-s{config['training']['seed']}"
        if not (RESULTS / f"{teacher}.json").is_file():
            print(f"--- {name} waits for its teacher, {teacher}", flush=True)
            return True
        config = config | {"teacher": str(options.runs / teacher)}
    home = options.runs / study.stem / name
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home.with_suffix(".lock"), timeout=0):
            if result.is_file():
                return True
            recipe = home.with_suffix(".toml")
            write_text(recipe, tomli_w.dumps(merge(config, {"data": str(options.data)})))
            print(f"--- {study.stem}: {name}", flush=True)
            command = [sys.executable, str(Path(__file__).with_name("small_maps.py")), "train"]
            command += ["--config", str(recipe), "--out", str(home), "--resume", *([] if cost else ["--no-cost"])]
            threads = str(options.threads)
            environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
            if subprocess.run(command, env=environment, check=False).returncode:
                print(f"--- {name} failed", flush=True)
                return False
            write_json(result, small_result(study, home, options.data))
    except Timeout:
        print(f"--- {name} is under way elsewhere", flush=True)
    return True


def main() -> None:
    """Work through the study named on the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run under way is stopped too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a file of benchmarks/studies")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs' folders go")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the study's own")
    parser.add_argument("--only", nargs="+", help="names of runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print what is done and what is left")
    options = parser.parse_args()
    values = tomllib.loads(options.study.read_text(encoding="utf-8"))
    runs = queue(options.study, values, options.seeds)
    if options.only:
        runs = [run for run in runs if run[1]["name"] in options.only]
    if options.list:
        for name, _ in runs:
            done = (RESULTS / options.study.stem / f"{name}.json").is_file()
            print(f"{'done' if done else 'left':<6}{name}")
        return
    cost = values.get("cost", True)
    failures = [name for name, config in runs if not work(name, config, options.study, cost, options)]
    if failures:
        sys.exit(f"failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
