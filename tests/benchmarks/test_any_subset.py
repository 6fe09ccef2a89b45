"""The studies' queue and what is gathered from their results."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.queue import study
from benchmarks.queue.bits import pack, unpack
from benchmarks.tables import any_subset, results

from anychannel.nn.channel_sampling import create_sampler
from anychannel.runs import RunConfig
from tests.helpers.commands import Command, fork_in

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 8, 1250])
def test_correct_answers_survive_packing(n):
    correct = RANDOM.random(n) < 0.5
    assert np.array_equal(unpack(pack(correct), n), correct)


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_every_run_of_every_study_is_a_valid_configuration(path):
    runs = [(job.name, job.config) for job in study.queue(path, "photos")]
    assert len({name for name, _ in runs}) == len(runs) >= 6
    earlier: list[str] = []
    for name, config in runs:
        needed = {key: config[key] for key in study.OTHERS.keys() & config.keys()}
        for other in needed.values():
            if "/" in other:
                file = path.with_name(f"{other.split('/')[0]}.toml")
                assert other.split("/")[1] in tomllib.loads(file.read_text(encoding="utf-8"))["runs"]
            else:
                assert other in earlier
        earlier.append(config["name"])
        known = RunConfig.from_dict({"data": "photos"} | study.with_folders(config, needed))
        assert name == f"{known.name}-s{known.training.seed}"
        create_sampler(known.training.sampler, 3, **known.training.sampler_options)
        assert not known.teacher or known.training.distill
        if name.startswith("dedicated"):
            assert (known.stem, known.training.sampler, known.norm) == ("static", "full", "shared")
            assert known.subsets == (",".join(known.only_channels),)


@pytest.mark.parametrize(("teacher", "place"), [("large", "some/large-s3"), ("other/large", "other/large-s3")])
def test_a_run_waits_for_its_teacher_and_then_learns_from_its_folder(teacher, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    started: list[dict] = []

    def train(command, **_):
        started.append(tomllib.loads(Path(command[command.index("--config") + 1]).read_text(encoding="utf-8")))
        raise subprocess.CalledProcessError(1, "anychannel")

    monkeypatch.setattr(study.subprocess, "run", train)
    options = argparse.Namespace(runs=tmp_path / "runs", threads=1)
    config = {"name": "small", "teacher": teacher, "training": {"seed": 3}}
    job = study.Job("some", "small-s3", config, "photos", cost=False)
    assert study.work(job, options) == "waits"
    study.write_json(tmp_path / "results" / f"{place}.json", {})
    assert study.work(job, options) == "failed"
    assert f"{place} does not hold the weights; train it there" in capsys.readouterr().out
    (tmp_path / "runs" / place).mkdir(parents=True)
    assert study.work(job, options) == "failed"
    assert started == [{"data": "photos", **config, "teacher": str(tmp_path / "runs" / place)}]
    assert "small-s3 failed" in capsys.readouterr().out


def test_a_run_that_loses_the_gpu_is_tried_once_more_by_another_worker(tmp_path, monkeypatch):
    def lose(*_):
        raise torch.OutOfMemoryError("CUDA error: out of memory")

    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "train_here", lose)
    options = argparse.Namespace(runs=tmp_path / "runs", threads=1)
    job = study.Job("some", "small-s0", {"name": "small", "training": {"seed": 0}}, "photos", cost=False)
    with pytest.raises(torch.OutOfMemoryError):
        study.work(job, options, here=True)
    assert study.work(job, options, here=True) == "failed"
    assert "out of memory" in (tmp_path / "runs" / "some" / "small-s0.failed").read_text()


def test_workers_share_a_queue_and_a_second_start_does_only_what_is_left(tmp_path):
    study_file = tmp_path / "benchmarks" / "studies" / "tiny.toml"
    study_file.parent.mkdir(parents=True)
    for module in ("__init__.py", "published.py"):
        shutil.copy(BENCHMARKS / module, tmp_path / "benchmarks")
    for part in ("queue", "measure"):
        shutil.copytree(BENCHMARKS / part, tmp_path / "benchmarks" / part)
    study_file.write_text(
        """
        data = "bands:2"
        seeds = [0]
        cost = false
        [base]
        classes = 2
        size = 12
        model = "compact_k7"
        model_options = { width = 16 }
        training = { epochs = 1, batch_size = 512, device = "cpu" }
        [runs.teacher]
        [runs.pupil]
        teacher = "teacher"
        training = { distill = 0.5 }
        [runs.warm]
        start = "teacher"
        checkpoint = "none"
        [runs.broken]
        stem_options = { ridge = -1.0 }
        [runs.pupil_of_broken]
        teacher = "broken"
        training = { distill = 0.5 }
        """,
        encoding="utf-8",
    )
    arguments = [str(study_file), "--runs", str(tmp_path / "runs"), "--commit", "abc", "--workers"]
    command = [sys.executable, "-m", "benchmarks.queue.study", *arguments, "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("failed or not finished: broken-s0, pupil_of_broken-s0\n"), done.stderr
    script = tmp_path / "benchmarks" / "queue" / "study.py"
    done = Command(*arguments, "1", cwd=tmp_path, script=script, first=partial(fork_in, tmp_path)).finish()
    assert done.stderr.endswith("failed or not finished: broken-s0, pupil_of_broken-s0\n"), done.stderr
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "benchmarks/results/tiny").iterdir()}
    assert sorted(results) == ["pupil-s0", "teacher-s0", "warm-s0"]
    assert results["warm-s0"]["config"]["model"] == "tiny/teacher-s0"
    assert "checkpoint" not in results["warm-s0"]["config"]
    assert results["pupil-s0"]["config"]["teacher"] == "tiny/teacher-s0"
    assert results["pupil-s0"]["environment"]["commit"] == "abc"
    log = "".join(path.read_text() for path in (tmp_path / "runs").glob("worker-*.log"))
    assert log.count("--- tiny: teacher-s0") == log.count("--- tiny: pupil-s0") == 1
    assert log.count("--- tiny: broken-s0") == 2
    assert "ridge must not be negative" in log


def keep(folder: Path, name: str, seed: int, records: dict[str, np.ndarray], full: str = "R,G") -> None:
    subsets = {key: {"accuracy": float(bits.mean()), "correct": pack(bits)} for key, bits in records.items()}
    n = len(next(iter(records.values())))
    result = {"run": {"seed": seed}, "test": {"n": n, "full": full, "subsets": subsets}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-s{seed}.json").write_text(json.dumps(result), encoding="utf-8")


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two finished seeds and a third without its dedicated networks: the network for all is 10 points under on R."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(any_subset, "dedicated_subsets", lambda kind: ["R", "G"])
    folder = tmp_path / "any_subset_jurkat"

    def record(share: float) -> np.ndarray:
        return np.arange(100) < round(100 * share)

    for seed in (0, 1, 2):
        every = {"R,G": record(0.8), "R": record(0.4), "G": record(0.3)}
        keep(folder, "plain", seed, every)
        keep(folder, "plain_3x", seed, {"R,G": record(0.85), "R": record(0.4), "G": record(0.3)})
        keep(folder, "ours", seed, every)
        keep(folder, "ours_3x", seed, {"R,G": record(0.8), "R": record(0.6), "G": record(0.7)})
        if seed < 2:
            keep(folder, "dedicated_R", seed, {"R": record(0.7)}, full="R")
            keep(folder, "dedicated_G", seed, {"G": record(0.7)}, full="G")
    return tmp_path


def test_only_whole_seeds_are_gathered_in_the_files_schema(finished):
    part = any_subset.gather("jurkat")
    assert part["seeds"] == [0, 1]
    assert part["plain"] == {"R,G": [80.0, 80.0]}
    assert part["ours"]["R"] == [60.0, 60.0]
    assert part["dedicated"] == {"G": [70.0, 70.0], "R": [70.0, 70.0]}
    assert part["zero_fill"]["R"] == [40.0, 40.0]
    assert part["gap"]["ours"]["mean"] == pytest.approx((-0.05 - 0.1) / 3)  # all channels against plain_3x
    assert part["gap"]["ours_1x"]["mean"] == pytest.approx((-0.3 - 0.4) / 3)
    assert part["gap"]["ours"]["worst"]["subset"] == "R"
    assert any_subset.gather("bands") is None


def test_a_seed_that_lacks_a_dedicated_network_of_the_study_is_left_out(finished, monkeypatch):
    monkeypatch.setattr(any_subset, "dedicated_subsets", lambda kind: ["R", "G", "R,B"])
    assert any_subset.gather("jurkat") is None


def test_the_file_is_written_with_each_data_set_under_its_key(finished, capsys):
    any_subset.main()
    written = json.loads((finished / "any_subset.json").read_text())
    assert set(written) == {"jurkat"}
    assert "worst -10.00 (R)" in capsys.readouterr().out


def test_nothing_finished_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="no study has a seed with all of its runs finished"):
        any_subset.main()
    assert not list(tmp_path.iterdir())
