"""Evaluation on every subset, of a model whose answers are known and of real ones."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import Split
from anychannel.evaluation import choose_subsets, evaluate
from anychannel.models import create_model
from anychannel.results.metrics import compute_metrics
from tests.helpers.splits import CHANNELS, CLASSES, make_dataset, noise


class Reader(nn.Module):
    """Sure of the class that is written in channel R's pixels; without R, sure of class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(0.9)
        self.channels = CHANNELS
        self.classes = CLASSES
        self.spec = SimpleNamespace(num_classes=3)
        self.seen = []

    def forward(self, images, channels):
        assert not self.training
        assert not self.dropout.training
        assert images.dtype == torch.float32
        self.seen.append((tuple(channels), images.clone()))
        logits = torch.zeros(len(images), 3)
        written = images[:, channels.index("R"), 0, 0].long() if "R" in channels else torch.zeros(len(images)).long()
        logits[torch.arange(len(images)), written] = 50.0
        return logits


def make_split(n=9, dtype=np.uint8, wrong=(), order=(0, 1, 2)):
    """Labels 0 1 2 0 1 2 ...; plane R holds the label (0 where ``wrong``), G holds 10 + i and B 100 + i."""
    labels = np.arange(n) % 3
    images = np.zeros((n, 3, 4, 5), dtype=dtype)
    images[:, 0] = np.where(np.isin(np.arange(n), wrong), 0, labels)[:, None, None]
    images[:, 1] = (10 + np.arange(n))[:, None, None]
    images[:, 2] = (100 + np.arange(n))[:, None, None]
    return Split(images[:, list(order)], labels, tuple(f"{i}.png" for i in range(n)))


def small_model(stem="static", **options):
    return create_model("compact_k7", channels=CHANNELS, num_classes=3, stem=stem, **options)


def test_every_subset_is_scored_and_compared_with_the_full_set():
    result = evaluate(Reader(), make_split(wrong=(4, 5)))
    assert list(result.subsets) == ["R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"]
    for key, figures in result.subsets.items():
        assert figures["accuracy"] == pytest.approx(7 / 9 if "R" in key else 1 / 3)
    assert list(result.gap) == ["R,G", "R,B", "G,B", "R", "G", "B"]
    assert result.gap["R,G"] == {"accuracy": 0, "balanced_accuracy": 0, "macro_f1": 0}
    assert result.gap["B"]["accuracy"] == pytest.approx(1 / 3 - 7 / 9)
    f1 = {key: figures["macro"]["f1"] for key, figures in result.subsets.items()}
    assert result.gap["B"]["macro_f1"] == pytest.approx(f1["B"] - f1["R,G,B"])


def test_the_result_reads_as_the_run_folder_wants_it():
    values = evaluate(Reader(), make_split(), split="val").to_dict()
    assert values["split"] == "val"
    assert values["n"] == 9
    assert values["classes"] == ["ant", "bee", "cat"]
    assert values["full"] == "R,G,B"
    assert (values["sampled"], values["note"]) == (False, "")
    assert values["subsets"]["R"]["per_class"][1]["class"] == "bee"
    assert values["subsets"]["G"]["confusion"] == [[3, 0, 0]] * 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_model_is_given_just_the_subsets_channels_in_the_files_units(dtype):
    model, split = Reader(), make_split(dtype=dtype)
    evaluate(model, split)
    for names, images in model.seen:
        planes = [CHANNELS.names.index(name) for name in names]
        np.testing.assert_array_equal(images.numpy(), split.images[:, planes].astype(np.float32))


def test_predictions_do_not_depend_on_the_batch_size():
    model, split = small_model().eval(), noise(n=11)
    whole, pieces = evaluate(model, split), evaluate(model, split, batch_size=4)
    for key, table in whole.probabilities.items():
        assert table.shape == (11, 3)
        assert table.dtype == np.float32
        np.testing.assert_allclose(pieces.probabilities[key], table, atol=1e-5)


def test_predictions_are_those_of_a_plain_forward_pass():
    model, split = small_model("per_size").eval(), noise()
    result = evaluate(model, split, subsets=["G,B"])
    with torch.no_grad():
        logits = model(torch.from_numpy(split.images[:, 1:]).float(), channels="G,B")
    np.testing.assert_allclose(result.probabilities["G,B"], logits.softmax(1).numpy(), atol=1e-5)
    assert result.subsets["G,B"] == compute_metrics(split.labels, result.probabilities["G,B"], list("012"))


def test_named_subsets_alone_are_evaluated_without_a_gap_to_what_was_not():
    result = evaluate(Reader(), make_split(), subsets=["B,R"])
    assert list(result.subsets) == ["R,B"]
    assert result.gap == {}


def test_the_model_comes_back_in_its_former_mode():
    model = small_model().train()
    model.backbone.bn1.eval()
    before = {name: module.training for name, module in model.named_modules()}
    statistics = model.backbone.bn2.running_mean.clone()
    evaluate(model, noise(), subsets="R")
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(model.backbone.bn2.running_mean, statistics)
    assert not model.backbone.fc.weight.is_inference()


def test_the_model_comes_back_in_its_former_mode_after_an_error():
    model = small_model().train()
    with torch.no_grad():
        model.backbone.fc.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="must be finite and between 0 and 1, but image 0 has nan"):
        evaluate(model, noise(), subsets="R")
    assert model.training


