"""``fit``, ``evaluate``, ``calibrate``, ``predict`` and ``compare`` on PyTorch's data sets and loaders."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

import anychannel as ac
from anychannel.channels import ChannelError
from anychannel.models import ModelFileError, create_model
from anychannel.training import TrainingError, fit
from tests.helpers.torch_data import Dictionaries, Flow, Pairs, write_folder
from tests.helpers.training import CHANNELS, SETTINGS, draw_present, make_model, make_split, plain_model, states_equal

ONE = replace(SETTINGS, epochs=1, sampler="split")
TWO = replace(ONE, epochs=2)
SPLIT, VAL = make_split(48, 1), make_split(20, 2)


@cache
def trained_on_split():
    model = make_model()
    rows = fit(model, SPLIT, VAL, TWO).rows
    return model, rows


def figures(rows, names=("train_loss", "train_accuracy", "val_loss", "val_accuracy")):
    return [[row[name] for name in names] for row in rows]


@pytest.mark.parametrize("kind", ["pairs", "dictionaries", "split", "tensors"])
def test_a_data_set_trains_to_the_weights_of_a_split_of_the_same_images(kind):
    sources = {
        "pairs": (Pairs(48), Pairs(20, 2)),
        "dictionaries": (Dictionaries(48), DataLoader(Dictionaries(20, 2), 7)),
        "split": (Subset(SPLIT, range(48)), VAL),
        "tensors": (TensorDataset(torch.from_numpy(SPLIT.images), torch.from_numpy(SPLIT.labels)), Flow(Pairs(20, 2))),
    }
    model, twin = plain_model(), plain_model()
    expected = fit(twin, SPLIT, VAL, ONE).rows
    rows = fit(model, *sources[kind], ONE).rows
    assert states_equal(model.state_dict(), twin.state_dict())
    np.testing.assert_allclose(figures(rows), figures(expected), rtol=1e-6)


def test_a_loader_keeps_its_batches_and_repeats_with_the_seed():
    def trained(workers=0, seed=0, **options):
        model = make_model(norm="statistics")
        loader = DataLoader(Pairs(50, noisy=True), 12, shuffle=True, num_workers=workers)
        result = fit(model, loader, DataLoader(Pairs(20, 2), 7), replace(TWO, batch_size=128, seed=seed), **options)
        return model.state_dict(), result.rows

    (one, rows), (again, _), (other, _) = trained(), trained(), trained(seed=1)
    assert states_equal(one, again)
    assert not states_equal(one, other)
    assert 0 < rows[0]["val_mean_accuracy"] <= 1
    assert states_equal(trained(workers=1)[0], trained(workers=1)[0])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_on_a_loader_resumes_bitwise(tmp_path, monkeypatch, accumulate):
    from anychannel.training import loop

    settings = replace(TWO, batch_size=6, checkpoint_seconds=0.0, accumulate=accumulate)

    def trained(folder, resume=False):
        model = make_model()
        loader = DataLoader(Pairs(50, noisy=True), 6, shuffle=True, generator=torch.Generator().manual_seed(4))
        fit(model, loader, DataLoader(Pairs(20, 2), 7), settings, folder=tmp_path / folder, resume=resume)
        return model.state_dict()

    whole = trained("whole")
    original, calls = loop.train_step, 0

    class KilledError(Exception):
        pass

    def step(*arguments):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KilledError
        original(*arguments)

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(KilledError):
        trained("killed")
    monkeypatch.setattr(loop, "train_step", original)
    assert states_equal(trained("killed", resume=True), whole)


class Batches(IterableDataset):
    """Makes batches itself, as WebDataset does."""

    def __len__(self):
        return 4

    def __iter__(self):
        pairs = Pairs(48)
        return (next(iter(DataLoader(Subset(pairs, range(start, start + 12)), 12))) for start in range(0, 48, 12))


@pytest.mark.parametrize("norm", ["shared", "statistics"])
def test_a_data_set_that_makes_batches_trains_to_the_weights_of_a_loader(norm):
    states = []
    for loader in (DataLoader(Batches(), batch_size=None), DataLoader(Pairs(48), 12)):
        model = make_model(norm=norm)
        fit(model, loader, VAL, replace(ONE, batch_size=128))
        states.append(dict(model.named_parameters()))
    assert states_equal(*states)
    with pytest.raises(ValueError, match="batch_size=16 has no effect: the DataLoader makes its own batches"):
        fit(make_model(), DataLoader(Batches(), batch_size=None), VAL, ONE)


def test_images_that_lack_channels_train_on_those_that_they_have():
    present = draw_present(48, 1)
    for source in (Dictionaries(48, present=present), DataLoader(Dictionaries(48, present=present), 16, shuffle=True)):
        model = make_model("per_size", norm="statistics")
        result = fit(model, source, Dictionaries(20, 2, present=draw_present(20, 2)), ONE)
        assert result.skipped_steps == 0
        assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_planes_are_matched_by_name():
    class Turned(Pairs):
        def __getitem__(self, row):
            image, label = super().__getitem__(row)
            return image[[2, 0, 1]], label

    straight, turned = make_model(), make_model()
    fit(straight, Pairs(48), Pairs(20, 2), ONE)
    fit(turned, Turned(48), Turned(20, 2), ONE, channels="B,R,G")
    assert states_equal(straight.state_dict(), turned.state_dict())
    one, two = ac.evaluate(straight, Pairs(20, 2)), ac.evaluate(turned, Turned(20, 2), channels=["B", "R", "G"])
    assert one.subsets == two.subsets
    with pytest.raises(ChannelError, match="the training images lack R; the model does not know NIR"):
        fit(straight, Pairs(48), Pairs(20, 2), ONE, channels="NIR,G,B")
    part = ac.evaluate(straight, Turned(20, 2), channels="B,other,G")
    assert set(part.subsets) == {"G,B", "G", "B"}


def test_a_model_of_names_alone_measures_the_data_set():
    torch.manual_seed(0)
    model = create_model("compact_k7", channels="R,G,B", num_classes=4, model_options={"width": 16})
    loader = DataLoader(Pairs(48), 16, shuffle=True)
    with pytest.warns(UserWarning, match="so that fit took mean, standard deviation and correlations"):
        fit(model, loader, Pairs(20, 2), ONE)
    assert model.channels.mean == pytest.approx(ac.measure_channels(Pairs(48), "R,G,B").mean)


def test_classes_are_matched_by_name(tmp_path):
    write_folder(tmp_path)
    data = ImageFolder(tmp_path)
    options = {"channels": CHANNELS, "num_classes": 4, "model_options": {"width": 16}}
    model = create_model("compact_k7", classes=data.classes, **options)
    evaluation = ac.evaluate(model, DataLoader(data, 5, collate_fn=list))
    assert evaluation.classes == tuple(data.classes)
    assert evaluation.paths[0].endswith(".png")
    other = create_model("compact_k7", classes=["ant", "bee", "dog", "cat"], **options)
    for call in (lambda: ac.evaluate(other, data), lambda: fit(other, data, data, ONE)):
        with pytest.raises(ValueError, match=r"have other classes than the model: ant, bee, cat, dog \(4\); the model"):
            call()


def test_evaluation_is_that_of_the_same_images_in_a_split():
    model, _ = trained_on_split()
    expected = ac.evaluate(model, VAL)
    for source in (Pairs(20, 2), DataLoader(Dictionaries(20, 2), 7, num_workers=1), Flow(Pairs(20, 2), sized=False)):
        found = ac.evaluate(model, source, batch_size=6)
        assert found.labels.tolist() == VAL.labels.tolist()
        for key, table in expected.probabilities.items():
            np.testing.assert_allclose(found.probabilities[key], table, atol=1e-5)
    present = draw_present(20, 2)
    partial = ac.evaluate(model, DataLoader(Dictionaries(20, 2, present=present), 7))
    own = ac.evaluate(model, replace(VAL, images=VAL.images.astype(np.float32), present=present))
    assert partial.subsets.keys() == own.subsets.keys()
    assert [row["n"] for row in partial.subsets.values()] == [row["n"] for row in own.subsets.values()]
    assert partial.note == own.note


class Wrapped(nn.Module):
    """A network whose output holds the logits as others' do."""

    def __init__(self, model, wrap):
        super().__init__()
        self.model, self.wrap = model, wrap
        self.channels, self.classes = model.channels, None

    def forward(self, images, channels=None, *, parts=None):
        return self.wrap(self.model(images, channels, parts=parts))


