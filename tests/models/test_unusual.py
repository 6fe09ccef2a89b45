"""Networks that are put together unusually, and models in states that are met seldom: nothing goes wrong silently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import Split
from anychannel.models.untrusted import ModelFileError
from anychannel.models.view import as_view
from anychannel.nn.channel_sampling import Part
from anychannel.nn.subset_batchnorm import SubsetBatchNorm, by_subset
from anychannel.nn.subset_context import subset_context

STATISTICS = {"mean": (120.0, 115.0, 104.0), "std": (65.0, 63.0, 66.0)}
CLOSE = ((1.0, 0.8, 0.8), (0.8, 1.0, 0.8), (0.8, 0.8, 1.0))
RGB = ChannelSet(("R", "G", "B"), **STATISTICS, correlation=CLOSE)
UNMEASURED = ChannelSet(("R", "G", "B"), **STATISTICS)
SETTINGS = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32", "crop_padding": 1}


def small(channels=RGB, **options):
    torch.manual_seed(0)
    options = {"stem": "completion", "model_options": {"width": 16}} | options
    return ac.create_model("compact_k7", channels=channels, num_classes=4, **options).eval()


def pixels(channels: int, size: int = 16, batch: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return 255 * torch.rand(batch, channels, size, size, generator=generator)


def split(count: int, channels: int = 3, size: int = 16) -> Split:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return Split(images, random.integers(0, 4, count), tuple(map(str, range(count))))


class Shared(nn.Module):
    """The first layers are attributes and part of a sequence too, through which the images go."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.features = nn.Sequential(self.conv1, self.bn1, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x))


class Gated(nn.Module):
    """Its head is a convolution; its one linear layer is a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.gate, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 8), nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return self.head(x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None]).mean((2, 3))


class HeadFirst(nn.Module):
    """Its head is registered before the layers under it."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.conv1, self.neck = nn.Linear(16, 5), nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(self.conv1(x).mean((2, 3))))


