from __future__ import annotations

import json
import math

import numpy as np
import pytest
from filelock import FileLock

from anychannel.report import write_report
from anychannel.report.verdict import judge
from anychannel.results.metrics import compute_metrics, standard_error
from anychannel.results.run import led_by_watched, load_runs
from tests.helpers.run_folders import all_subsets, make_run, set_accuracies

SINGLES_AND_PAIRS = all_subsets(("R", "G", "B"))[1:]


def verdict_of(*folders):
    verdicts, notes = judge(load_runs(folders))
    assert len(verdicts) == 1
    said = " ".join([verdicts[0].headline, *verdicts[0].sentences]).replace("\N{NO-BREAK SPACE}", " ")
    return verdicts[0], said, notes


def exact(folder, accuracies, n, **options):
    """A run whose subsets have just these accuracies over n images."""
    return set_accuracies(make_run(folder, classes=2, per_class=n // 2, **options), accuracies, n)


def test_a_clear_winner_is_named_with_what_it_gives_up_on_the_full_set(tmp_path):
    plain = exact(tmp_path / "plain", {"R,G,B": 0.8, "R,G": 0.4, "R": 0.2}, 1000)
    adaptive = exact(tmp_path / "adaptive", {"R,G,B": 0.7, "R,G": 0.6, "R": 0.5}, 1000)
    verdict, said, notes = verdict_of(plain, adaptive)
    assert verdict.headline == "adaptive keeps most accuracy when channels go missing."
    assert "adaptive averages 55.0 %, 25.0 points more than plain, next at 30.0 %" in said
    assert "Its worst subset is R at 50.0 %; no other run's worst is better." in said
    assert (
        "With all channels adaptive reaches 70.0 % (standard error 1.5 points). The best there is plain at 80.0 % "
        "(standard error 1.3 points), 10.0 points more; that is more than two standard errors." in said
    )
    assert "for 1,000 test images" in said
    assert notes == []
    assert [entry.run.name for entry in verdict.standings] == ["adaptive", "plain"]


def test_a_difference_within_two_standard_errors_makes_no_winner(tmp_path):
    one = exact(tmp_path / "one", {"R,G,B": 0.52, "R": 0.50}, 100)
    two = exact(tmp_path / "two", {"R,G,B": 0.50, "R": 0.48}, 100)
    verdict, said, _ = verdict_of(one, two)
    assert verdict.headline == (
        "No run clearly keeps more accuracy when channels go missing: the 2 runs compared are within two standard "
        "errors of the highest mean."
    )
    assert "one averages 50.0 %, 2.0 points more than two" in said
    assert said.count("within two standard errors, so the test images do not separate them") == 2


@pytest.mark.parametrize("n", [100, 400, 1600, 6400])
def test_whether_there_is_a_winner_depends_on_the_number_of_images(tmp_path, n):
    high, low = 0.55, 0.50
    runs = [exact(tmp_path / name, {"R,G,B": 0.6, "R": value}, n) for name, value in (("a", high), ("b", low))]
    verdict, _, _ = verdict_of(*runs)
    error = math.sqrt(high * (1 - high) / n + low * (1 - low) / n)
    assert ("a keeps most" in verdict.headline) == (high - low > 2 * error)


def test_runs_that_cannot_be_told_from_the_first_share_its_place(tmp_path):
    values = {"a": 0.60, "b": 0.59, "c": 0.20}
    runs = [exact(tmp_path / name, {"R,G,B": 0.7, "R": value}, 500) for name, value in values.items()]
    verdict, _, _ = verdict_of(*runs)
    assert verdict.headline.startswith("a and b keep most accuracy when channels go missing, within two standard")


def test_another_run_may_have_the_best_worst_case(tmp_path):
    one = exact(tmp_path / "one", {"R,G,B": 0.8, "R": 0.7, "G": 0.3}, 1000)
    two = exact(tmp_path / "two", {"R,G,B": 0.8, "R": 0.5, "G": 0.45}, 1000)
    _, said, _ = verdict_of(one, two)
    assert "Its worst subset is G at 30.0 %. two has the best worst case, 45.0 % on G, 15.0 points more" in said


def test_one_run_alone_is_described_not_ranked(tmp_path):
    run = exact(tmp_path / "net", {"R,G,B": 0.8, "R,G": 0.6, "R": 0.2}, 1000)
    _, said, _ = verdict_of(run)
    assert said.startswith("net averages 40.0 % when channels are missing, against 80.0 % with all channels.")
    assert "The worst subset is R at 20.0 %, 60.0 points below the full set" in said
    assert "keeps" not in said
    assert "best" not in said


def test_a_run_that_refuses_every_other_subset_is_said_to(tmp_path):
    refused = dict.fromkeys(SINGLES_AND_PAIRS, "trained on R,G,B only")
    masked = make_run(tmp_path / "masked", refused=refused)
    plain = make_run(tmp_path / "plain", full=0.4)
    verdict, said, _ = verdict_of(masked, plain)
    assert verdict.headline.startswith("Only plain has results with channels missing: it averages")
    assert "masked refuses every subset with channels missing." in said
    assert "The best there is masked at" in said
    _, alone, _ = verdict_of(masked)
    assert "masked refuses every subset with channels missing." in alone


def test_runs_are_compared_on_the_subsets_that_all_answer(tmp_path):
    one = exact(tmp_path / "one", {"R,G,B": 0.8, "R": 0.6, "G": 0.1}, 1000)
    two = exact(tmp_path / "two", {"R,G,B": 0.8, "R": 0.5}, 1000)
    verdict, said, _ = verdict_of(one, two)
    assert verdict.subsets == ("R",)
    assert "Over the subset R, one averages 60.0 %" in said
    assert "two has results for 1 of the 2 subsets with channels missing." in said
    assert "Means are over the 1 subset for which every ranked run has a result." in said


def test_a_full_set_alone_says_nothing_on_missing_channels(tmp_path):
    runs = [exact(tmp_path / name, {"R,G,B": value}, 500) for name, value in (("a", 0.5), ("b", 0.8))]
    verdict, said, _ = verdict_of(*runs)
    assert verdict.headline.startswith("No subset with channels missing was evaluated")
    assert "b reaches 80.0 %" in said


def test_runs_on_other_images_are_not_compared(tmp_path):
    verdicts, notes = judge(load_runs([make_run(tmp_path / "a"), make_run(tmp_path / "b", fingerprint="other")]))
    assert len(verdicts) == 2
    assert notes[0].startswith("The runs fall into 2 groups that saw different data, classes or image sizes")
    assert all(len(verdict.standings) == 1 for verdict in verdicts)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"status": "failed", "error": "loss is nan in batch 7", "epochs": 3},
            "net failed after 3 of 10 epochs: loss is nan in batch 7. It is not ranked.",
        ),
        ({"status": "running", "epochs": 4}, "net is still running (4 of 10 epochs so far). It is not ranked."),
        ({"status": "interrupted", "epochs": 1}, "net was interrupted after 1 of 10 epochs. It is not ranked."),
        (
            {"status": "stopped", "error": "pruned at epoch 1", "epochs": 1},
            "net was stopped after 1 of 10 epochs: pruned at epoch 1. It is not ranked.",
        ),
        ({"status": "odd"}, "net has the unknown status 'odd' after 10 of 10 epochs. It is not ranked."),
        ({"test": False}, "net finished without test results. It is not ranked."),
    ],
)
def test_what_is_not_finished_is_listed_with_its_status(tmp_path, options, said):
    verdicts, notes = judge(load_runs([make_run(tmp_path / "net", **options)]))
    assert verdicts == []
    assert notes == [said]


