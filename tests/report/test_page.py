from __future__ import annotations

import itertools
import json
import os
import re
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from anychannel.channels import ChannelSet
from anychannel.report import write_report
from anychannel.results.shapley import rank_channels
from tests.helpers.html_reader import read_html, table_rows
from tests.helpers.run_folders import all_subsets, make_run

KEYS = all_subsets(("R", "G", "B"))


def page_of(folders, out, **options):
    path = write_report(folders, out, **options)
    text = path.read_text(encoding="utf-8")
    return read_html(text), text


def section(page, key):
    return page.one("section", id=key)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    home = tmp_path_factory.mktemp("pair")
    runs = [
        make_run(home / "plain", full=0.6, drop=0.2, report_name="task_1/v2", epochs=9),
        make_run(home / "adaptive", full=0.55, drop=0.05, sampler="dropout", epochs=12, stopped_early=True),
    ]
    page, text = page_of(runs, home / "page.html")
    return runs, page, text


def test_the_title_says_what_the_runs_are_about(pair, tmp_path):
    assert pair[1].one("h1").text == "2 runs on pictures"
    page, _ = page_of(pair[0][:1], tmp_path / "one.html")
    assert page.one("head").one("title").text == "plain on pictures"
    page, _ = page_of(pair[0], tmp_path / "named.html", title="A & B")
    assert page.one("h1").text == page.one("head").one("title").text == "A & B"


def test_the_verdict_comes_first_and_names_the_adaptive_run(pair):
    main = pair[1].one("main")
    assert main.all("section")[0].attributes["id"] == "verdict"
    assert section(pair[1], "verdict").one("p", "headline").text.startswith("adaptive keeps most accuracy")


def test_the_training_table_has_the_reports_columns_and_the_runs_figures(pair):
    rows = table_rows(section(pair[1], "training").one("table"))
    assert rows[0][2:] == [
        "# of epochs",
        "Training accuracy (%)",
        "Training loss",
        "Validation accuracy (%)",
        "Validation balanced accuracy (%)",
        "Validation macro F1 (%)",
        "Validation loss",
        "Test accuracy, all channels (%)",
        "Test balanced accuracy (%)",
        "Test macro F1 (%)",
    ]
    for folder, row in zip(pair[0], rows[1:], strict=True):
        best = json.loads((folder / "run.json").read_text())["best"]
        whole = json.loads((folder / "evaluation/test.json").read_text())["subsets"]["R,G,B"]
        figures = [100 * best["train_accuracy"], best["train_loss"], 100 * best["val_accuracy"], best["val_loss"]]
        assert row[6:8] == ["–", "–"]  # of an earlier version
        tested = [100 * value for value in (whole["accuracy"], whole["macro"]["recall"], whole["macro"]["f1"])]
        shown = [float(cell.split()[0]) for cell in row[3:6] + row[8:]]
        assert shown == pytest.approx([*figures, *tested], abs=0.006)


def test_the_original_reports_figures_stand_beside_and_are_called_not_comparable(pair):
    _, page, _ = pair
    plain, adaptive = table_rows(section(page, "training").one("table"))[1:]
    assert plain[2] == "9 best: 9 original report: rep. 12"
    assert "rep. 59.91" in plain[3]
    assert "rep." not in " ".join(adaptive)
    subsets = table_rows(section(page, "subsets").all("table")[0])
    assert "rep. 1.78" in subsets[1][subsets[0].index("R,G")]
    cost = table_rows(section(page, "cost").one("table"))
    assert "rep. 135.889" in cost[1][2]
    for key in ("training", "subsets", "cost"):
        assert "not comparable in absolute terms" in section(page, key).text


def test_every_subset_is_in_the_heat_map_and_its_gap_in_the_gap_table(pair):
    runs, page, _ = pair
    heat, gaps, balanced, macro = (table_rows(table) for table in section(page, "subsets").all("table"))
    assert heat[0] == ["Run", *KEYS]
    assert gaps[0] == ["Run", *KEYS[1:]]
    for folder, shown, gap in zip(runs, heat[1:], gaps[1:], strict=True):
        record = json.loads((folder / "evaluation/test.json").read_text())
        accuracy = [100 * record["subsets"][key]["accuracy"] for key in KEYS]
        assert [float(cell.split()[0]) for cell in shown[1:]] == pytest.approx(accuracy, abs=0.051)
        for rates, name in ((balanced, "recall"), (macro, "f1")):
            values = [100 * record["subsets"][key]["macro"][name] for key in KEYS]
            row = next(row for row in rates[1:] if row[0] == shown[0])
            assert [float(cell) for cell in row[1:]] == pytest.approx(values, abs=0.051)
        differences = [value - accuracy[0] for value in accuracy[1:]]
        assert [float(cell.replace("−", "-")) for cell in gap[1:]] == pytest.approx(differences, abs=0.051)