class Output:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "wrap",
    [Output, lambda x: {"logits": x}, lambda x: {"out": x, "aux": x[:, :1]}, lambda x: (x, None)],
    ids=["object", "dictionary", "torchvision", "tuple"],
)
def test_logits_are_found_in_every_kind_of_output(wrap):
    model, _ = trained_on_split()
    found = ac.evaluate(Wrapped(model, wrap), Pairs(20, 2))
    assert found.subsets["R,G"]["accuracy"] == ac.evaluate(model, VAL).subsets["R,G"]["accuracy"]


@pytest.mark.parametrize(
    ("wrap", "kind", "message"),
    [
        (lambda x: {"features": x}, TypeError, "the network returns a dict with features; expected logits"),
        (lambda x: x[:, :, None, None], ValueError, r"shape \(20, 4, 1, 1\), and a classifier \(batch, classes\)"),
        (lambda x: None, TypeError, "the network returns a NoneType; expected logits"),
    ],
)
def test_an_output_without_logits_is_refused(wrap, kind, message):
    with pytest.raises(kind, match=message):
        ac.evaluate(Wrapped(trained_on_split()[0], wrap), Pairs(20, 2))


def test_predictions_need_no_labels():
    model, _ = trained_on_split()
    expected = ac.evaluate(model, VAL)
    images = torch.from_numpy(VAL.images)
    for source in (images, VAL.images, VAL, Pairs(20, 2), DataLoader(TensorDataset(images), 6), list(images)):
        found = ac.predict(model, source, batch_size=8)
        np.testing.assert_allclose(found.probabilities, expected.probabilities["R,G,B"], atol=1e-5)
        assert (found.labels == expected.probabilities["R,G,B"].argmax(1)).all()
        assert found.channels[0] == ("R", "G", "B")
        assert len(found) == 20
    two = ac.predict(model, images[:, [2, 0]], channels="B,R")
    np.testing.assert_allclose(two.probabilities, expected.probabilities["R,B"], atol=1e-5)
    np.testing.assert_allclose(ac.predict(model, VAL, use="R,B").probabilities, two.probabilities, atol=1e-5)
    assert two.top(2)[0][0][1] == pytest.approx(float(two.probabilities[0].max()))
    present = draw_present(20, 2)
    mixed = ac.predict(model, Dictionaries(20, 2, present=present))
    for row in range(20):
        key = CHANNELS.key(np.flatnonzero(present[row]).tolist())
        assert mixed.channels[row] == tuple(key.split(","))
        np.testing.assert_allclose(mixed.probabilities[row], expected.probabilities[key][row], atol=1e-5)
    lacks = int(np.flatnonzero(~present[:, 0])[0])
    with pytest.raises(ChannelError, match=f"image {lacks} has none of the channels R"):
        ac.predict(model, Dictionaries(20, 2, present=present), use="R")


