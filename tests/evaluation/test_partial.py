"""Evaluation where images lack channels: each subset on the images that have it, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anychannel.data import Split
from anychannel.evaluation import compare, compare_with_dedicated, evaluate, load_evaluation
from anychannel.evaluation.compare import is_correct, pair_rows
from anychannel.models import create_model
from anychannel.results.evaluation import Evaluation
from anychannel.results.metrics import compute_metrics
from tests.helpers.splits import CHANNELS, CLASSES, make_dataset, noise


def lacking(n: int = 24, fill: float = 0.0) -> Split:
    """No image has G and B together; a third has R alone, a third R and G, the others B or everything but G."""
    split = noise(n, dtype=np.float32)
    present = np.zeros((n, 3), dtype=bool)
    present[:, 0] = True
    present[1::3, 1] = True
    present[2::3, 2] = True
    present[5::6, 0] = False
    images = np.where(present[:, :, None, None], split.images, np.float32(fill))
    return replace(split, images=images, present=present)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("compact_k7", channels=CHANNELS, num_classes=3, classes=CLASSES, stem="completion").eval()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_subset_is_measured_on_the_images_that_have_it(model, batch_size):
    split = lacking()
    result = evaluate(model, split, batch_size=batch_size)
    counts = {"R": 20, "G": 8, "B": 8, "R,G": 8, "R,B": 4}
    assert {key: figures["n"] for key, figures in result.subsets.items() if figures["n"]} == counts
    for key in counts:
        names = key.split(",")
        places = [CHANNELS.names.index(name) for name in names]
        rows = [row for row in range(24) if all(split.present[row, place] for place in places)]
        assert result.rows(key).tolist() == rows
        images = torch.from_numpy(split.images[rows][:, places])
        with torch.inference_mode():
            expected = model(images, channels=names).softmax(1).numpy()
        np.testing.assert_allclose(result.probabilities[key], expected, atol=1e-6)
        assert result.subsets[key] == compute_metrics(split.labels[rows], result.probabilities[key], CLASSES)


def test_a_subset_that_no_image_has_is_reported_as_such_and_not_as_zero(model):
    result = evaluate(model, lacking())
    assert result.subsets["G,B"] == {"n": 0, "refused": "no image of the test split has all of G, B"}
    assert result.subsets["R,G,B"]["refused"] == "no image of the test split has all of R, G, B"
    assert set(result.probabilities) == {"R,G", "R,B", "R", "G", "B"}
    assert result.gap == {}
    assert "0 of 24 images have every channel." in result.note
    assert "No image has all of R,G,B / G,B." in result.note
    named = evaluate(model, lacking(), subsets=["G,B", "R"])
    assert named.subsets["G,B"]["n"] == 0
    assert named.subsets["R"]["n"] == 20


@pytest.mark.parametrize("fill", [np.nan, 1e30])
def test_what_stands_in_absent_planes_changes_no_bit(model, fill):
    clean, poisoned = evaluate(model, lacking()), evaluate(model, lacking(fill=fill))
    assert clean.to_dict() == poisoned.to_dict()
    for key, table in clean.probabilities.items():
        np.testing.assert_array_equal(poisoned.probabilities[key], table)


def test_a_gap_is_over_the_images_that_have_every_channel(model):
    split = lacking()
    present = split.present.copy()
    present[::2] = True
    split = replace(split, images=noise(24, dtype=np.float32).images, present=present)
    result = evaluate(model, split)
    whole = split.rows_with((0, 1, 2))
    assert result.subsets["R,G,B"]["n"] == len(whole) < result.subsets["R"]["n"]
    cut = Split(split.images[whole], split.labels[whole], tuple(split.paths[row] for row in whole))
    alone = evaluate(model, cut)
    assert alone.present is None
    for key, figures in alone.gap.items():
        assert result.gap[key] == pytest.approx(figures)


def test_images_of_a_data_set_are_matched_to_the_model_by_name(model):
    """The data set has its channels in another order, and one that the model does not know."""
    split = lacking()
    images = np.concatenate([split.images[:, [2, 0, 1]], np.full_like(split.images[:, :1], np.nan)], axis=1)
    present = np.concatenate([split.present[:, [2, 0, 1]], np.arange(24)[:, None] % 2 > 0], axis=1)
    turned = replace(split, images=images, present=present)
    names = replace(CHANNELS, names=("B", "R", "G", "NIR"), mean=(0,) * 4, std=(1,) * 4, wavelengths_nm=(), kinds=())
    result = evaluate(model, make_dataset(turned, names))
    plain = evaluate(model, split)
    assert result.subsets == plain.subsets
    np.testing.assert_array_equal(result.present, plain.present)


def test_a_saved_evaluation_reads_back_and_a_complete_one_keeps_its_form(model, tmp_path):
    saved = evaluate(model, lacking())
    saved.save(tmp_path)
    loaded = load_evaluation(tmp_path)
    np.testing.assert_array_equal(loaded.present, saved.present)
    assert loaded.to_dict() == saved.to_dict()
    assert loaded.correct("R,B").tolist() == saved.correct("R,B").tolist()
    evaluate(model, noise()).save(tmp_path)
    assert load_evaluation(tmp_path).present is None
    with np.load(tmp_path / "evaluation" / "test_predictions.npz") as arrays:
        assert ",present" not in arrays.files


def record(paths: str, present: list[list[int]] | None, answers: dict[str, list[int]], labels=None) -> Evaluation:
    """An evaluation of channels R and G over two classes, from the classes that it answered."""
    return Evaluation(
        split="test",
        classes=("a", "b"),
        full="R,G",
        subsets={key: {} for key in answers},
        sampled=False,
        note="",
        paths=tuple(paths),
        labels=np.zeros(len(paths), dtype=np.int64) if labels is None else np.array(labels),
        probabilities={key: np.eye(2, dtype=np.float32)[found] for key, found in answers.items()},
        present=None if present is None else np.array(present, dtype=bool),
    )


def test_two_evaluations_are_paired_on_the_images_that_both_answered():
    first = record("abca", [[1, 1], [1, 0], [0, 1], [1, 1]], {"R": [0, 1, 0], "G": [0, 0, 1], "R,G": [0, 1]})
    assert [is_correct(one).tolist() for one in pair_rows(first, first, "R", "G")] == [[True, True], [True, False]]
    second = record("cab", [[0, 1], [1, 1], [1, 0]], {"R": [1, 0]})
    assert [is_correct(one).tolist() for one in pair_rows(first, second, "R", "R")] == [[True, False], [False, True]]
    found = compare(first, second, subset="R")
    assert (found.n, found.only_first, found.only_second) == (2, 1, 1)
    with pytest.raises(ValueError, match="no image was answered by both, of 3 with R and 1 with G; compare subsets"):
        compare(first, record("x", [[0, 1]], {"G": [0]}), subset="R", second_subset="G")
    with pytest.raises(ValueError, match="other labels for the same images"):
        compare(first, record("cab", [[0, 1], [1, 1], [1, 0]], {"R": [1, 0]}, [0, 1, 0]), subset="R")


def test_dedicated_networks_are_compared_on_their_own_images():
    adaptive = record("abc", [[1, 1], [1, 0], [0, 1]], {"R": [0, 1], "G": [0, 0], "R,G": [1]})
    alone = {
        "R,G": [replace(record("a", None, {"R,G": [0]}))],
        "R": [replace(record("ab", None, {"R": [0, 0]}), full="R")],
    }
    table = compare_with_dedicated([adaptive], alone)
    assert [(row.subset, row.n, row.difference) for row in table.rows] == [("R,G", 1, -1.0), ("R", 2, -0.5)]
    assert table.n == 2
    assert table.to_dict()["rows"][0]["n"] == 1
