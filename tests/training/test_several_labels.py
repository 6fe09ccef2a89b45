"""Training on images with several labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score
from torch.utils.data import DataLoader, Dataset, TensorDataset

import anychannel as ac
from anychannel.data import DataError
from anychannel.evaluation import evaluate
from anychannel.models import create_model, load_model
from anychannel.nn.temperatures import Temperatures
from anychannel.training import TrainingSettings, fit
from anychannel.training.class_counts import balance_classes, label_weights
from anychannel.training.loss import divergence, label_loss, training_loss
from anychannel.training.metrics import read_metrics
from anychannel.training.state import CHECKPOINT, read_checkpoint, save_checkpoint
from anychannel.training.validation import validate
from tests.helpers.several_labels import CHANNELS, NAMES, make_split

SETTINGS = TrainingSettings(
    epochs=6, batch_size=16, lr=0.05, crop_padding=0, flip=False, device="cpu", precision="fp32"
)


def make_model():
    torch.manual_seed(0)
    options = {"stem": "static", "norm": "shared", "model_options": {"width": 32}}
    return create_model("compact_k7", channels=CHANNELS, num_classes=3, classes=NAMES, **options)


class Tiles(Dataset):
    """Dictionaries with an image and its labels as a multi-hot vector of a type."""

    def __init__(self, split, make=torch.tensor):
        self.split, self.make = split, make

    def __len__(self):
        return len(self.split)

    def __getitem__(self, row):
        return {"image": torch.from_numpy(self.split.images[row]), "label": self.make(self.split.labels[row].tolist())}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = make_model()
    result = fit(model, make_split(96), make_split(40, seed=1), SETTINGS, folder=folder)
    return model, result, folder


def test_the_loss_is_binary_cross_entropy():
    logits, targets = torch.randn(8, 3), (torch.rand(8, 3) > 0.5).float()
    weights = torch.tensor([1.0, 2.0, 5.0])
    plain = replace(SETTINGS, label_smoothing=0.0)
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
    torch.testing.assert_close(training_loss(logits, targets, None, None, plain, weights, several=True), expected)
    smooth = replace(SETTINGS, label_smoothing=0.2)
    expected = F.binary_cross_entropy_with_logits(logits, targets * 0.8 + 0.1)
    torch.testing.assert_close(training_loss(logits, targets, None, None, smooth, several=True), expected)
    assert label_loss(logits, targets).shape == (8,)


def test_the_divergence_is_that_of_each_label():
    logits, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = (each.div(2).sigmoid() for each in (teacher, logits))
    expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean(dim=1)
    torch.testing.assert_close(divergence(logits, teacher, 2.0, several=True), expected)


def test_rare_labels_weigh_more():
    assert label_weights(np.array([10, 50, 0, 100]), 100).tolist() == [9, 1, 1, 1]
    train = make_split(96)
    _, weights = balance_classes(train, replace(SETTINGS, balance="loss"), 3)
    held = train.labels.sum(axis=0)
    assert weights.tolist() == pytest.approx(((96 - held) / held).tolist())


def test_a_network_learns_all_labels_and_its_thresholds(trained):
    model, result, folder = trained
    assert result.monitor == "val_mean_map"
    assert max(row["val_mean_average_precision"] for row in result.rows) > 0.9
    assert "val_accuracy" not in result.rows[0]
    assert len(model.spec.thresholds) == 3
    assert model.spec.thresholds != (0.5,) * 3
    again = load_model(folder)
    assert again.spec.thresholds == model.spec.thresholds
    test = make_split(60, seed=2)
    found = evaluate(again, test)
    assert found.thresholds == model.spec.thresholds
    shares = found.probabilities["R,G,B"]
    with torch.no_grad():
        logits = again(torch.from_numpy(test.images).float(), channels="R,G,B")
    np.testing.assert_allclose(shares, logits.sigmoid(), atol=1e-5)
    figures = found.subsets["R,G,B"]
    assert figures["mean_average_precision"] == pytest.approx(average_precision_score(test.labels, shares))
    assert figures["mean_average_precision"] > 0.9
    given = shares >= np.array(model.spec.thresholds)
    assert figures["micro_f1"] == pytest.approx(f1_score(test.labels, given, average="micro"))
    answers = ac.predict(again, test)
    np.testing.assert_array_equal(answers.labels, given)
    assert evaluate(again, Tiles(test), subsets="R,G,B").subsets["R,G,B"] == figures


def test_validation_agrees_with_scikit_learn(trained):
    model, _, _ = trained
    val = make_split(30, seed=3)
    figures = validate(model, val, batch_size=7, reduced=True)
    with torch.no_grad():
        shares = model.eval()(torch.from_numpy(val.images).float(), channels="R,G,B").sigmoid().numpy()
    assert figures["val_mean_average_precision"] == pytest.approx(average_precision_score(val.labels, shares), abs=1e-6)
    assert figures["val_macro_f1"] == pytest.approx(f1_score(val.labels, shares >= 0.5, average="macro"), abs=1e-6)
    assert figures["val_loss"] == pytest.approx(
        float(F.binary_cross_entropy(torch.from_numpy(shares), torch.from_numpy(val.labels))), abs=1e-5
    )
    assert figures["val_reduced_mean_average_precision"] < figures["val_mean_average_precision"]


@pytest.mark.parametrize("kind", ["floats", "whole numbers", "lists in a loader", "tensors"])
def test_data_sets_of_pytorch_give_vectors_of_labels(kind):
    train, val = make_split(32), make_split(16, seed=1)
    settings = replace(SETTINGS, epochs=1)
    if kind == "tensors":
        data = [TensorDataset(torch.from_numpy(each.images), torch.from_numpy(each.labels)) for each in (train, val)]
    else:
        make = {"floats": torch.tensor, "whole numbers": lambda row: np.array(row, np.int64)}.get(kind, list)
        data = [Tiles(each, make) for each in (train, val)]
    if kind == "lists in a loader":
        data = [DataLoader(each, batch_size=16) for each in data]
    model = make_model()
    result = fit(model, *data, replace(settings, balance="loss" if kind == "tensors" else "none"))
    assert result.monitor == "val_mean_map"
    assert len(model.spec.thresholds) == 3


def test_each_label_may_be_drawn_equally_often():
    result = fit(make_model(), make_split(32), make_split(16, seed=1), replace(SETTINGS, epochs=1, balance="sample"))
    assert np.isfinite(result.rows[0]["train_loss"])


def test_a_loop_of_your_own_chooses_thresholds_after_training(trained, tmp_path):
    model, val = make_model(), make_split(40, seed=1)
    model.load_state_dict(trained[0].state_dict())
    assert model.spec.thresholds is None
    ac.choose_thresholds(model, Tiles(val), reduced=False)
    whole = model.spec.thresholds
    ac.choose_thresholds(model, val, reduced=False)
    assert model.spec.thresholds == pytest.approx(whole, abs=1e-4)
    ac.choose_thresholds(model, val)
    assert model.spec.thresholds == pytest.approx(trained[0].spec.thresholds, abs=1e-4)
    ac.save_model(model, tmp_path)
    assert load_model(tmp_path).spec.thresholds == model.spec.thresholds
    assert ac.adapt(str(tmp_path), channels="R,G").spec.thresholds == model.spec.thresholds
    assert ac.adapt(str(tmp_path), channels="R,G", classes=("dry", "wet")).spec.thresholds is None
    with pytest.raises(ValueError, match="the images have one class each"):
        ac.choose_thresholds(make_model(), replace(val, labels=np.arange(40) % 3))


def test_what_does_not_fit_is_refused(trained):
    val = make_split(16, seed=1)
    with pytest.raises(ValueError, match="monitor 'accuracy' is not measured of images that may have several labels"):
        fit(make_model(), val, val, replace(SETTINGS, monitor="accuracy"))
    with pytest.raises(ValueError, match="'mean_average_precision' is not measured of images of one class each"):
        replace(SETTINGS, monitor="mean_average_precision").watched()
    single = replace(val, labels=np.arange(16) % 3)
    with pytest.raises(ValueError, match="have one class each, but the model gives several labels an image"):
        evaluate(trained[0], single)
    with pytest.raises(ValueError, match="training images may have several labels and validation images not"):
        fit(make_model(), val, single, SETTINGS)
    for data in (val, Tiles(val)):
        with pytest.raises(ValueError, match=r"several labels, but the model gives one class.*choose_thresholds"):
            evaluate(make_model(), data)
    known = make_model()
    known.spec = replace(known.spec, temperatures=Temperatures((1.0, 1.0, 1.0), {}))
    with pytest.raises(ValueError, match="the images may have several labels, but the model gives one class"):
        fit(known, val, val, SETTINGS)
    with pytest.raises(ValueError, match="the teacher's labels an image are one, the student's several"):
        fit(make_model(), val, val, replace(SETTINGS, distill=0.5), teacher=make_model())
    wide = replace(val, labels=np.ones((16, 4), np.float32), classes=None)
    with pytest.raises(ValueError, match="the images have 4 labels, but the model has 3"):
        evaluate(make_model(), wide)
    wrong = replace(val, labels=2 * val.labels)
    with pytest.raises(DataError, match="of several labels an image, give 1"):
        fit(make_model(), Tiles(wrong), Tiles(wrong), SETTINGS)


@pytest.mark.parametrize("several", ["train", "val"])
def test_images_of_several_labels_and_of_one_class_are_not_mixed(several):
    split = make_split(16)
    whole = TensorDataset(torch.from_numpy(split.images), torch.from_numpy(split.labels))
    single = TensorDataset(torch.from_numpy(split.images), torch.zeros(16, dtype=torch.int64))
    train, val = (whole, single) if several == "train" else (single, whole)
    with pytest.raises(ValueError, match="training images may have several labels and validation images not, or"):
        fit(make_model(), train, val, SETTINGS)


def test_a_run_with_the_former_name_of_a_figure_is_read_and_resumed(tmp_path):
    train, val = make_split(32), make_split(16, seed=1)
    settings = replace(SETTINGS, epochs=1)
    fit(make_model(), train, val, settings, folder=tmp_path)
    former, log = "val_mean_mean_average_precision", tmp_path / "metrics.jsonl"
    assert "val_mean_map" in log.read_text()
    log.write_text(log.read_text().replace("val_mean_map", former))
    state = read_checkpoint(tmp_path / CHECKPOINT)
    state["stopping"]["monitor"] = state["settings"]["monitor"] = former
    state["rows"] = [{name.replace("val_mean_map", former): value for name, value in state["rows"][0].items()}]
    save_checkpoint(tmp_path, state)
    assert "val_mean_map" in read_metrics(tmp_path)[0]
    settings = replace(settings, epochs=2, monitor=former)
    assert settings.monitor == "val_mean_map"
    result = fit(make_model(), train, val, settings, folder=tmp_path, resume=True)
    assert [set(row) for row in result.rows] == [set(result.rows[0])] * 2
    assert "mean_mean" not in log.read_text()