def test_bfloat16_stays_close_to_float32():
    model = small_model().eval()
    full, low = (evaluate(model, noise(), subsets="R,G,B", precision=name) for name in ("fp32", "bf16"))
    a, b = full.probabilities["R,G,B"], low.probabilities["R,G,B"]
    assert 0 < np.abs(a - b).max() < 0.05


def test_a_data_sets_channels_are_matched_by_name():
    shuffled = make_dataset(make_split(order=(2, 0, 1)), CHANNELS.select("B,R,G"))
    model = Reader()
    assert evaluate(model, shuffled).to_dict() == evaluate(Reader(), make_split()).to_dict()
    for names, images in model.seen:
        levels = {"R": 0, "G": 10, "B": 100}
        assert [int(value) for value in images[0, :, 0, 0]] == [levels[name] for name in names]


def test_a_data_set_without_some_channels_is_evaluated_on_those_it_has():
    fewer = make_dataset(make_split(order=(1, 0)), CHANNELS.select("G,R"))
    result = evaluate(Reader(), fewer)
    assert list(result.subsets) == ["R,G", "R", "G"]
    assert result.full == "R,G,B"
    assert result.gap == {}
    with pytest.raises(ChannelError, match="unknown channel 'B'; the channels are R, G"):
        evaluate(Reader(), fewer, subsets="B")


def test_channels_that_the_model_does_not_know_are_not_used():
    split = make_split()
    more = replace(split, images=np.concatenate([split.images[:, :1] * 0 + 7, split.images], axis=1))
    result = evaluate(Reader(), make_dataset(more, ChannelSet(("UV", "R", "G", "B"))))
    assert result.to_dict() == evaluate(Reader(), split).to_dict()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            replace(make_split(), images=make_split().images[:, :2]),
            {},
            r"shape of the images is \(9, 2, 4, 5\), but the m",
        ),
        (make_split(0), {}, "the test split is empty"),
        (make_dataset(make_split(0)), {"split": "val"}, "the val split is empty"),
        (make_dataset(make_split()), {"split": "tset"}, "unknown split 'tset'; a data set has train, val, test"),
        (make_dataset(make_split(), ChannelSet(("X", "Y", "Z"))), {}, "knows none; it knows R, G, B"),
        (
            make_dataset(make_split(), classes=("ant", "cat", "bee")),
            {},
            r"other classes than the model: ant, cat, bee \(3\); the model has ant, bee, cat \(3\)",
        ),
        (make_split(), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (make_split(), {"precision": "fp8"}, "unknown precision 'fp8'; use one of auto, bf16, fp32"),
        (make_split(), {"subsets": ["R,Q"]}, "unknown channel 'Q'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Reader(), data, **options)


def test_a_data_set_with_another_number_of_classes_is_refused_although_the_models_are_unnamed():
    with pytest.raises(ValueError, match=r"other classes .* ant, bee \(2\); the model has 3 unnamed ones"):
        evaluate(small_model(), make_dataset(make_split(), classes=("ant", "bee")))


def test_a_subset_that_the_stem_refuses_is_recorded_and_the_others_are_scored():
    model = small_model("masked", stem_options={"trained": [0, 1, 2]})
    result = evaluate(model, noise())
    assert result.subsets["R,G,B"]["n"] == 12
    for key in ("R,G", "R,B", "G,B", "R", "G", "B"):
        assert "was trained on the channel positions (0, 1, 2)" in result.subsets[key]["refused"]
    assert list(result.probabilities) == ["R,G,B"]
    assert result.gap == {}


def test_a_gap_needs_a_full_set_that_was_not_refused():
    result = evaluate(small_model("masked", stem_options={"trained": [0, 1]}), noise())
    assert "refused" in result.subsets["R,G,B"]
    assert result.subsets["R,G"]["n"] == 12
    assert result.gap == {}


def test_a_named_subset_that_the_stem_refuses_is_an_error():
    model = small_model("masked", stem_options={"trained": [0, 1, 2]})
    with pytest.raises(ChannelError, match="was trained on the channel positions"):
        evaluate(model, noise(), subsets=["R,G"])


def test_many_channels_are_sampled_and_the_result_says_so():
    channels = ChannelSet(tuple(f"band{i}" for i in range(9)))
    model = create_model("compact_k7", channels=channels, num_classes=3)
    images = np.random.default_rng(0).integers(0, 255, (4, 9, 8, 8)).astype(np.uint8)
    result = evaluate(model, Split(images, np.array([0, 1, 2, 0]), tuple("abcd")))
    assert result.sampled
    assert result.note.startswith("9 channels have 511 subsets")
    assert len(result.subsets) == len(choose_subsets(channels)[0])
    found = result.shapley["channels"]
    assert (found["exact"], found["orders"], found["n"]) == (False, 8, 4)
    for figure in ("accuracy", "macro_f1"):
        ranking = found[figure]
        assert all(value["standard_error"] >= 0 for value in ranking["values"].values())
        assert None not in [value[kind] for value in ranking["values"].values() for kind in ("adds", "alone")]
        total = sum(value["shapley"] for value in ranking["values"].values())
        assert total == pytest.approx(ranking["full"] - ranking["empty"])


def test_progress_tells_how_far_it_is(capsys):
    evaluate(Reader(), make_split(), progress=True)
    assert capsys.readouterr().out == ""
