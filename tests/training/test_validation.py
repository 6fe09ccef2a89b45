"""What validation counts, with all channels and with channels missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from anychannel.channels import ChannelSet
from anychannel.models import create_model
from anychannel.training import TrainingSettings, fit
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
    assert TrainingSettings(sampler="full").watched == "val_accuracy"
    assert TrainingSettings(sampler="split").watched == "val_mean_accuracy"
    assert TrainingSettings(sampler="split", monitor="val_loss").watched == "val_loss"