class Untold(HeadFirst):
    """Takes images of one size that nobody would guess."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-1] == 17
        return super().forward(x)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv1(x)).mean((2, 3)))


def test_a_layer_under_two_names_is_replaced_under_both(tmp_path):
    network = Shared().eval()
    model = ac.adapt(network, channels=RGB, source_channels=RGB, norm="statistics")
    assert model.features[0] is model.conv1
    assert isinstance(model.features[1], SubsetBatchNorm)
    images, view = pixels(3), as_view(model).eval()
    torch.testing.assert_close(model(images), network((images - view.mean) / view.std))
    alone = model(images[:, :1], channels="R")
    assert not torch.allclose(alone, model(images), atol=1e-3)
    torch.testing.assert_close(view(images, parts=[Part((0,), 0, 4)]), alone)
    torch.testing.assert_close(model.specialize("R")(images[:, :1]), alone, rtol=1e-4, atol=1e-5)
    ac.save_model(model, tmp_path)
    torch.testing.assert_close(ac.load_model(tmp_path, network=Shared())(images[:, :1], channels="R"), alone)
    ac.export_model(model, tmp_path / "any.pt2", channels="any", format="pt2", image_size=16)
    assert ac.check_export(model, tmp_path / "any.pt2", image_size=16).passed


@pytest.mark.parametrize(("network", "classes"), [(Gated, 5), (HeadFirst, 5), (Own, 4)])
def test_a_network_tells_its_number_of_classes_by_what_it_answers(network, classes):
    model = ac.adapt(network(), channels="R,G,B", source_channels=RGB)
    assert as_view(model).spec.num_classes == classes == model(pixels(3)).shape[1]


def test_a_network_that_tells_nothing_is_asked_to():
    with pytest.raises(ValueError, match="the number of classes of Untold is unknown; set its num_classes"):
        ac.fit(ac.adapt(Untold(), channels="R,G,B", source_channels=RGB), split(8), split(8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_of_ones_own_with_a_new_head_is_loaded_into_a_fresh_one(dtype, tmp_path):
    model = ac.adapt(Own().to(dtype).eval(), channels="R,G,B", source_channels=RGB, num_classes=7)
    assert model(pixels(3)).shape == (4, 7)
    ac.save_model(model, tmp_path)
    again = ac.load_model(tmp_path, network=Own().to(dtype))
    torch.testing.assert_close(again(pixels(3)), model(pixels(3)))


def test_a_classifier_of_fewer_channels_keeps_what_stood_for_the_others(tmp_path):
    correlation = [[1.0 if i == j else 0.8 for j in range(8)] for i in range(8)]
    bands = ChannelSet(tuple(f"b{i}" for i in range(8)), (100.0,) * 8, (50.0,) * 8, correlation)
    model = small(bands)
    with torch.no_grad():
        model.stem.presence.normal_()
    few = ac.adapt(model, channels=bands.select(bands.names[:4]))
    torch.testing.assert_close(few(pixels(4)), model(pixels(4), channels=bands.names[:4]), rtol=1e-4, atol=1e-5)
    ac.save_model(few, tmp_path)
    assert torch.equal(ac.load_model(tmp_path)(pixels(4)), few(pixels(4)))


def test_channels_added_to_a_given_correlation_leave_it_as_it_is(tmp_path):
    model = ac.replace_stem(small(UNMEASURED, stem="static"), "completion", correlation=CLOSE)
    wide = ChannelSet((*UNMEASURED.names, "N"), (*UNMEASURED.mean, 90.0), (*UNMEASURED.std, 60.0))
    wider = ac.with_channels(model, wide, new="zero")
    torch.testing.assert_close(wider(pixels(1), channels="R"), model(pixels(1), channels="R"))
    assert wider.stem.covariance[3].tolist() == [0, 0, 0, 1]
    ac.save_model(wider, tmp_path)
    assert torch.equal(ac.load_model(tmp_path)(pixels(4)), wider(pixels(4)))


def test_a_network_that_folds_positions_into_the_batch_is_trained_and_calibrated():
    model = ac.create_model("timm/levit_128s", channels=RGB, num_classes=4, model_options={"depth": (1, 1, 1)})
    data = split(4, size=224)
    ac.fit(model, data, data, ac.TrainingSettings(**SETTINGS | {"batch_size": 4}))
    images = torch.tensor(data.images).float()
    joined = model(images, parts=[Part((0, 1, 2), 0, 2), Part((0,), 2, 4)])
    apart = [model(images[:2]), model(images[2:, :1], channels="R")]
    torch.testing.assert_close(joined, torch.cat(apart), rtol=1e-4, atol=1e-5)
    ac.calibrate(model, images, "R")


def test_rows_that_cannot_be_told_apart_are_refused():
    bank = SubsetBatchNorm(nn.BatchNorm1d(2), by_subset, ["0"])

    with (
        subset_context([Part((0,), 0, 2), Part((0, 1), 2, 3)]),
        pytest.raises(ValueError, match=r"4 rows for a batch of 3"),
    ):
        bank(torch.zeros(4, 2))


def test_batch_norms_without_statistics_are_left_alone():
    network = Own()
    network.bn = nn.BatchNorm2d(8, track_running_stats=False)
    model = ac.adapt(network, channels=RGB, source_channels=RGB)
    assert model.spec.norm == "shared"
    ac.fit(model, split(32), split(16), ac.TrainingSettings(**SETTINGS))
    with pytest.raises(ValueError, match="no batch norm that keeps statistics, so there is nothing to calibrate"):
        ac.calibrate(model, pixels(3), "R")
    with pytest.raises(ValueError, match="no batch norm that keeps statistics; use norm='shared'"):
        ac.adapt(network, channels=RGB, source_channels=RGB, norm="statistics")


def test_options_that_no_file_can_hold_are_refused_before_training(tmp_path):
    model = ac.create_model("timm/resnet10t", channels=RGB, num_classes=4, model_options={"act_layer": nn.SiLU})
    with pytest.raises(ModelFileError, match=r"model_options act_layer=<class .*SiLU.* cannot be written to model"):
        ac.fit(model, split(32), split(16), ac.TrainingSettings(**SETTINGS), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_training_that_is_resumed_knows_which_channels_it_was_of(tmp_path):
    settings = ac.TrainingSettings(**SETTINGS | {"sampler": "full"})
    for resume in (False, True):
        model = small(stem="masked")
        ac.fit(model, split(32), split(16), settings, folder=tmp_path, resume=resume)
        assert model.stem.trained == (0, 1, 2)
    with pytest.raises(ChannelError, match="was trained on the channel positions"):
        model(pixels(1), channels="R")


def test_parts_are_of_images_in_the_models_order():
    with pytest.raises(ChannelError, match="parts are of images that hold all channels in the model's order, R, G, B"):
        small()(pixels(3), channels="B,G,R", parts=[Part((0, 1, 2), 0, 4)])


def test_a_channel_set_names_channels_too():
    model = small()
    assert torch.equal(model(pixels(2), channels=RGB.select("G,B")), model(pixels(2), channels="G,B"))
    with pytest.raises(ChannelError, match="new channels need statistics"):
        ac.with_channels(model, "R,G,B,NIR")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_normalises_before_it_rounds(dtype):
    channels = ChannelSet(("A", "B"), mean=(60290.3, 290.3), std=(900.0, 5.0))
    model = small(channels, stem="static").to(dtype)
    generator = torch.Generator().manual_seed(0)
    images = torch.tensor(channels.mean).view(1, 2, 1, 1) + torch.tensor(channels.std).view(1, 2, 1, 1) * torch.randn(
        2, 2, 8, 8, generator=generator
    )
    images[0, 0, 0, 0] = 65535
    exact = (images - torch.tensor(channels.mean).view(1, 2, 1, 1)) / torch.tensor(channels.std).view(1, 2, 1, 1)
    for names in (None, "B"):
        shown, expected = (images, exact) if names is None else (images[:, 1:], exact[:, 1:])
        found = model.normalise(shown, model.channels.subset(names))
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype))
    plain = model.specialize("A,B")
    torch.testing.assert_close(plain(images), model(images), rtol=0.05, atol=0.05)


def test_tied_parameters_stay_tied_when_a_state_dict_is_assigned():
    model = small(norm="statistics")
    count = len(list(model.parameters()))
    model.load_state_dict(model.state_dict(), assign=True)
    assert len(list(model.parameters())) == count


def test_a_teacher_that_nothing_is_learned_from_is_refused():
    teacher = small(stem="static", norm="shared")
    with pytest.raises(ValueError, match="a teacher is given, but distill is 0"):
        ac.fit(small(), split(32), split(16), ac.TrainingSettings(**SETTINGS), teacher=teacher)


def test_a_gate_without_a_feature_is_refused():
    with pytest.raises(ValueError, match=r"squeeze-and-excitation of \d+ channels would leave none"):
        ac.create_model(
            "compact_rrdb", channels=RGB, num_classes=4, model_options={"widths": (8, 8, 8, 8), "expansion": 1.0}
        )