def test_the_cost_table_gives_both_counts_memory_and_latency(pair):
    row = table_rows(section(pair[1], "cost").one("table"))[2]
    assert row[1:] == [
        "11.1945",
        "136.000",
        "170.000",
        "64 42 × 42 px",
        "2,026",
        "10.06 9.61 to 10.39",
        "5.16 5.12 to 5.18",
    ]


def test_curves_mark_the_best_epoch_and_early_stopping(pair):
    words = [text.text for text in section(pair[1], "curves").all("text")]
    assert words.count("best epoch 9") == 2
    assert sum(word.endswith("(stopped early)") for word in words) == 2
    data = json.loads(section(pair[1], "curves").all("div", "curve")[0].attributes["data-chart"])
    assert len(data["rows"]) == 9


def test_each_subset_has_its_matrix_pairs_and_scores(pair):
    runs, page, _ = pair
    panels = section(page, "classes").all("article")
    assert [panel.attributes["data-subset"] for panel in panels] == KEYS * 2
    record = json.loads((runs[1] / "evaluation/test.json").read_text())["subsets"]["G"]
    panel = next(p for p in panels if p.attributes["aria-label"] == "adaptive, G")
    rows = table_rows(panel.one("table"))
    assert rows[1][0] == "class_00"
    assert rows[1][4] == "50"
    assert [float(cell) for cell in rows[1][1:4]] == pytest.approx(
        [100 * record["per_class"][0][name] for name in ("precision", "recall", "f1")], abs=0.051
    )
    assert rows[-1][0] == "Macro average"
    assert float(rows[-1][3]) == pytest.approx(100 * record["macro"]["f1"], abs=0.051)
    worst = max(
        (count, true, guess)
        for true, line in enumerate(record["confusion"])
        for guess, count in enumerate(line)
        if guess != true
    )
    said = f"class_{worst[1]:02d} taken for class_{worst[2]:02d}: {worst[0]} of 50 ({2 * worst[0]} %)"
    assert said in [item.text for item in panel.all("li")]
    assert str(record["confusion"][0][0]) in [text.text for text in panel.one("svg").all("text")]


def test_gaps_by_number_of_channels_are_over_the_images_that_have_every_channel(tmp_path):
    run = make_run(tmp_path / "run", channels=("A", "B", "C", "D", "E"))
    record = json.loads((run / "evaluation/test.json").read_text())
    for key, gap in record["gap"].items():
        gap["accuracy"] = -0.01 * (4 - key.count(","))
    (run / "evaluation/test.json").write_text(json.dumps(record))
    page = page_of([run], tmp_path / "page.html")[1]
    assert "4 channels" in page
    table = next(table for table in read_html(page).all("table") if "Subset minus full set, by number" in table.text)
    (row,) = table_rows(table)[1:]
    assert [cell.split()[0] for cell in row[1:]] == ["−1.0", "−2.0", "−3.0", "−4.0"]


def test_a_run_that_takes_no_figures_is_reported_all_the_same(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "figures").write_text("in the way")
    with pytest.warns(UserWarning, match=r"page.html is complete, but the figures cannot be written to .*run/figures"):
        write_report([run], tmp_path / "page.html")
    assert "</html>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_file_name_that_is_no_utf_8_is_shown_as_far_as_it_can_be(tmp_path):
    run = make_run(tmp_path / "run", examples=1)
    examples = json.loads((run / "examples.json").read_text(encoding="utf-8"))
    examples["images"][0]["path"] = os.fsdecode(b"caf\xe9.png")
    (run / "examples.json").write_text(json.dumps(examples), encoding="utf-8")
    assert "caf\N{REPLACEMENT CHARACTER}.png" in page_of([run], tmp_path / "page.html")[1]


def test_examples_show_a_picture_a_channel_and_a_prediction_a_subset(pair):
    cards = section(pair[1], "examples").all("article")
    assert len(cards) == 4
    assert [image.attributes["alt"] for image in cards[0].all("img")] == [
        f"class_00, channel {name}" for name in ("R", "G", "B")
    ]
    rows = table_rows(cards[0].one("table"))
    assert rows[1:3] == [["R, G, B", "✓ right: class_00", "50 %"], ["R, G", "✗ wrong: class_01", "50 %"]]


