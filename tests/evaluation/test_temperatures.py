"""Temperatures of subsets: fitted on validation images, saved with the model, used for every probability."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import anychannel as ac
from anychannel.channels import ChannelSet
from anychannel.data import Split
from anychannel.evaluation.temperatures import temperature
from anychannel.export.export import describe_export
from anychannel.export.graph import Sizes
from anychannel.nn.temperatures import Temperatures
from anychannel.results.metrics import apply_temperature, expected_calibration_error
from tests.helpers.export_networks import RGB, pixels, tiny


def softmax(logits):
    return torch.as_tensor(logits).softmax(dim=1).numpy()


def draw(count, scale, seed=0):
    """Probabilities whose logits are ``scale`` times those from which the labels are drawn."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits)])
    return softmax(scale * logits).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_a_temperature_has_the_least_loss_of_all(scale):
    probabilities, labels = draw(2000, scale)
    grid = np.geomspace(0.2, 5, 201)
    losses = [-np.log(apply_temperature(probabilities, t)[np.arange(len(labels)), labels]).mean() for t in grid]
    found = temperature(probabilities, labels)
    assert found == pytest.approx(grid[np.argmin(losses)], rel=0.02)
    assert found == pytest.approx(scale, rel=0.1)
    before = expected_calibration_error(labels, probabilities)
    after = expected_calibration_error(labels, apply_temperature(probabilities, found))
    assert after < 0.04
    assert (after < before / 3) == (scale != 1)


def test_a_temperature_that_is_luck_stays_one():
    fitted = [temperature(*draw(60, 1.0, seed)) for seed in range(20)]  # of a network that needs none
    assert fitted.count(1.0) >= 12
    assert sum(temperature(*draw(60, 2.5, seed)) > 1.5 for seed in range(20)) == 20
    probabilities, labels = draw(60, 1.0, fitted.index(1.0))
    images = np.tile(np.arange(60), 40)  # the same images again are no more evidence
    assert temperature(np.tile(probabilities, (40, 1)), np.tile(labels, 40), images) == 1.0


@pytest.mark.parametrize("right", [True, False])
def test_a_few_images_leave_it_near_one_and_extreme_logits_are_no_trouble(right):
    labels = np.arange(6) % 3
    sure = np.full((6, 3), 0.02) + 0.94 * np.eye(3)[labels if right else 2 - labels]
    assert 0.5 < temperature(sure, labels) < 4
    certain = np.eye(3, dtype=np.float32)[2 - labels]
    assert np.isfinite(temperature(certain, labels))


def make_split(model, count=300, seed=0):
    """Images with labels that are half the model's own answers and half at random, so that it is too sure."""
    generator = torch.Generator().manual_seed(seed)
    images = (255 * torch.rand(count, 3, 8, 8, generator=generator)).to(torch.uint8)
    with torch.no_grad():
        own = model(images.float()).argmax(dim=1)
    labels = torch.where(torch.rand(count, generator=generator) < 0.5, own, torch.randint(4, (count,)))
    return Split(images.numpy(), labels.numpy(), tuple(f"{i}.png" for i in range(count)), channels=RGB)


def too_sure():
    model = tiny()
    with torch.no_grad():
        model.backbone[-1].weight *= 50
    return model


def test_a_model_gets_a_temperature_for_each_subset_and_keeps_its_logits(tmp_path):
    model, images = too_sure(), pixels(5, 2)
    split = make_split(model)
    logits = model(images, channels="R,B")
    found = ac.fit_temperatures(model, split)
    assert torch.equal(model(images, channels="R,B"), logits)
    assert found.subsets.keys() == {"R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"}
    assert len(found.sizes) == 3
    assert found.subsets["R,G,B"] > 1.5
    figures = ac.evaluate(model, split).subsets
    for key, one in figures.items():
        assert one["temperature"] == found.subsets[key]
    assert figures["R,G,B"]["ece"] < figures["R,G,B"]["ece_before"] / 2
    plain = ac.evaluate(replace_temperatures(model, None), split).subsets["R,G,B"]
    assert plain["ece"] == pytest.approx(figures["R,G,B"]["ece_before"], abs=1e-5)
    assert plain["accuracy"] == figures["R,G,B"]["accuracy"]
    replace_temperatures(model, found)
    shares = ac.predict(model, images, channels="R,B").probabilities
    np.testing.assert_allclose(shares, softmax(logits.detach() / found.subsets["R,B"]), atol=1e-6)


def replace_temperatures(model, temperatures):
    model.spec = replace(model.spec, temperatures=temperatures)
    return model


def small():
    return ac.create_model("compact_k7", channels=RGB, num_classes=4, model_options={"width": 16}).eval()


def test_they_are_saved_with_the_model_and_one_saved_before_has_none(tmp_path):
    heat = Temperatures((3.0, 2.0, 1.5), {"R,B": 4.0})
    ac.save_model(replace_temperatures(small(), heat), tmp_path / "model")
    assert ac.load_model(tmp_path / "model").spec.temperatures == heat
    images, loaded = pixels(2, 2), ac.load_model(tmp_path / "model")
    shares = [ac.predict(loaded, images, channels=names).probabilities for names in ("R,B", "R,G")]
    raw = [loaded(images, channels=names).detach() for names in ("R,B", "R,G")]
    np.testing.assert_allclose(shares[0], softmax(raw[0] / 4), atol=1e-6)
    np.testing.assert_allclose(shares[1], softmax(raw[1] / 2), atol=1e-6)
    file = tmp_path / "model/model.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in values.items() if key != "temperatures"}))
    assert ac.load_model(tmp_path / "model").spec.temperatures is None
    file.write_text(json.dumps(values | {"temperatures": {"sizes": [0.0]}}))
    with pytest.raises(ValueError, match=r"temperatures lie between 0\.05 and 20"):
        ac.load_model(tmp_path / "model")
    other = ac.adapt(ac.create_model("compact_k7", channels=RGB, num_classes=4), channels="R,G")
    assert other.spec.temperatures is None


def test_exported_files_say_what_to_divide_by():
    model = replace_temperatures(tiny(), Temperatures((3.0, 2.0, 1.5), {"R,B": 4.0}))
    one, every = (describe_export(model, ("B", "R"), Sizes(None), subset=subset) for subset in ("one", "any"))
    assert one["temperature"] == 4.0
    assert json.loads(json.dumps(every["temperature"])) == {"sizes": [3.0, 2.0, 1.5], "subsets": {"R,B": 4.0}}


def test_many_subsets_share_temperatures_by_size():
    channels = ChannelSet(tuple("ABCDEFGH"), mean=(100.0,) * 8, std=(50.0,) * 8)
    model = ac.create_model("compact_k7", channels=channels, num_classes=3, model_options={"width": 16})
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 8), dtype=np.uint8)
    found = ac.fit_temperatures(model, Split(images, np.arange(60) % 3, tuple(map(str, range(60)))))
    assert (len(found.sizes), found.subsets) == (8, {})


def test_a_network_that_keeps_its_answers_to_all_channels_keeps_their_temperature():
    model = tiny("static")
    model.spec = replace(model.spec, temperatures=Temperatures((3.0, 2.0, 1.5), {"R,G,B": 0.5, "R": 4.0}))
    for other in (ac.adapt_unlabelled(model, pixels(8, 3), passes=60), ac.replace_stem(model, "grey")):
        assert {other.spec.temperatures.of(names) for names in (["R", "G", "B"], ["R"], ["G", "B"])} == {0.5}