def test_two_models_are_compared_on_a_loader_in_any_order():
    model, _ = trained_on_split()
    fresh = make_model(seed=1)
    loader = DataLoader(Pairs(20, 2), 7, shuffle=True)
    found = ac.compare(fresh, model, loader, subset="R,G", batch_size=8)
    expected = ac.compare(ac.evaluate(fresh, VAL), ac.evaluate(model, VAL), subset="R,G")
    assert found == expected
    with pytest.raises(TypeError, match=r"two evaluations .* or two models and data"):
        ac.compare(fresh, model)
    with pytest.raises(TypeError, match="evaluations have their images already"):
        ac.compare(ac.evaluate(fresh, VAL), model, VAL)


@pytest.mark.parametrize("norm", ["shared", "statistics"])
def test_calibration_takes_a_data_set_or_a_loader(norm):
    options = {"norm": norm}
    by_tensor, by_set, by_loader = (make_model(**options) for _ in range(3))
    ac.calibrate(by_tensor, torch.from_numpy(SPLIT.images), "R,B", batch_size=16)
    ac.calibrate(by_set, Pairs(48), "R,B", batch_size=16)
    assert states_equal(by_tensor.state_dict(), by_set.state_dict())
    ac.calibrate(by_loader, DataLoader(Pairs(48), 16), "R,B")
    batches = make_model(**options)
    ac.calibrate(batches, torch.from_numpy(SPLIT.images).split(16), "R,B")
    assert states_equal(by_loader.state_dict(), batches.state_dict())
    present = draw_present(48, 1)
    ac.calibrate(by_set, Dictionaries(48, present=present), "R,B")
    with pytest.raises(TypeError, match="image_channels names the planes of a Dataset"):
        ac.calibrate(by_set, SPLIT.images, "R,B", image_channels="R,G,B")


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (
            None,
            TypeError,
            r"the training images are a split \(data.train\), or a torch Dataset or .* got None",
        ),
        ("photos", TypeError, "got str"),
        (SPLIT.images, TypeError, "got ndarray"),
        ({"train": Pairs(8), "test": Pairs(8)}, TypeError, "got dict; choose one of its splits, 'train', 'test'"),
        (Pairs(0), ValueError, "the training images are an empty Pairs; give one with images"),
        (DataLoader(Pairs(0), 4), ValueError, "the training images are an empty DataLoader"),
        (Flow(Pairs(8), sized=False), TypeError, "from a Flow without a length, which training needs"),
        (Pairs(1), TrainingError, "training needs at least 2 images"),
    ],
)
def test_data_of_another_kind_are_refused(data, kind, message):
    with pytest.raises(kind, match=message):
        fit(make_model(), data, Pairs(8), ONE)