def test_a_run_that_failed_after_its_test_is_not_ranked(tmp_path):
    runs = load_runs([make_run(tmp_path / "a", full=0.9, status="failed"), make_run(tmp_path / "b")])
    (verdict,), notes = judge(runs)
    assert [entry.run.name for entry in verdict.standings] == ["b"]
    assert notes[0].startswith("a failed after")


def test_the_error_of_a_mean_is_at_least_that_of_any_correlation(tmp_path):
    run = exact(tmp_path / "net", {"R,G,B": 0.8, "R": 0.5, "G": 0.2}, 400)
    verdict, _, _ = verdict_of(run)
    errors = [math.sqrt(p * (1 - p) / 400) for p in (0.5, 0.2)]
    assert verdict.standings[0].mean.standard_error == pytest.approx(sum(errors) / 2, rel=0.02)


@pytest.mark.parametrize(("n", "separate"), [(2, False), (4, True)])
def test_a_few_images_that_are_all_right_or_all_wrong_are_not_certain(tmp_path, n, separate):
    runs = [exact(tmp_path / name, {"R,G,B": 1.0, "R": value}, n) for name, value in (("a", 1.0), ("b", 0.0))]
    verdict, said, _ = verdict_of(*runs)
    assert ("a keeps most accuracy" in verdict.headline) is separate
    assert "standard error 0.0 points" not in said


