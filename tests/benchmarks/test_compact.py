"""What is gathered from Task II's study, and the ablation's tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tables import ablation, compact, results

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

OPTIMISER = {"sampler": "full", "optimizer": "sgd", "lr": 0.1, "schedule": "one_cycle"}


def keep(folder: Path, name: str, seed: int, accuracy: dict[str, float], **training: object) -> None:
    """A finished run's result, as far as the pages read it."""
    model = "resnet34" if "resnet34" in name else "compact_rrdb"
    result = {
        "config": {"model": model, "stem": "static", "training": OPTIMISER | training},
        "run": {"seed": seed, "params": 21_290_000 if model == "resnet34" else 209_050, "epochs_run": 30},
        "test": {"n": 100, "full": "R,G,B", "subsets": {key: {"accuracy": value} for key, value in accuracy.items()}},
        "cost": {"batch_size": 10, "subsets": {"R,G,B": {"gflops_with_attention": 1.0}}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-s{seed}.json").write_text(json.dumps(result), encoding="utf-8")


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two finished seeds of both comparisons, and a third of one."""
    folder = tmp_path / "results" / "compact_quick"
    for seed in (0, 1, 2):
        keep(folder, "best_resnet34", seed, {"R,G,B": 0.6})
        keep(folder, "best_compact", seed, {"R,G,B": 0.63})
        if seed < 2:
            keep(folder, "report_resnet34", seed, {"R,G,B": 0.5})
            keep(folder, "report_compact_k7", seed, {"R,G,B": 0.4 + 0.1 * seed})
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    return tmp_path


def test_seeds_of_both_comparisons_are_gathered_with_their_shares(finished):
    gathered = compact.gather()
    assert gathered["seeds"] == [0, 1]
    assert gathered["best_compact"] == {"R,G,B": [63.0, 63.0]}
    assert gathered["share_of_resnet34"] == {"report": [0.8, 1.0], "best": [1.05, 1.05]}
    assert gathered["params"]["best_compact"] == 209_050


def test_a_further_comparison_is_gathered_once_it_has_the_seeds(finished):
    folder = finished / "results" / "compact_quick"
    keep(folder, "report_compact_k7_cycle", 0, {"R,G,B": 0.55})
    assert "report_limit" not in compact.gather()["share_of_resnet34"]
    keep(folder, "report_compact_k7_cycle", 1, {"R,G,B": 0.45})
    assert compact.gather()["share_of_resnet34"]["report_limit"] == [1.1, 0.9]


def test_the_pages_table_says_size_cost_and_share(finished):
    rows = [line for line in compact.make("").splitlines() if line.startswith("| `compact_rrdb`")]
    assert "| `compact_rrdb`: SGD, 0.1, one cycle | 0.209 | 100 | 30 ± 0 | 63.0 ± 0.0 | 105.0 ± 0.0 | 3 |" in rows


def test_a_constant_rate_and_averaged_weights_are_told(finished):
    keep(
        finished / "results" / "compact_quick",
        "best_compact_taught",
        0,
        {"R,G,B": 0.6},
        distill=0.5,
        optimizer="adamw",
        lr=0.001,
        schedule="constant",
        ema=0.99,
    )
    assert "taught by best_resnet34: AdamW, 0.001, averaged weights | 0.209 |" in compact.make("")


def test_nothing_is_gathered_without_a_seed_of_both(finished, capsys, monkeypatch):
    for path in (finished / "results" / "compact_quick").glob("report_compact*"):
        path.unlink()
    page = finished / "compact.md"
    page.write_text((BENCHMARKS.parent / "docs" / "compact.md").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(compact, "PAGE", page)
    compact.main()
    assert "no seed has both comparisons" in capsys.readouterr().out
    assert "105.0 ± 0.0" in page.read_text(encoding="utf-8")


def test_a_page_that_lost_its_marks_is_named(tmp_path):
    page = tmp_path / "compact.md"
    page.write_text(f"{results.BEGIN}a -->\n\n{results.BEGIN}b -->\n\n\n\n{results.END}", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"compact\.md has lost its marks"):
        results.fill(page, compact.make)


def test_the_ablation_orders_its_rows_and_compares_over_common_seeds(tmp_path, monkeypatch):
    six = dict.fromkeys(ablation.SIX, 0.5)
    for seed in (0, 1):
        keep(tmp_path / "results" / "ablation_quick", "base", seed, six | {"R,G,B": 0.6})
    folder = tmp_path / "results" / "ablation_quick"
    keep(folder, "plain", 0, dict.fromkeys(ablation.SIX, 0.1) | {"R,G,B": 0.7})
    keep(folder, "stem_static", 0, dict.fromkeys(ablation.SIX, 0.3) | {"R,G,B": 0.6})
    keep(folder, "stem_sliced", 1, dict.fromkeys(ablation.SIX, 0.45) | {"R,G,B": 0.5})
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    text = ablation.make("")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    first = "| **`completion`, `split`, `statistics`** | 60.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | +0.0 | 2 |"
    assert [row for row in rows if "---" not in row and "RGB" not in row] == [
        first,
        "| plain | 70.0 | 10.0 | 10.0 | -40.0 | 1 |",
        first,
        "| `sliced` | 50.0 | 45.0 | 45.0 | -5.0 | 1 |",
        "| `static` | 60.0 | 30.0 | 30.0 | -20.0 | 1 |",
    ]
    assert "`static`, `dropout`" in text.partition("Not run yet: ")[2]