def test_all_of_a_data_set_is_refused_where_a_split_is_needed():
    data = ac.load_dataset("bands:3", classes=3)
    with pytest.raises(TypeError, match=r"one split of a data set, got all of it; give data.train"):
        fit(make_model(), data, data.val, ONE)
    with pytest.raises(ChannelError, match=r"know their channels .* leave channels out"):
        fit(make_model(), data.train, data.val, ONE, channels="R,G,B")


class Empty(IterableDataset):
    def __iter__(self):
        return iter(())


def test_a_flow_without_images_is_refused():
    with pytest.raises(ValueError, match="the images are an empty Empty; give one with images"):
        ac.evaluate(make_model(), Empty())


WITHOUT_CHANNELS = {
    nn.Conv2d: (TypeError, "got Conv2d"),
    str: (ModelFileError, "resnet18/model.json is missing"),
    type(None): (TypeError, "got NoneType"),
}


@pytest.mark.parametrize("model", [nn.Conv2d(3, 4, 3), "resnet18", None])
def test_a_model_that_knows_no_channels_is_refused(model):
    for call in (
        lambda: fit(model, Pairs(8), Pairs(8)),
        lambda: ac.evaluate(model, Pairs(8)),
        lambda: ac.calibrate(model, Pairs(8), "R"),
    ):
        with pytest.raises(TypeError, match=r"a channel-adaptive network, an nn.Module with channels, got"):
            call()
    error, message = WITHOUT_CHANNELS[type(model)]
    with pytest.raises(error, match=message):
        ac.predict(model, Pairs(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jitter": 0.2}, "jitter=0.2 has no effect: a PyTorch data set augments by its own transforms"),
        ({"crop_padding": 2}, "crop_padding=2 has no effect"),
        ({"vertical_flip": True}, "vertical_flip=1 has no effect: a PyTorch data set augments by its own transforms"),
        ({"batch_size": 64}, "batch_size=64 has no effect: the DataLoader makes batches of 16; leave it out"),
    ],
)
def test_settings_without_effect_on_a_loader_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        fit(make_model(), DataLoader(Pairs(48), 16), Pairs(8), replace(ONE, **{"batch_size": 16} | change))


def test_a_data_set_is_not_augmented_by_fit():
    plain, default = make_model(), make_model()
    fit(plain, Pairs(48), Pairs(20, 2), ONE)
    fit(default, Pairs(48), Pairs(20, 2), replace(ONE, crop_padding=4, flip=True))
    assert states_equal(plain.state_dict(), default.state_dict())


def test_images_of_a_data_set_can_be_mixed():
    plain, mixed = make_model(), make_model()
    fit(plain, Pairs(48), Pairs(20, 2), ONE)
    result = fit(mixed, DataLoader(Pairs(48), ONE.batch_size), Pairs(20, 2), replace(ONE, mixup=0.4, cutmix=1.0))
    assert not states_equal(plain.state_dict(), mixed.state_dict())
    assert 0 <= result.rows[0]["train_accuracy"] <= 1