def test_runs_that_were_not_asked_are_not_said_to_refuse(tmp_path):
    adaptive = make_run(tmp_path / "adaptive", subsets=None)
    other = make_run(tmp_path / "other", subsets=["R,G,B"])
    verdict, said, _ = verdict_of(adaptive, other)
    assert verdict.headline.startswith("Only adaptive has results with channels missing: it averages")
    assert "other was evaluated on the full set only." in said
    assert [entry.refuses for entry in verdict.standings] == [False, False]
    masked = make_run(tmp_path / "masked", refused=dict.fromkeys(SINGLES_AND_PAIRS, "trained on R,G,B only"))
    verdict, said, _ = verdict_of(masked, other)
    assert verdict.headline == (
        "masked refuses every subset with channels missing, and no other run was evaluated on one."
    )
    assert {entry.run.name: entry.refuses for entry in verdict.standings} == {"masked": True, "other": False}


def test_a_run_whose_process_is_gone_is_not_said_to_run(tmp_path):
    folder = make_run(tmp_path / "net", status="running", epochs=4)
    lock = FileLock(folder / ".lock")
    with lock:
        assert "net is still running" in judge(load_runs([folder]))[1][0]
    assert judge(load_runs([folder]))[1] == [
        "net was killed after 4 of 10 epochs, or runs on another machine; --resume continues it. It is not ranked."
    ]
    page = write_report([folder], tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<span class="chip unknown">not finished</span>' in page


WRONG = "Something is wrong or unfinished in "
PRAISE = ("keeps most", "keep most", "when channels are missing, against")


@pytest.mark.parametrize(
    ("points", "n", "wrong"),
    [(16, 500, True), (16, 20, False), (1, 500, False), (1, 40_000, True), (-1, 40_000, False), (0, 500, False)],
)
@pytest.mark.parametrize("epochs", [2, 30])
def test_a_run_that_does_better_without_channels_is_never_praised(tmp_path, points, n, wrong, epochs):
    values = {"R,G,B": 0.55, "R,G": 0.55 + points / 100, "R": 0.4}
    verdict, said, _ = verdict_of(exact(tmp_path / "net", values, n, epochs=epochs))
    assert verdict.headline.startswith(WRONG) is wrong
    if wrong:
        assert f"net: it reaches {100 * values['R,G']:.1f} % with R,G alone, but 55.0 % with all channels." in said
        cause = "It was trained for 2 epochs, probably too short" if epochs == 2 else "training was too short, or"
        assert cause in said
        assert not any(words in said for words in PRAISE)


@pytest.mark.parametrize("seed", range(20))
def test_luck_among_many_subsets_is_no_fault(tmp_path, seed):
    """All subsets are as good as the full set, and 200 images are few: the best of 126 is above it."""
    keys = all_subsets(tuple("ABCDEFG"))
    random = np.random.default_rng(seed)
    chance = np.where(random.random(200) < 0.5, 0.95, 0.25)  # of the same images, easy and hard ones
    accuracies = (random.random((len(keys), 200)) < chance).mean(axis=1)
    run = exact(tmp_path / "net", dict(zip(keys, accuracies.tolist(), strict=True)), 200, channels=tuple("ABCDEFG"))
    verdict, _, _ = verdict_of(run)
    assert accuracies[1:].max() > accuracies[0]
    assert not verdict.headline.startswith(WRONG)


def test_a_faulty_run_wins_no_comparison(tmp_path):
    faulty = exact(tmp_path / "faulty", {"R,G,B": 0.54, "R,G": 0.82, "R": 0.80}, 500)
    plain = exact(tmp_path / "plain", {"R,G,B": 0.8, "R,G": 0.4, "R": 0.2}, 500)
    adaptive = exact(tmp_path / "adaptive", {"R,G,B": 0.7, "R,G": 0.6, "R": 0.5}, 500)
    verdict, said, _ = verdict_of(faulty, plain, adaptive)
    assert verdict.headline.startswith(f"{WRONG}faulty: it reaches 82.0\N{NO-BREAK SPACE}%")
    assert "adaptive keeps most accuracy when channels go missing." in said
    assert "faulty keep" not in said
    verdict, said, _ = verdict_of(faulty, plain)
    assert verdict.headline.startswith(f"{WRONG}faulty")
    assert "plain averages 30.0 % when channels are missing, against 80.0 % with all channels." in said
    verdict, said, _ = verdict_of(faulty, exact(tmp_path / "other", {"R,G,B": 0.5, "R,G": 0.9, "R": 0.5}, 500))
    assert said.count(WRONG) == 2
    assert not any(words in said for words in PRAISE)


@pytest.mark.parametrize("gap", [0.3, -0.1])
def test_subsets_of_other_images_are_compared_on_the_images_that_have_every_channel(tmp_path, gap):
    run = exact(tmp_path / "net", {"R,G,B": 0.5, "R": 0.9}, 400)
    path = run / "evaluation/test.json"
    record = json.loads(path.read_text())
    record["subsets"]["R,G,B"]["n"] = 100
    record["gap"] = {"R": {"accuracy": gap, "macro_f1": gap}}
    path.write_text(json.dumps(record))
    verdict, _, _ = verdict_of(run)
    assert verdict.headline.startswith(WRONG) is (gap > 0)


def test_balanced_accuracy_and_macro_f1_are_named_if_classes_are_uneven(tmp_path):
    run = make_run(tmp_path / "rare", classes=2)
    file = run / "evaluation/test.json"
    record = json.loads(file.read_text())
    for figures in record["subsets"].values():
        figures["per_class"][0] |= {"support": 90, "recall": 0.9}
        figures["per_class"][1] |= {"support": 10, "recall": 0.2}
        figures["macro"]["f1"] = 0.53
    file.write_text(json.dumps(record))
    _, said, _ = verdict_of(run)
    assert "Classes are uneven (10 to 90 images). Of rare, balanced accuracy is 55.0 % with all channels, 55.0" in said
    assert "macro F1 is 53.0 % with all channels, 53.0 % on average with channels missing." in said
    _, said, _ = verdict_of(make_run(tmp_path / "even", classes=2))
    assert "balanced" not in said


def watching(folder, monitor, recalls, **record):
    """A run with 90 and 10 test images in two classes, of each subset with these recalls."""
    run = make_run(folder, classes=2, subsets=["R,G,B", "R"], monitor=monitor, **record)
    file = run / "evaluation/test.json"
    kept = json.loads(file.read_text())
    kept["n"] = 100
    for key, (often, rare) in recalls.items():
        matrix = [[round(90 * often), 90 - round(90 * often)], [10 - round(10 * rare), round(10 * rare)]]
        cells = np.array(matrix)
        f1 = 2 * np.diag(cells) / (cells.sum(0) + cells.sum(1))
        rows = [{"class": str(k), "precision": 0.5, "recall": cells[k, k] / cells[k].sum()} for k in (0, 1)]
        rows = [row | {"f1": f1[k], "support": int(cells[k].sum())} for k, row in enumerate(rows)]
        figures = {"n": 100, "accuracy": np.trace(cells) / 100, "confusion": matrix, "per_class": rows}
        kept["subsets"][key] |= figures | {"macro": {"precision": 0.5, "recall": 0.5, "f1": f1.mean()}}
    file.write_text(json.dumps(kept))
    return run


def test_runs_are_ranked_by_the_figure_that_they_watched(tmp_path):
    usual = {"R,G,B": (1.0, 0.4), "R": (1.0, 0.0)}
    fair = {"R,G,B": (0.9, 0.9), "R": (0.8, 0.8)}
    for monitor, first, head in (
        ("val_mean_balanced_accuracy", "fair", "balanced accuracy"),
        ("val_macro_f1", "fair", "macro F1"),
        ("val_mean_accuracy", "usual", "accuracy"),
        ("val_loss", "usual", "accuracy"),
    ):
        home = tmp_path / monitor
        folders = [watching(home / name, monitor, found) for name, found in (("usual", usual), ("fair", fair))]
        (verdict,), _ = judge(led_by_watched(load_runs(folders)))
        assert verdict.standings[0].run.name == first
        said = " ".join([verdict.headline, *verdict.sentences])
        assert ("Runs are ranked by" in said) is (head != "accuracy")
        page = write_report(folders, home / "page.html").read_text(encoding="utf-8")
        assert f"<span>{head[0].upper()}{head[1:]} with</span>" in page
        assert f"Test {head} for each subset (%)" in page
    mixed = [watching(tmp_path / name, name, usual) for name in ("val_macro_f1", "val_accuracy")]
    (verdict,), _ = judge(led_by_watched(load_runs(mixed)))
    assert "val_macro_f1 chose its epoch by macro F1, and not by accuracy." in verdict.sentences
    lossy = [watching(tmp_path / "l" / name, name, usual) for name in ("val_loss", "val_macro_f1")]
    (verdict,), _ = judge(led_by_watched(load_runs(lossy)))
    assert "val_loss chose its epoch by loss, and not by macro F1." in verdict.sentences
    for folder in [*mixed[1:], watching(tmp_path / "val_balanced_accuracy", "val_balanced_accuracy", usual)]:
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(record | {"fold_by": "plot"}))
    folds = led_by_watched(load_runs([mixed[1], tmp_path / "val_balanced_accuracy"]))
    assert {run.headline for run in folds} == {"balanced accuracy"}


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1"])
def test_standard_errors_are_those_of_a_bootstrap_over_images(name):
    cells = np.array([[60, 20, 20], [10, 80, 10], [4, 6, 20]])
    truth, answer = (axis.ravel().repeat(cells.ravel()) for axis in np.indices(cells.shape))
    random, found = np.random.default_rng(0), []
    for _ in range(2000):
        rows = random.integers(0, len(truth), len(truth))
        if name == "balanced_accuracy":  # as many images of each class
            rows = np.concatenate([random.choice(np.flatnonzero(truth == k), (truth == k).sum()) for k in range(3)])
        found.append(recount(truth[rows], answer[rows])[name])
    figures = recount(truth, answer)
    recalls = [each["recall"] for each in figures["per_class"]]
    error = standard_error(name, figures.get(name, 0), len(truth), cells.sum(1).tolist(), recalls, cells.tolist())
    assert error == pytest.approx(np.std(found), rel=0.08)


def recount(truth, answer):
    figures = compute_metrics(truth, np.eye(3)[answer])
    return figures | {"macro_f1": figures["macro"]["f1"]}


def test_labels_are_not_called_classes(tmp_path):
    (verdict,), _ = judge(load_runs([make_run(tmp_path / "one", classes=4)]))
    assert verdict.heading == "pictures, 4 classes, 42 × 42 pixels"
    run = make_run(tmp_path / "net", classes=4, several_labels=True)
    file = run / "evaluation/test.json"
    kept = json.loads(file.read_text())
    for figures in kept["subsets"].values():
        figures |= {"mean_average_precision": figures["accuracy"], "micro_f1": 0.5, "exact_match": 0.5}
        figures["bootstrap_error"] = 0.01
    file.write_text(json.dumps(kept | {"thresholds": [0.5] * 4}))
    (verdict,), _ = judge(load_runs([run]))
    assert verdict.heading == "pictures, 4 labels, 42 × 42 pixels"
