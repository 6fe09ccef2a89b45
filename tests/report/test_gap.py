"""The section on dedicated networks: shown once, in words, figures and a picture."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from anychannel.report import write_report
from anychannel.report.figures import gap_chart
from anychannel.results.run import load_runs
from tests.helpers.html_reader import read_html, table_rows
from tests.helpers.run_folders import make_run, write_gap

ROWS = {"R,G,B": (0.56, 0.004), "R,G": (0.53, -0.011), "G": (0.48, -0.032)}


@pytest.fixture
def seeds(tmp_path):
    runs = [make_run(tmp_path / f"s{seed}", examples=0, seed=seed) for seed in (0, 1)]
    write_gap(runs, ROWS)
    return runs


def read(runs, out):
    return read_html(write_report(runs, out / "page.html").read_text(encoding="utf-8"))


def test_a_comparison_that_runs_share_is_shown_once_with_a_panel_for_each_budget(seeds, tmp_path):
    section = read(seeds, tmp_path).one("section", id="dedicated")
    assert [head.text for head in section.all("h3")] == ["The same passes for each network", "The same passes in all"]
    assert "Mean difference −1.3 points, worst −3.2 (G)." in section.text
    assert "together they cost 3 times as much" in section.text
    assert "s0, s1; 2 seeds, 10 epochs for all subsets, 10 for each dedicated network" in section.text
    assert "3 of 7 evaluated subsets" in section.text


def test_training_that_ended_early_is_said_to(seeds, tmp_path):
    for run in seeds:
        gap = json.loads((run / "gap.json").read_text())
        gap["budgets"]["passes"] |= {"adaptive_epochs_run": [8, 8], "dedicated_epochs_run": [3, 10]}
        (run / "gap.json").write_text(json.dumps(gap))
    text = read(seeds, tmp_path).one("section", id="dedicated").text
    assert "8 of 10 epochs for all subsets, 3 to 10 of 10 for each dedicated network" in text
    assert text.count("That is the maximum: early stopping ended training sooner.") == 1


def test_rows_hold_means_spreads_intervals_and_tests(seeds, tmp_path):
    rows = table_rows(read(seeds, tmp_path).one("section", id="dedicated").all("table")[0])
    assert rows[0] == [
        "Subset",
        "One network for all (%)",
        "Dedicated network (%)",
        "Difference (points)",
        "McNemar's p",
    ]
    assert rows[2][0] == "R, G"
    assert rows[2][1].startswith("53.5")
    assert "± 0.7" in rows[2][1]
    assert rows[2][3].startswith("−1.1")
    assert "−3.1 to +0.9" in rows[2][3]
    assert rows[2][4] == "< 0.001, 0.250"


def test_one_seed_has_no_spread(tmp_path):
    run = make_run(tmp_path / "s0", examples=0)
    write_gap([run], ROWS)
    section = read([run], tmp_path).one("section", id="dedicated")
    assert "one seed" in section.text
    assert "±" not in section.all("table")[0].text


def test_runs_that_were_never_compared_have_no_such_section(tmp_path):
    page = read([make_run(tmp_path / "alone", examples=0)], tmp_path)
    assert not page.all("section", id="dedicated")
    assert "Dedicated" not in page.one("nav").text


def test_the_picture_names_every_subset_and_difference(seeds):
    gap = load_runs(seeds)[0].gaps.budgets["passes"]
    root = ElementTree.fromstring(gap_chart(gap, "key", 900))
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(ROWS) <= set(words)
    assert {"+0.4", "−1.1", "−3.2"} <= set(words)
    circles = [float(element.attrib["cx"]) for element in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert circles == sorted(circles, reverse=True)


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"runs": [], "budgets": {"passes": {"rows": []}}})])
def test_a_damaged_comparison_is_left_out_and_said(seeds, tmp_path, text):
    (seeds[0] / "gap.json").write_text(text)
    page = read(seeds[:1], tmp_path)
    assert not page.all("section", id="dedicated")
    assert "gap.json is damaged and was left out" in page.text
