"""Test-time augmentation against the mean over images that are flipped by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import anychannel as ac
from anychannel.evaluation.flips import averaged_over_flips
from tests.helpers.training import make_model, make_split

VIEWS = {"hflip": [(), (3,)], "vflip": [(), (2,)], "hflip,vflip": [(), (3,), (2,), (3, 2)]}


@pytest.mark.parametrize("tta", VIEWS)
def test_evaluate_and_predict_answer_with_the_mean_logits_over_the_flips(tta):
    model, split = make_model("completion").eval(), make_split(10, 1)
    images = torch.from_numpy(split.images).float()
    with torch.inference_mode():
        logits = torch.stack([model(images.flip(view)[:, :2], channels="R,G") for view in VIEWS[tta]]).mean(0)
    expected = logits.softmax(1).numpy()
    found = ac.evaluate(model, split, subsets="R,G", tta=tta)
    np.testing.assert_allclose(found.probabilities["R,G"], expected, atol=1e-5)
    assert "mirror images (" in found.note
    np.testing.assert_allclose(ac.predict(model, images, use="R,G", tta=tta).probabilities, expected, atol=1e-5)
    plain = ac.evaluate(model, split, subsets="R,G")  # the model is left as it was
    assert np.abs(plain.probabilities["R,G"] - expected).max() > 1e-6


def test_an_unknown_flip_is_named():
    with pytest.raises(ValueError, match=r"unknown flip 'rotate' for test-time augmentation; use hflip, vflip or both"):
        ac.evaluate(make_model(), make_split(4, 1), tta="hflip,rotate")


def test_no_flip_changes_nothing():
    model = make_model().eval()
    with averaged_over_flips(model, None), averaged_over_flips(model, ""):
        assert not model._forward_hooks
