"""Images are matched to a network by the names of channels and classes, and give it statistics if it has none."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import Split, dataset_from_arrays
from anychannel.models import calibrate, create_model
from anychannel.training import fit
from anychannel.utils.processes import Share
from tests.helpers.shard_files import write_shards
from tests.helpers.training import CHANNELS, SETTINGS, draw_present, make_model, make_split, states_equal

CLASSES = ("ant", "bee", "cat", "dog")
ONE = replace(SETTINGS, epochs=1, sampler="split")
SPLITS = ["train"] * 64 + ["val"] * 16 + ["test"] * 16


def coloured(seed: int = 1) -> Split:
    """The task, with channels that can be told apart."""
    split = make_split(96, seed)
    return replace(split, images=split.images // np.array([1, 2, 4], np.uint8)[:, None, None])


def data_in(order: str, classes: tuple[str, ...] = CLASSES, present: np.ndarray | None = None) -> ac.ImageDataset:
    """The same images with their channels in this order."""
    split, places = coloured(), ["RGB".index(name) for name in order]
    found = None if present is None else present[:, places]
    names = np.array(CLASSES)[split.labels]
    options = {"channels": tuple(order), "splits": SPLITS, "classes": classes, "present": found}
    return dataset_from_arrays(split.images[:, places], names, **options)


def named_model(seed: int = 0, **options) -> ac.Classifier:
    torch.manual_seed(seed)
    channels = data_in("RGB").channels
    common = {"num_classes": 4, "classes": CLASSES, "model_options": {"width": 32}}
    return create_model("compact_k7", channels=channels, **common | options)


@pytest.mark.parametrize("order", ["BGR", "GBR"])
@pytest.mark.parametrize("partial", [False, True])
def test_images_in_any_order_train_to_bitwise_the_same_weights(order, partial):
    present = draw_present(96, 3) if partial else None
    straight, turned = named_model(), named_model()
    rows = [
        fit(model, data.train, data.val, replace(ONE, jitter=0.2, crop_padding=2)).rows
        for model, data in ((straight, data_in("RGB", present=present)), (turned, data_in(order, present=present)))
    ]
    assert states_equal(straight.state_dict(), turned.state_dict())
    assert rows[0][0]["val_accuracy"] == rows[1][0]["val_accuracy"]


def test_a_model_evaluates_as_well_as_it_validates_on_splits_in_another_order():
    data, model = data_in("BRG"), named_model()
    rows = fit(model, data.train, data.val, replace(ONE, epochs=4)).rows
    for images in (data.val, replace(data, test=data.val)):
        assert ac.evaluate(model, images).subsets["R,G,B"]["accuracy"] == max(row["val_accuracy"] for row in rows)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_streamed_images_are_matched_too(order, tmp_path):
    write_shards(tmp_path / "shards", {"train": [32, 32], "val": [16], "test": [16]})
    data = ac.load_dataset(f"wds:{tmp_path / 'shards'}", cache_dir=tmp_path / "cache", channels="X,Y,Z")
    names = [data.channels.names[i] for i in order]
    batches = [
        next(stream.batches(seed=0, epoch=0, batch_size=8, share=Share())).images
        for stream in (data.train, data.train.arrange(order))
    ]
    assert torch.equal(batches[0][:, list(order)], batches[1])
    torch.manual_seed(0)
    model = create_model("compact_k7", channels=names, num_classes=len(data.classes), model_options={"width": 16})
    with pytest.warns(UserWarning, match="fit took mean"):
        fit(model, data.train, data.val, ONE)
    assert model.channels.mean == data.channels.select(names).mean


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("RG", "images have the channels R, G, and the model has R, G, B; the training images lack B; create a mod"),
        ("RGBN", r"does not know N; train on data.select\('R,G,B'\), or create a model with channels"),
        ("RGN", "the training images lack B; the model does not know N; create a model with channels=data"),
    ],
)
def test_other_channels_are_refused_by_name_before_the_first_step(order, message):
    split = make_split(48, 1)
    images = np.stack([split.images[:, i % 3] for i in range(len(order))], axis=1)
    named = replace(split, images=images, channels=ChannelSet(tuple(order)))
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ChannelError, match=message):
        fit(model, named, named, ONE)
    assert states_equal(before, model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 3, "classes": None}, r"other classes than the model: ant, .* \(4\); the model has 3 unnamed"),
        ({"num_classes": 5, "classes": None}, "the model has 5 unnamed ones"),
        (
            {"classes": ("ant", "bee", "dog", "cat")},
            r"ant, bee, cat, dog \(4\); the model has ant, bee, dog, c",
        ),
    ],
)
def test_other_classes_are_refused_by_name(change, message):
    data = data_in("RGB")
    with pytest.raises(ValueError, match=message):
        fit(named_model(**change), data.train, data.val, ONE)
    with pytest.raises(ValueError, match=message):
        ac.evaluate(named_model(**change), data.val)


def test_labels_and_planes_of_bare_arrays_are_counted():
    split, model = make_split(48, 1), make_model()
    beyond = replace(split, labels=np.where(np.arange(48) == 7, 9, split.labels))
    with pytest.raises(ValueError, match=r"labels from 0 to 9 \(that of image_7.png, say\), but the model has 4 cl"):
        fit(model, beyond, split, ONE)
    with pytest.raises(ValueError, match="the validation images have labels from -1 to"):
        fit(model, split, replace(split, labels=split.labels - 1), ONE)
    with pytest.raises(ChannelError, match=r"shape of the training images is \(48, 2, 12, 12\), but the model has 3"):
        fit(model, replace(split, images=split.images[:, :2]), split, ONE)


def test_a_model_of_names_alone_takes_the_statistics_of_its_training_images_and_says_so(tmp_path):
    data = data_in("BGR")
    torch.manual_seed(0)
    model = create_model("compact_k7", channels="R,G,B", num_classes=4, model_options={"width": 32})
    message = r"so that fit took mean, standard deviation and correlations from the training images \(R: "
    with pytest.warns(UserWarning, match=message) as said:
        fit(model, data.train, data.val, ONE, folder=tmp_path)
    assert len(said) == 1
    measured = data.channels.select("R,G,B")
    torch.manual_seed(0)
    twin = create_model("compact_k7", channels=measured, num_classes=4, model_options={"width": 32})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(twin, data.train, data.val, ONE)
        fit(model, data.train, data.val, ONE)
    assert model.channels == ac.load_model(tmp_path).channels == measured
    assert states_equal(twin.state_dict(), ac.load_model(tmp_path).state_dict())
    assert model.stem.covariance[0, 1] == pytest.approx(measured.correlation[0][1])


@pytest.mark.filterwarnings("ignore:the model was created without")
def test_statistics_of_bare_arrays_leave_out_planes_that_images_lack():
    split = make_split(48, 1)
    present = draw_present(48, 1)
    images = np.where(present[:, :, None, None], split.images.astype(np.float32), np.float32(1e9))
    model = create_model("compact_k7", channels="R,G,B", num_classes=4, model_options={"width": 16})
    fit(model, replace(split, images=images, present=present), split, ONE)
    expected = [split.images[present[:, i], i].mean() for i in range(3)]
    assert model.channels.mean == pytest.approx(expected, rel=1e-5)


def test_learned_covariances_start_from_the_measured_correlations():
    options = {"stem_options": {"learn_covariance": True}, "model_options": {"width": 16}}
    model = create_model("compact_k7", channels="R,G,B", num_classes=4, **options)
    measured = data_in("RGB").channels
    model.measure(measured)
    torch.testing.assert_close(model.stem.root @ model.stem.root.T, torch.tensor(measured.correlation))


def test_calibration_matches_a_split_by_name():
    straight, turned = named_model(norm="statistics"), named_model(norm="statistics")
    calibrate(straight, data_in("RGB").train, "R,B")
    calibrate(turned, data_in("BGR").train, "B,R")
    assert states_equal(straight.state_dict(), turned.state_dict())
    calibrate(turned, data_in("RGB").select("B,R").train, "R,B")
    assert not states_equal(straight.state_dict(), turned.state_dict())
    with pytest.raises(TypeError, match="of a split without names give its images"):
        calibrate(turned, coloured(), "R,B")


def test_predictions_of_models_with_other_orders_are_compared():
    data = data_in("RGB")
    torch.manual_seed(0)
    other = create_model("compact_k7", channels=data.channels.select("B,G,R"), num_classes=4, classes=CLASSES)
    one, two = ac.evaluate(named_model(), data), ac.evaluate(other, data)
    from anychannel.evaluation import compare

    assert compare(one, two).n == 16
    assert compare(one, two, subset="B,R").second == two.subsets["B,R"]["accuracy"]


def test_resuming_needs_a_folder():
    with pytest.raises(ValueError, match="resume needs the folder"):
        fit(make_model(), make_split(48, 1), make_split(16, 2), ONE, resume=True)


def test_splits_keep_their_names_in_views():
    data = data_in("RGB", present=draw_present(96, 3))
    chosen = data.select("B,R")
    assert chosen.train.channels == chosen.channels == data.channels.select("B,R")
    assert chosen.train.classes == CLASSES
    assert data.train.arrange((2, 0, 1)).channels.names == ("B", "R", "G")
    assert CHANNELS.names == ("R", "G", "B")
