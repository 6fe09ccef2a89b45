"""The studies' queue and what is gathered from their results."""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from anychannel.runs import RunConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import any_subset  # noqa: E402
import study  # noqa: E402

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 8, 1250])
def test_correct_answers_survive_packing(n):
    correct = RANDOM.random(n) < 0.5
    assert np.array_equal(study.unpack(study.pack(correct), n), correct)


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_every_run_of_every_study_is_a_valid_configuration(path):
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    runs = study.queue(path, values, None)
    assert len({name for name, _ in runs}) == len(runs) >= 6
    earlier: list[str] = []
    for name, config in runs:
        teacher = config.get("teacher", "none")
        if "/" in teacher:
            other = path.with_name(f"{teacher.split('/')[0]}.toml")
            assert teacher.split("/")[1] in tomllib.loads(other.read_text(encoding="utf-8"))["runs"]
        else:
            assert teacher in ("none", *earlier)
        earlier.append(config["name"])
        known = RunConfig.from_dict({"data": "photos"} | config)
        assert name == f"{known.name}-s{known.training.seed}"
        if name.startswith("dedicated"):
            assert (known.stem, known.training.sampler, known.norm) == ("static", "full", "shared")
            assert known.subsets == (",".join(known.only_channels),)


@pytest.mark.parametrize(("teacher", "place"), [("large", "some/large-s3"), ("other/large", "other/large-s3")])
def test_a_run_waits_for_its_teacher_and_then_learns_from_its_folder(teacher, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    started: list[dict] = []

    def train(command, **_):
        started.append(tomllib.loads(Path(command[command.index("--config") + 1]).read_text(encoding="utf-8")))
        return argparse.Namespace(returncode=1)

    monkeypatch.setattr(study.subprocess, "run", train)
    options = argparse.Namespace(runs=tmp_path / "runs", data=Path("photos"), threads=1)
    config = {"name": "small", "teacher": teacher, "training": {"seed": 3}}
    assert study.work("small-s3", config, Path("some.toml"), False, options)
    assert not started
    assert f"small-s3 waits for its teacher, {place}" in capsys.readouterr().out
    study.write_json(tmp_path / "results" / f"{place}.json", {})
    assert not study.work("small-s3", config, Path("some.toml"), False, options)
    assert started[0]["teacher"] == str(tmp_path / "runs" / place)


def keep(folder: Path, name: str, seed: int, records: dict[str, np.ndarray], full: str = "R,G") -> None:
    subsets = {key: {"accuracy": float(bits.mean()), "correct": study.pack(bits)} for key, bits in records.items()}
    n = len(next(iter(records.values())))
    result = {"run": {"seed": seed}, "test": {"n": n, "full": full, "subsets": subsets}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-s{seed}.json").write_text(json.dumps(result), encoding="utf-8")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two finished seeds and a third without its dedicated networks: the network for all is 10 points under on R."""
    monkeypatch.setattr(any_subset, "RESULTS", tmp_path)
    monkeypatch.setattr(any_subset, "dedicated_subsets", lambda kind: ["R", "G"])
    folder = tmp_path / "any_subset_jurkat"

    def record(share: float) -> np.ndarray:
        return np.arange(100) < round(100 * share)

    for seed in (0, 1, 2):
        every = {"R,G": record(0.8), "R": record(0.4), "G": record(0.3)}
        keep(folder, "plain", seed, every)
        keep(folder, "ours", seed, every)
        keep(folder, "ours_3x", seed, {"R,G": record(0.8), "R": record(0.6), "G": record(0.7)})
        if seed < 2:
            keep(folder, "dedicated_R", seed, {"R": record(0.7)}, full="R")
            keep(folder, "dedicated_G", seed, {"G": record(0.7)}, full="G")
    return tmp_path


def test_only_whole_seeds_are_gathered_in_the_files_schema(results):
    part = any_subset.gather("jurkat")
    assert part["seeds"] == [0, 1]
    assert part["plain"] == {"R,G": [80.0, 80.0]}
    assert part["ours"]["R"] == [60.0, 60.0]
    assert part["dedicated"] == {"G": [70.0, 70.0], "R": [70.0, 70.0]}
    assert part["zero_fill"]["R"] == [40.0, 40.0]
    assert part["gap"]["ours"]["mean"] == pytest.approx(-0.1 / 3)
    assert part["gap"]["ours"]["worst"]["subset"] == "R"
    assert any_subset.gather("bands") is None


def test_a_seed_that_lacks_a_dedicated_network_of_the_study_is_left_out(results, monkeypatch):
    monkeypatch.setattr(any_subset, "dedicated_subsets", lambda kind: ["R", "G", "R,B"])
    assert any_subset.gather("jurkat") is None


def test_the_file_is_written_with_each_data_set_under_its_key(results, capsys):
    any_subset.main()
    written = json.loads((results / "any_subset.json").read_text())
    assert set(written) == {"jurkat"}
    assert "worst -10.00 (R)" in capsys.readouterr().out


def test_nothing_finished_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(any_subset, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="no study has a seed with all of its runs finished"):
        any_subset.main()
    assert not list(tmp_path.iterdir())