def test_provenance_gives_what_made_each_figure(pair):
    text = section(pair[1], "provenance").text
    for part in ("anychannel train --data pictures --out plain", "abc123", "torch 2.14.1", "f" * 32, "16 min 51 s"):
        assert part in text


def test_figures_are_written_beside_each_run_and_stand_alone(pair):
    for folder in pair[0]:
        written = sorted(path.name for path in (folder / "figures").iterdir())
        assert written == ["accuracy.svg", "confusion.svg", "loss.svg", "subset_accuracy.svg"]
        for path in (folder / "figures").iterdir():
            text = path.read_text(encoding="utf-8")
            ElementTree.fromstring(text)
            assert "var(" not in text


def test_nothing_on_the_page_points_elsewhere(pair):
    _, page, text = pair
    targets = [
        element.attributes[name]
        for element in page.walk()
        for name in ("href", "src", "srcset", "action", "data", "xlink:href")
        if name in element.attributes
    ]
    assert targets
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "url(" not in text


def test_headings_scopes_captions_and_names_are_there(pair):
    page = pair[1]
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("nav")) == 1
    for table in page.all("table"):
        assert table.one("caption").text
        assert all("scope" in head.attributes for head in table.all("th"))
    for drawing in page.all("svg"):
        names = {element.attributes.get("id") for element in drawing.walk()}
        assert set(drawing.attributes["aria-labelledby"].split()) <= names
        assert drawing.one("title").text
        assert drawing.one("desc").text
    ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    levels = [int(e.tag[1]) for e in page.walk() if re.fullmatch("h[1-6]", e.tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


EVIL = "<script>alert('x')</script>\"&"


def test_names_paths_and_commands_are_text_and_never_markup(tmp_path):
    run = make_run(
        tmp_path / "net",
        name=EVIL,
        classes=(EVIL, "</svg><img src=x onerror=alert(1)>", "b", "c"),
        channels=(EVIL.replace(",", ""), "G"),
        dataset=EVIL,
        error=EVIL,
        model=EVIL,
        fingerprint=EVIL,
    )
    (run / "command.txt").write_text(f"anychannel train {EVIL}")
    (run / "config.toml").write_text(f"data = {EVIL}")
    page, text = page_of([run], tmp_path / "page.html", title=EVIL)
    assert EVIL not in text
    assert page.one("h1").text == EVIL
    assert len([script for script in page.all("script") if "type" not in script.attributes]) == 1
    assert not [element for element in page.walk() for name in element.attributes if name.startswith("on")]
    names = json.loads(page.one("script", id="classes-0").children[0])
    assert names[0] == EVIL
    for path in (run / "figures").iterdir():
        assert EVIL not in path.read_text()
        ElementTree.fromstring(path.read_text())


def test_a_refused_subset_is_shown_with_its_reason(tmp_path):
    runs = [make_run(tmp_path / "a", refused={"R": "needs two channels"}), make_run(tmp_path / "b")]
    page, _ = page_of(runs, tmp_path / "page.html")
    heat, gaps = (table_rows(table) for table in section(page, "subsets").all("table")[:2])
    assert heat[1][heat[0].index("R")] == "refused"
    assert gaps[1][gaps[0].index("R")] == "refused"
    assert "a refuses R: needs two channels" in section(page, "subsets").text
    assert "a, R" not in [panel.attributes["aria-label"] for panel in section(page, "classes").all("article")]


def test_unfinished_and_failed_runs_are_listed_with_what_they_have(tmp_path):
    runs = [
        make_run(tmp_path / "done"),
        make_run(tmp_path / "broken", status="failed", error="loss is nan", epochs=3, test=False, cost=False),
        make_run(tmp_path / "young", status="running", epochs=0, test=False, cost=False),
    ]
    page, _ = page_of(runs, tmp_path / "page.html")
    rows = table_rows(section(page, "training").one("table"))
    assert [row[0] for row in rows[1:]] == ["done", "broken failed", "young running"]
    notes = section(page, "verdict").one("ul", "notes").text
    assert "broken failed after 3 of 10 epochs: loss is nan" in notes
    assert "young is still running (0 of 10 epochs so far)" in notes
    assert not (runs[2] / "figures").exists()


def test_missing_pieces_become_plain_sentences(tmp_path):
    run = make_run(tmp_path / "bare", status="running", epochs=0, test=False, cost=False)
    for name in ("environment.json", "command.txt", "config.toml", "metrics.jsonl"):
        (run / name).unlink()
    page, _ = page_of([run], tmp_path / "page.html")
    assert "There is no finished run to judge yet." in section(page, "verdict").text
    assert "No run has test results yet." in section(page, "subsets").text
    assert "No run has cost figures." in section(page, "cost").text
    assert "No epoch was recorded yet." in section(page, "curves").text
    assert "there is no confusion matrix" in section(page, "classes").text
    assert "No run has example images." in section(page, "examples").text
    assert "The command was not recorded." in section(page, "provenance").text


def test_a_record_with_little_more_than_a_status_still_makes_a_page(tmp_path):
    (tmp_path / "run.json").write_text('{"status": "running"}')
    page, _ = page_of([tmp_path], tmp_path / "page.html")
    assert tmp_path.name in section(page, "training").text


def test_many_sampled_subsets_are_grouped_by_size_with_the_full_list_folded_away(tmp_path):
    channels = tuple(f"band_{index}" for index in range(8))
    keys = all_subsets(channels)[::8]
    note = f"{len(keys)} of 255 subsets."
    runs = [
        make_run(tmp_path / n, channels=channels, subsets=keys, note=note, drop=d)
        for n, d in (("a", 0.05), ("b", 0.02))
    ]
    page, _ = page_of(runs, tmp_path / "page.html")
    part = section(page, "subsets")
    sizes, gaps, *folded = (table_rows(table) for table in part.all("table"))
    assert sizes[0] == ["Run", *(f"{size} channels" for size in range(8, 1, -1)), "1 channel"]
    record = json.loads((runs[0] / "evaluation/test.json").read_text())["subsets"]
    values = [100 * figures["accuracy"] for key, figures in record.items() if key.count(",") == 3]
    mean, low, _, high = sizes[1][sizes[0].index("4 channels")].split()
    assert [float(mean), float(low), float(high)] == pytest.approx(
        [sum(values) / len(values), min(values), max(values)], abs=0.051
    )
    assert gaps[0] == ["Run", *(f"{size} channels" for size in range(7, 1, -1)), "1 channel"]
    assert len(part.all("details")) == 3
    assert [row[0] for row in folded[0][1:]] == [
        key.replace(",", ", ") for key in sorted(keys, key=lambda k: -k.count(","))
    ]
    assert note in part.text
    shown = [panel.attributes["data-subset"] for panel in section(page, "classes").all("article")]
    assert len(shown) < 2 * 16
    assert shown[0] == ",".join(channels)


def test_eight_runs_of_fifty_classes_stay_below_six_megabytes(tmp_path):
    runs = [make_run(tmp_path / f"run_{index}", classes=50, examples=8, epochs=30) for index in range(8)]
    begin = time.perf_counter()
    page, text = page_of(runs, tmp_path / "page.html")
    assert len(text.encode()) < 6e6
    assert time.perf_counter() - begin < 60
    assert len(section(page, "classes").all("article")) == 8 * 7
    assert len(section(page, "curves").all("figure")) == 16


def test_cost_against_accuracy_labels_each_run_and_needs_two(pair, tmp_path):
    drawing = section(pair[1], "cost").all("svg")[0]
    assert {"plain", "adaptive"} <= {text.text for text in drawing.all("text")}
    assert len(drawing.all("circle")) == 2
    page, _ = page_of(pair[0][:1], tmp_path / "one.html")
    assert section(page, "cost").all("svg") == []
    assert "if at least two runs have both" in section(page, "cost").text


def test_a_chart_of_one_epoch_keeps_its_labels_apart(tmp_path):
    page, _ = page_of([make_run(tmp_path / "short", epochs=1)], tmp_path / "page.html")
    for drawing in section(page, "curves").all("svg"):
        heights = {text.text: float(text.attributes["y"]) for text in drawing.all("text")}
        words = ("best epoch 1", "training", "validation")
        assert all(abs(heights[a] - heights[b]) >= 12 for a, b in itertools.combinations(words, 2))


def test_skipped_steps_are_counted_and_a_run_without_any_says_nothing(tmp_path):
    runs = [make_run(tmp_path / name, epochs=3) for name in ("smooth", "rough")]
    rows = [json.loads(line) for line in (runs[1] / "metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"skipped_steps": count}) for row, count in zip(rows, (2, 0, 1), strict=True)]
    (runs[1] / "metrics.jsonl").write_text("\n".join(lines))
    page, _ = page_of(runs, tmp_path / "page.html")
    said = [line.text for line in section(page, "curves").all("p", "small")]
    assert said == ["rough: 3 training steps skipped, because the gradients were not finite."]


def test_the_channels_that_matter_are_drawn_ranked_and_summed_up(tmp_path):
    run = make_run(tmp_path / "bands", channels=("R", "G", "B", "NIR"), full=0.8, classes=2)
    path = run / "evaluation/test.json"
    record = json.loads(path.read_text())
    accuracies = {key: 0.9 - 0.3 * ("NIR" not in key) - 0.005 * (3 - key.count(",")) for key in record["subsets"]}
    figures = {key: {"accuracy": value, "macro_f1": value} for key, value in accuracies.items()}
    found = rank_channels(ChannelSet(("R", "G", "B", "NIR")), figures, [50, 50])
    path.write_text(json.dumps(record | {"shapley": found}))
    page, text = page_of([run], tmp_path / "page.html")
    channels = section(page, "channels")
    said = " ".join(channels.text.split()).replace("\N{NO-BREAK SPACE}", " ")
    assert "2 channels come within one point of all 4: R, NIR with 89.0 %, against 90.0 %." in said
    contributions, best = map(table_rows, channels.all("table"))
    assert contributions[1][0] == "NIR"
    assert [row[0] for row in contributions[2:]] == ["R", "G", "B"]
    total = sum(float(row[1].replace("−", "-")) for row in contributions[1:])
    assert total == pytest.approx(100 * (0.9 - 0.5), abs=0.3)
    assert [row[1] for row in best[1:]] == ["NIR", "R, NIR", "all but B", "R, G, B, NIR"]
    assert '<a href="#channels">Channels</a>' in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    assert "contribution of each channel" in (run / "figures" / "shapley_channels.svg").read_text()


def test_runs_whose_evaluation_ranks_no_channel_have_no_such_section(pair):
    assert "Which channels matter" not in pair[2]


def make_fold(folder, fold, accuracy, **options):
    """A run of one fold of a cross-validation, on images of its own."""
    record = {"fold_by": "plot", "fold": fold, "folds": "one cross-validation", "fingerprint": fold * 32}
    return make_run(folder, full=accuracy, **(record | options))


def test_folds_are_summed_up_by_mean_and_standard_deviation(tmp_path):
    runs = [make_fold(tmp_path / f"fold-{fold}", fold, 0.5 + place / 20) for place, fold in enumerate("abc")]
    page, _ = page_of(runs, tmp_path / "page.html")
    assert section(page, "verdict").one("p", "headline").text.startswith("Over 3 folds, accuracy is ")
    assert not page.one("main").all("ul", "notes")
    table = table_rows(section(page, "verdict").all("table")[1])
    assert table[0] == ["Subset", "Accuracy (%)", "Balanced accuracy (%)", "Macro F1 (%)"]
    tests = [json.loads((run / "evaluation/test.json").read_text())["subsets"] for run in runs]
    for row in table[1:-1]:
        key = row[0].replace(", ", ",")
        for cell, name in zip(row[2:], ("recall", "f1"), strict=True):
            values = [100 * test[key]["macro"][name] for test in tests]
            mean, deviation = (float(number) for number in cell.split(" ± "))
            assert mean == pytest.approx(np.mean(values), abs=0.051)
            assert deviation == pytest.approx(np.std(values, ddof=1), abs=0.051)
    assert table[-1][0] == "mean, some missing"
    one, _ = page_of([*runs[:1], make_run(tmp_path / "other")], tmp_path / "one.html")
    assert "folds" not in section(one, "verdict").text  # a single fold is a run like any other


def test_a_run_without_a_test_split_shows_its_validation_images_and_says_so(tmp_path):
    counts = {"train": [9, 5, 5, 5, 1], "val": [50] * 5, "test": [0] * 5}
    run = make_run(tmp_path / "small", num_test=0, class_counts=counts)
    (run / "evaluation/test.json").rename(run / "evaluation/val.json")
    page, _ = page_of([run], tmp_path / "page.html")
    said = section(page, "verdict").text
    assert "small has no test split: its figures are of the validation images" in said
    assert "250 validation images" in said
    assert "Validation accuracy for each subset (%)" in section(page, "subsets").text
    assert not any("Test" in head for head in table_rows(section(page, "training").all("table")[0])[0])
    counts = table_rows(section(page, "training").all("table")[1])
    assert counts[0] == ["Class", "Training", "Validation"]
    assert [row[1] for row in counts[1:]] == ["9", "5", "5", "5", "1"]
