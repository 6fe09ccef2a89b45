"""Class weights and balanced sampling, against scikit-learn and PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.utils.data import DataLoader, TensorDataset

from anychannel.data.batches.split import balanced_order
from anychannel.training import TrainingSettings, fit
from anychannel.training.class_counts import class_weights
from anychannel.training.loss import training_loss
from anychannel.utils.processes import Share
from tests.helpers.training import SETTINGS, Killed, make_model, make_split, states_equal

LABELS = np.repeat([0, 1, 3], [70, 23, 4])


def test_class_weights_are_scikit_learns():
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=LABELS)
    weights = class_weights(np.bincount(LABELS))
    assert weights[[0, 1, 3]] == pytest.approx(expected)
    assert weights[2] == 1
    assert weights[LABELS].mean() == pytest.approx(1)


def test_the_weighted_loss_is_pytorchs_up_to_its_divisor():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(9, 4, generator=generator), torch.randint(0, 4, (9,), generator=generator)
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0])
    mine = training_loss(logits, targets, None, None, TrainingSettings(label_smoothing=0.0), weights)
    expected = torch.nn.functional.cross_entropy(logits, targets, weights, reduction="sum") / 9
    torch.testing.assert_close(mine, expected)


def test_every_class_is_drawn_equally_often_and_every_image_of_a_rare_class_as_often_as_any_other():
    order = balanced_order(0, 1, LABELS)
    counts = np.bincount(LABELS[order], minlength=4)
    assert len(order) == len(LABELS)
    assert counts[2] == 0
    assert max(counts[[0, 1, 3]]) - min(counts[[0, 1, 3]]) <= 1
    for label in (0, 1, 3):
        times = np.bincount(order, minlength=len(LABELS))[label == LABELS]
        assert times.max() - times.min() <= 1
    assert np.array_equal(order, balanced_order(0, 1, LABELS))
    assert not np.array_equal(order, balanced_order(0, 2, LABELS))


def test_batches_are_balanced_whatever_the_number_of_processes(train):
    split = replace(train, balanced=True)
    whole = list(split.batches(seed=0, epoch=0, batch_size=12, share=Share()))
    halves = [list(split.batches(seed=0, epoch=0, batch_size=12, share=Share(i, 2))) for i in (0, 1)]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(torch.stack([part.labels for part in parts], 1).flatten(), batch.labels)


@pytest.mark.parametrize("balance", ["loss", "sample"])
def test_a_balanced_training_differs_and_resumes_bitwise(balance, val, tmp_path):
    train = make_split(90, 5)
    rare = np.flatnonzero((train.labels != 0) | (np.arange(90) < 20))
    uneven = replace(train, images=train.images[rare], labels=train.labels[rare], paths=[train.paths[i] for i in rare])
    settings = replace(SETTINGS, epochs=2, balance=balance)

    def kill(row):
        if row["epoch"] == 1:
            raise Killed

    whole, resumed, plain = make_model(), make_model(), make_model()
    fit(whole, uneven, val, settings)
    with pytest.raises(Killed):
        fit(resumed, uneven, val, settings, folder=tmp_path, on_epoch=kill)
    fit(resumed := make_model(), uneven, val, settings, folder=tmp_path, resume=True)
    fit(plain, uneven, val, replace(settings, balance="none"))
    assert states_equal(whole.state_dict(), resumed.state_dict())
    assert not states_equal(whole.state_dict(), plain.state_dict())


def test_images_whose_labels_are_not_known_cannot_be_balanced(train, val):
    class Unknown(torch.utils.data.Dataset):
        def __len__(self):
            return len(train)

        def __getitem__(self, row):
            return train[row]

    once = replace(SETTINGS, epochs=1)
    with pytest.raises(ValueError, match="balance='loss' needs the number of training images of each class"):
        fit(make_model(), Unknown(), val, replace(once, balance="loss"))
    pairs = TensorDataset(torch.from_numpy(train.images), torch.from_numpy(train.labels))
    with pytest.raises(ValueError, match=r"give a DataLoader with torch.utils.data.WeightedRandomSampler"):
        fit(make_model(), DataLoader(pairs, 16), val, replace(once, balance="sample"))
    fit(make_model(), DataLoader(pairs, 16), val, replace(once, balance="loss"))
    with pytest.raises(ValueError, match="unknown balance 'weights'; use one of none, loss, sample"):
        TrainingSettings(balance="weights")
