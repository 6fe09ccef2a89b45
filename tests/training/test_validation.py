"""What validation counts, with all channels and with channels missing."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch.utils.data import Subset, TensorDataset

from anychannel.channels import ChannelSet
from anychannel.evaluation import evaluate
from anychannel.models import create_model
from anychannel.training import TrainingSettings, fit
from anychannel.training.class_counts import is_uneven
from anychannel.training.validation import MOST_SUBSETS, assign_subsets, validate
from tests.helpers.training import CHANNELS, SETTINGS, make_model


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_figures_are_those_of_each_image_shown_alone(batch_size, val):
    model = make_model("completion").eval()
    figures = validate(model, val, batch_size=batch_size, reduced=True)
    subsets, chosen = assign_subsets(CHANNELS, len(val))
    right = {"val": 0, "val_reduced": 0}
    for image, label, place in zip(val.images, val.labels, chosen, strict=True):
        for name, subset in (("val", (0, 1, 2)), ("val_reduced", subsets[place])):
            shown = torch.from_numpy(image[list(subset)]).float()[None]
            names = [CHANNELS.names[position] for position in subset]
            right[name] += int(model(shown, channels=names).argmax()) == label
    assert figures["val_accuracy"] == right["val"] / len(val)
    assert figures["val_reduced_accuracy"] == right["val_reduced"] / len(val)
    assert figures["val_mean_accuracy"] == (figures["val_accuracy"] + figures["val_reduced_accuracy"]) / 2
    assert figures["val_reduced_loss"] != figures["val_loss"]


@pytest.mark.parametrize(("count", "subsets"), [(1, 1), (2, 2), (3, 6), (5, 30), (6, MOST_SUBSETS), (64, MOST_SUBSETS)])
def test_every_image_shows_one_subset_and_every_subset_as_many_images(count, subsets):
    channels = ChannelSet(tuple(f"band_{number}" for number in range(count)))
    found, chosen = assign_subsets(channels, 300)
    assert len(found) == subsets
    assert all(subset for subset in found)
    assert count == 1 or channels.full not in found
    assert {len(subset) for subset in found} >= {1, max(count - 1, 1)}
    shown = Counter(chosen.tolist())
    assert max(shown.values()) - min(shown.values()) <= 1
    assert np.array_equal(chosen, assign_subsets(channels, 300)[1])


def test_training_with_missing_channels_keeps_the_epoch_that_is_best_with_and_without_them(train, val):
    model = make_model("completion")
    result = fit(model, train, val, replace(SETTINGS, epochs=5, sampler="split"))
    scores = [row["val_mean_accuracy"] for row in result.rows]
    assert result.best_epoch == 1 + scores.index(max(scores))
    again = validate(model, val, batch_size=32, reduced=True)
    assert again["val_mean_accuracy"] == pytest.approx(max(scores))
    assert "val_reduced_accuracy" not in fit(make_model(), train, val, replace(SETTINGS, epochs=1)).rows[0]


def test_a_single_channel_cannot_be_missing(train, val):
    first = (replace(split, images=split.images[:, :1]) for split in (train, val))
    channels = ChannelSet(("R",), mean=(100.0,), std=(40.0,))
    model = create_model("compact_k7", channels=channels, num_classes=4, model_options={"width": 16})
    row = fit(model, *first, replace(SETTINGS, epochs=1, sampler="split")).rows[0]
    assert row["val_reduced_accuracy"] == row["val_accuracy"] == row["val_mean_accuracy"]


def test_a_figure_that_training_does_not_make_cannot_be_watched():
    with pytest.raises(ValueError, match="'val_mean_accuracy' is about missing channels, which sampler 'full' never"):
        TrainingSettings(sampler="full", monitor="val_mean_accuracy")
    assert TrainingSettings(sampler="full").watched() == "val_accuracy"
    assert TrainingSettings(sampler="split").watched() == "val_mean_accuracy"
    assert TrainingSettings(sampler="split", monitor="val_loss").watched() == "val_loss"


@pytest.mark.parametrize("batch_size", [3, 64])
def test_balanced_accuracy_and_macro_f1_are_scikit_learns(batch_size, val):
    kept = np.flatnonzero((val.labels != 3) & ((val.labels != 1) | (np.arange(len(val)) < 20)))  # one class is absent
    uneven = replace(val, images=val.images[kept], labels=val.labels[kept], paths=[val.paths[i] for i in kept])
    model = make_model("completion").eval()
    figures = validate(model, uneven, batch_size=batch_size, reduced=True)
    evaluation = evaluate(model, uneven, subsets="R,G,B")
    answers = evaluation.probabilities["R,G,B"].argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class without images
        balanced = balanced_accuracy_score(uneven.labels, answers)
    macro = f1_score(uneven.labels, answers, labels=range(4), average="macro", zero_division=0)
    assert figures["val_balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)
    assert figures["val_macro_f1"] == pytest.approx(macro, abs=1e-12)
    for name in ("balanced_accuracy", "macro_f1"):
        mean = (figures[f"val_{name}"] + figures[f"val_reduced_{name}"]) / 2
        assert figures[f"val_mean_{name}"] == pytest.approx(mean)


def test_uneven_classes_are_watched_by_balanced_accuracy(train, val):
    two_epochs = replace(SETTINGS, epochs=2)
    order = np.argsort(train.labels, kind="stable")
    even = np.concatenate([order[train.labels[order] == label][:8] for label in range(4)])
    uneven = np.concatenate([even, order[train.labels[order] == 0][8:16]])
    for rows, monitor in ((even, "val_accuracy"), (uneven, "val_balanced_accuracy")):
        images, labels = train.images[rows], train.labels[rows]
        split = replace(train, images=images, labels=labels, paths=[train.paths[row] for row in rows])
        pairs = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
        for given in (split, pairs, Subset(pairs, range(len(pairs)))):
            result = fit(make_model(), given, val, two_epochs)
            scores = [row[monitor] for row in result.rows]
            assert (result.monitor, result.best_epoch) == (monitor, 1 + scores.index(max(scores)))
    by_f1 = replace(SETTINGS, epochs=1, sampler="split", monitor="macro_f1")
    chosen = fit(make_model("completion"), train, val, by_f1)
    assert chosen.monitor == "val_mean_macro_f1"


def test_classes_are_uneven_beyond_one_and_a_half_times():
    assert not is_uneven(np.array([30, 20, 0]))
    assert is_uneven(np.array([31, 20]))
    assert not is_uneven(np.array([5]))
    assert not is_uneven(None)
