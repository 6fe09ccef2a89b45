"""Norm banks and calibration, against norms applied by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet
from anychannel.models import calibrate, create_model, load_model, save_model
from anychannel.models.saving import describe_model, rebuild_model
from anychannel.nn.channel_sampling import Part
from anychannel.nn.subset_batchnorm import (
    NORMS,
    SubsetBatchNorm,
    by_size,
    by_subset,
    find_nearest,
    install_norms,
)
from anychannel.nn.subset_context import subset_context
from tests.reference.models import calibrated_statistics

RGB = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3)


def make(norm: str = "shared", model: str = "compact_k7"):
    return create_model(model, channels=RGB, num_classes=4, norm=norm, stem="completion")


def pixels(batch: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (batch, channels, 16, 16)).float()


def test_a_bank_normalises_each_part_with_its_own_norm():
    bank = SubsetBatchNorm(nn.BatchNorm2d(4), by_subset, ["0", "1"])
    twins = {name: nn.BatchNorm2d(4, momentum=0.5) for name in ("shared", "0", "1")}  # the first batch
    x = torch.randn(10, 4, 3, 3) * torch.arange(1, 11).view(-1, 1, 1, 1)
    parts = [Part((0,), 0, 3), Part((0, 1), 3, 6), Part((1,), 6, 8), Part((0,), 8, 10)]
    with subset_context(parts):
        got = bank(x)
    full = twins["shared"](x[3:6])
    for name in "01":  # whose statistics begin as those of the full set, and go where those go
        twins[name].load_state_dict(twins["shared"].state_dict())
    first = twins["0"](torch.cat([x[0:3], x[8:10]]))
    expected = torch.cat([first[:3], full, twins["1"](x[6:8]), first[3:]])
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(bank.entries["0"].running_mean, twins["0"].running_mean)
    torch.testing.assert_close(bank.shared.running_var, twins["shared"].running_var)


def test_an_image_alone_with_one_value_a_feature_takes_the_running_statistics():
    bank = SubsetBatchNorm(nn.BatchNorm2d(3), by_subset, ["0"])
    bank.entries["0"].running_mean.fill_(2)
    x = torch.randn(5, 3, 1, 1)
    with subset_context([Part((0,), 0, 1), Part((0, 1), 1, 5)]):
        got = bank(x)
    variance = bank.shared.running_var
    mean = 2 * variance.sqrt() + bank.shared.running_mean
    expected = (x[:1] - mean.view(1, 3, 1, 1)) / (variance.view(1, 3, 1, 1) + 1e-5) ** 0.5
    torch.testing.assert_close(got[:1], expected)
    assert bank.entries["0"].training
    assert bank.entries["0"].num_batches_tracked == 0
    torch.testing.assert_close(bank.entries["0"].running_mean, mean)


def test_one_norm_for_all_parts_sees_them_joined():
    bank, twin = SubsetBatchNorm(nn.BatchNorm2d(2), by_size), nn.BatchNorm2d(2)
    x = torch.randn(6, 2, 4, 4)
    with subset_context([Part((0,), 0, 2), Part((0, 1), 2, 6)]):
        torch.testing.assert_close(bank(x), twin(x))


@pytest.mark.parametrize("norm", NORMS)
def test_every_kind_trains_evaluates_saves_and_loads_on_every_subset(norm, tmp_path):
    model = make(norm)
    parts = [Part(subset, 2 * i, 2 * i + 2) for i, subset in enumerate(RGB.subsets())]
    model.train()
    model(pixels(14), parts=parts).square().sum().backward()
    model.eval()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    for subset in RGB.subsets():
        images = pixels(2, len(subset))
        assert torch.equal(model(images, channels=RGB.key(subset)), again(images, channels=RGB.key(subset)))


@pytest.mark.parametrize("norm", NORMS)
def test_a_described_model_is_rebuilt_with_its_banks(norm):
    model = make(norm)
    if norm == "shared":
        calibrate(model, pixels(4, 1), "G")
    rebuilt = rebuild_model(describe_model(model))
    assert rebuilt.state_dict().keys() == model.state_dict().keys()


def test_tied_entries_share_scale_and_shift_wherever_the_model_goes(tmp_path):
    model = make("statistics")
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in make().parameters())
    assert not [name for name in model.state_dict() if "entries" in name and name.endswith(("weight", "bias"))]
    save_model(model, tmp_path)
    for other in (model, copy.deepcopy(model), load_model(tmp_path), model.double()):
        for bank in (module for module in other.modules() if isinstance(module, SubsetBatchNorm)):
            assert len(bank.entries) == 6
            assert all(entry.weight is bank.shared.weight for entry in bank.entries.values())
    bank = SubsetBatchNorm(nn.BatchNorm2d(2), by_subset, ["0"], tied=True)
    x = torch.randn(6, 2, 5, 5)
    with subset_context([Part((0,), 0, 3), Part((0, 1), 3, 6)]):
        bank(x).sum().backward()
    torch.testing.assert_close(bank.shared.bias.grad, torch.full((2,), 150.0))
    expected = (bank.shared.running_mean + x[:3].mean((0, 2, 3))) / 2
    torch.testing.assert_close(bank.entries["0"].running_mean, expected)


def test_subset_norms_hold_what_their_kind_says():
    assert NORMS["subset"].entries(RGB) == ["0_1", "0_2", "1_2", "0", "1", "2"]
    assert NORMS["size"].entries(RGB) == ["size_1", "size_2"]
    counts = {norm: sum(isinstance(m, SubsetBatchNorm) for m in make(norm).modules()) for norm in NORMS}
    assert counts == {"shared": 0, "statistics": 2, "subset": 2, "size": 2, "stem": 1}


def correlated(count, value):
    rows = [[1.0 if i == j else value for j in range(count)] for i in range(count)]
    names = tuple("abcdefg"[:count])
    return ChannelSet(names, mean=(1.0,) * count, std=(1.0,) * count, correlation=rows)


@pytest.mark.parametrize(
    ("channels", "model", "stem", "norm"),
    [
        (correlated(3, 0.4), "compact_k7", "completion", "statistics"),
        (correlated(6, 0.1), "compact_k7", "sliced", "statistics"),
        (correlated(2, 0.9), "compact_k7", "completion", "statistics"),
        (correlated(7, 0.1), "compact_k7", "completion", "shared"),
        (correlated(1, 0.1), "compact_k7", "completion", "shared"),
        (correlated(3, 0.1), "compact_k7", "static", "shared"),
        (correlated(3, 0.1), "compact_k7", "per_size", "shared"),
        (correlated(3, 0.1), "timm/test_vit", "completion", "shared"),
        (RGB, "compact_k7", "completion", "statistics"),
    ],
)
def test_auto_gives_subsets_their_own_statistics_where_they_can_be_counted(channels, model, stem, norm):
    assert create_model(model, channels=channels, num_classes=2, stem=stem).spec.norm == norm


@pytest.mark.parametrize(
    ("norm", "channels", "message"),
    [
        (
            "sized",
            3,
            r"unknown norm 'sized' \(did you mean 'size'\?\); the norms are auto, shared, statistics, subset,",
        ),
        ("statistics", 7, "takes at most 6 channels, got 7; use norm='shared' or norm='size'"),
        ("subset", 7, "takes at most 6 channels, got 7; use norm='shared' or norm='size'"),
    ],
)
def test_a_wrong_kind_or_too_many_subsets_are_refused(norm, channels, message):
    with pytest.raises(ValueError, match=message):
        install_norms(nn.Sequential(nn.BatchNorm2d(2)), norm, ChannelSet(tuple("abcdefg"[:channels])))


def test_a_subset_that_training_never_drew_is_normalised_as_the_full_set():
    model, images = make("statistics").train(), pixels(16)
    for _ in range(50):
        model(images, parts=[Part((0, 1, 2), 0, 8), Part((0, 1), 8, 16)])
    bank = model.backbone.bn1
    for name in ("running_mean", "running_var"):
        values = getattr(bank.shared, name)
        torch.testing.assert_close(getattr(bank.entries["2"], name), values, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(getattr(bank.entries["0_1"], name), values, rtol=1e-2)


def test_first_batches_count_alike_also_after_a_training_goes_on():
    bank, x = SubsetBatchNorm(nn.BatchNorm2d(3), by_subset, ["0"], tied=True), torch.randn(6, 8, 3, 4, 4)
    for number, batch in enumerate(x):
        if number == 3:
            saved, bank = bank.state_dict(), SubsetBatchNorm(nn.BatchNorm2d(3), by_subset, ["0"], tied=True)
            bank.load_state_dict(saved)
        with subset_context([Part((0,), 0, 8)]):
            bank(batch)
    torch.testing.assert_close(bank.entries["0"].running_mean, x.sum(0).mean((0, 2, 3)) / 7)
    assert bank.entries["0"].momentum == 0.1


@pytest.mark.parametrize("tied", [True, False])
def test_statistics_of_a_rare_subset_go_where_the_full_sets_go(tied):
    bank = SubsetBatchNorm(nn.BatchNorm2d(3), by_subset, ["0", "1"], tied=tied)
    for step in range(120):
        full, rare = torch.randn(8, 3, 4, 4), 2 * torch.randn(8, 3, 4, 4) + 7
        both = torch.cat([full, rare])
        learned = both if step < 60 else 3 * both + 10  # as if the layers before had learned
        with subset_context([Part((0, 1), 0, 8), Part((0,) if step < 60 else (1,), 8, 16)]):
            bank(learned)
    entry = bank.entries["0"]  # last drawn before the change
    torch.testing.assert_close(bank.shared.running_mean, torch.full((3,), 10.0), rtol=0, atol=0.5)
    torch.testing.assert_close(entry.running_mean - bank.shared.running_mean, torch.full((3,), 21.0), rtol=0, atol=1.5)
    torch.testing.assert_close(entry.running_var / bank.shared.running_var, torch.full((3,), 4.0), rtol=0.15, atol=0)


def test_two_passes_before_one_backward_pass_are_allowed():
    model = make("statistics").train()
    parts = [Part((0, 1, 2), 0, 3), Part((1,), 3, 5), Part((2,), 5, 6)]
    sum(model(pixels(6), parts=parts).square().sum() for _ in range(2)).backward()


def test_torchs_update_bn_measures_every_subset_that_is_drawn():
    model, images = make("statistics").train(), pixels(32)
    bank = model.backbone.bn1
    nn.init.constant_(bank.entries["0"].running_mean, 1e6)
    update_bn([[images, torch.zeros(32)]] * 40, model)
    with torch.no_grad():
        features = model.stem(model.normalise(images[:, :1], (0,)), (0,))
    expected = features.mean((0, 2, 3))
    torch.testing.assert_close(bank.entries["0"].running_mean, expected, rtol=0.2, atol=0.2)
    assert all(entry.num_batches_tracked for entry in bank.entries.values())


@pytest.mark.parametrize("sizes", [(128, 2), (100, 30)])
def test_batches_of_several_sizes_count_by_their_images(sizes):
    model, images = create_model("compact_k7", channels=RGB, num_classes=2).eval(), pixels(sum(sizes), 1)
    alone, cut = (
        calibrate(copy.deepcopy(model), batches, "G").backbone.bn1.entries["1"]
        for batches in ([images], images.split(sizes))
    )
    torch.testing.assert_close(cut.running_mean, alone.running_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cut.running_var, alone.running_var, rtol=0.02, atol=1e-4)


def test_a_network_without_batch_norm_says_so():
    with pytest.raises(ValueError, match="Sequential has no batch norm that keeps statistics; use norm='shared'"):
        install_norms(nn.Sequential(nn.Conv2d(3, 3, 1)), "size", RGB)


class TestCalibration:
    def test_it_gives_the_subset_the_statistics_of_its_own_images(self):
        model, images = make().eval(), pixels(64, 1)
        calibrate(model, images.split(16), "G")
        bank = model.backbone.bn1
        with torch.no_grad():
            features = model.stem(model.normalise(images, (1,)), (1,))
        torch.testing.assert_close(bank.entries["1"].running_mean, features.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        expected = torch.stack([batch.var((0, 2, 3)) for batch in features.split(16)]).mean(0)
        torch.testing.assert_close(bank.entries["1"].running_var, expected, rtol=1e-4, atol=1e-5)

    def test_every_batch_norm_gets_the_literal_twins_statistics(self):
        model, images = make(model="resnet18").eval(), pixels(24, 2)
        expected = calibrated_statistics(model, list(images.split(8)), "B,R")
        calibrate(model, images.split(8), "B,R")
        entries = [module.entries["0_2"] for module in model.modules() if isinstance(module, SubsetBatchNorm)]
        assert len(entries) == len(expected) == 20
        for entry, (mean, variance) in zip(entries, expected, strict=True):
            torch.testing.assert_close(entry.running_mean, mean, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(entry.running_var, variance, rtol=1e-3, atol=1e-3)

    def test_images_of_all_channels_shift_and_damp_the_statistics_as_the_literal_twin(self):
        model, images = make(model="resnet18").eval(), pixels(24, 3)
        before = model(images[:4])
        expected = calibrated_statistics(model, list(images.split(8)), "B,R", whole=True)
        calibrate(model, images.split(8), "B,R")
        entries = [module.entries["0_2"] for module in model.modules() if isinstance(module, SubsetBatchNorm)]
        assert all(isinstance(entry, nn.BatchNorm2d) for entry in entries)
        for entry, (mean, variance) in zip(entries, expected, strict=True):
            torch.testing.assert_close(entry.running_mean, mean, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(entry.running_var, variance, rtol=1e-2, atol=1e-3)
        assert torch.equal(model(images[:4]), before)
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_images_sorted_by_class_give_what_mixed_ones_give(self):
        brightness = torch.linspace(0.2, 1, 4).repeat_interleave(64)[:, None, None, None]
        ordered = pixels(256, 1) * brightness
        model = make().eval()
        whole, batches, in_turn = (
            calibrate(copy.deepcopy(model), images, "G", batch_size=size).backbone.bn1.entries["1"]
            for images, size in ((ordered, 256), (ordered, 64), (ordered.split(64), 64))
        )
        torch.testing.assert_close(batches.running_var, whole.running_var, rtol=0.1, atol=0)
        assert (in_turn.running_var < 0.8 * whole.running_var).any()
        assert not torch.allclose(in_turn.running_var, whole.running_var, rtol=0.2)

    def test_other_subsets_and_the_weights_stay_as_they_are(self):
        model = make().eval()
        images = {key: pixels(3, len(key.split(","))) for key in ("R,G,B", "R,B", "G")}
        before = {key: model(batch, channels=key) for key, batch in images.items()}
        weights = [parameter.clone() for parameter in model.parameters()]
        calibrate(model, pixels(32, 1), "G")
        for key in ("R,G,B", "R,B"):
            assert torch.equal(model(images[key], channels=key), before[key])
        assert not torch.allclose(model(images["G"], channels="G"), before["G"])
        for parameter in weights:
            assert any(torch.equal(parameter, other) for other in model.parameters())
        assert not model.training

    def test_it_survives_saving_and_can_be_repeated(self, tmp_path):
        model, images = make().eval(), pixels(32, 2)
        calibrate(model, images, "B,R")
        calibrate(model, images[:, :1], ["B"])
        once = model(images[:4], channels="B,R")
        calibrate(model, images, "B,R")
        torch.testing.assert_close(model(images[:4], channels="B,R"), once)
        save_model(model, tmp_path)
        again = load_model(tmp_path)
        assert again.spec.calibrated == ("0_2", "2")
        assert torch.equal(again(images[:4], channels="B,R"), model(images[:4], channels="B,R"))

    @pytest.mark.parametrize("name", ["timm/mobilenetv3_small_050", "timm/tf_efficientnet_lite0"])
    def test_norms_that_hold_an_activation_keep_it(self, name):
        """Three equal channels, so that a subset's features are those of the full set, in both forms of calibration."""
        alike = [[1.0] * 3] * 3
        channels = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3, correlation=alike)
        model = create_model(name, channels=channels, num_classes=4, stem="completion", norm="shared").eval()
        images = torch.randint(0, 256, (16, 1, 64, 64)).float().expand(-1, 3, -1, -1)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.train().momentum = 1.0  # the full set's statistics become those of these images
        with torch.no_grad():
            model(images)
        model.eval()
        whole, subset = (calibrate(copy.deepcopy(model), shown, "R,G") for shown in (images, images[:, :2]))
        expected = subset(images[:, :2], channels="R,G")
        difference = whole(images[:, :2], channels="R,G") - expected
        assert difference.abs().max() < 0.02 * expected.abs().max()

    def test_images_unlike_those_of_training_shift_nothing_where_a_subset_sees_what_all_channels_see(self):
        channels = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3, correlation=[[1.0] * 3] * 3)
        model = create_model("resnet18", channels=channels, num_classes=4, norm="shared").eval()
        foggy = (150 + 60 * torch.rand(16, 1, 16, 16)).expand(-1, 3, -1, -1)
        before = model(foggy[:, :2], channels="R,G")
        calibrate(model, foggy, "R,G")
        torch.testing.assert_close(model(foggy[:, :2], channels="R,G"), before, rtol=2e-2, atol=2e-3)

    def test_statistics_that_harm_held_out_images_are_not_kept(self):
        """The last fifth of the batch has equal channels, of which one says all; in the others it says little."""
        channels = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3, correlation=[[1.0] * 3] * 3)
        model = create_model("compact_k7", channels=channels, num_classes=4, norm="shared").eval()
        images = torch.cat([pixels(32), pixels(8, 1).expand(-1, 3, -1, -1)])
        before = model(images[32:, :1], channels="R")
        with pytest.warns(UserWarning, match="statistics of R take its answers further .* on 8 held-out images"):
            calibrate(model, [images], "R")
        assert torch.equal(model(images[32:, :1], channels="R"), before)
        assert model.spec.calibrated == ("0",)

    def test_the_full_set_can_have_been_calibrated_before(self):
        model, images = make().eval(), pixels(32)
        calibrate(model, images, "R,G,B")
        calibrate(model, images, "R,G")
        assert model.spec.calibrated == ("0_1_2", "0_1")

    @pytest.mark.parametrize("norm", ["shared", "statistics"])
    @pytest.mark.parametrize(
        ("images", "error", "message"),
        [
            (pixels(8, 1), ChannelError, "2"),
            (pixels(1, 2)[:, :, :1, :1], ValueError, "one value, which has no variance; give calibrate more images"),
            (torch.full((8, 2, 16, 16), torch.nan), ValueError, "batch 1 of the images leads to values that are not"),
            (object(), TypeError, "calibrate takes images as a tensor .*not object"),
            ("x", TypeError, "calibrate takes images as a tensor .*not str"),
            ([[pixels(8, 2), torch.zeros(8)]], TypeError, "calibrate takes images as a tensor .*not list"),
            ([], ValueError, "needs images of the subset, got none"),
        ],
    )
    def test_what_is_refused_changes_nothing(self, norm, images, error, message):
        model = make(norm).eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(error, match=message):
            calibrate(model, images, "R,G")
        assert model.state_dict().keys() == before.keys()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert model.spec.calibrated == ()

    def test_images_may_be_numpy_arrays(self):
        model, images = make().eval(), pixels(16, 2)
        theirs = calibrate(copy.deepcopy(model), images.numpy(), "R,G")
        torch.testing.assert_close(
            theirs(images, channels="R,G"), calibrate(model, images, "R,G")(images, channels="R,G")
        )

    def test_it_needs_images_and_one_norm_for_all(self):
        with pytest.raises(ValueError, match="calibrate needs images of the subset, got none"):
            calibrate(make(), [], "G")
        with pytest.raises(
            ValueError, match="norm='size' has no statistics of one subset; calibrate takes norm shared or"
        ):
            calibrate(make("size"), pixels(4, 1), "G")
        with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
            calibrate(make(), pixels(4, 1), "G", batch_size=0)
        vit = create_model(
            "timm/vit_tiny_patch16_224", channels=RGB, num_classes=4, model_options={"img_size": 32, "depth": 1}
        )
        with pytest.raises(ValueError, match="VisionTransformer has no batch norm that keeps"):
            calibrate(vit, pixels(4, 1), "G")


CROWNS = ChannelSet(
    ("R", "G", "B", "height", *(f"h{i}" for i in range(12))),
    mean=(120.0,) * 16,
    std=(60.0,) * 16,
    groups={"camera": "R,G,B", "spectrometer": [f"h{i}" for i in range(12)]},
)


def test_sixteen_channels_of_three_groups_have_statistics_for_each_subset_of_groups():
    model = create_model("compact_k7", channels=CROWNS, num_classes=4)
    assert model.spec.norm == "statistics"
    bank = next(module for module in model.modules() if isinstance(module, SubsetBatchNorm))
    expected = {by_subset(subset) for subset in CROWNS.group_subsets()} - {by_subset(CROWNS.full)}
    assert set(bank.entries) == expected
    assert len(expected) == 6
    sizes = create_model("compact_k7", channels=CROWNS, num_classes=4, norm="size")
    bank = next(module for module in sizes.modules() if isinstance(module, SubsetBatchNorm))
    assert set(bank.entries) == {f"size_{size}" for size in (15, 13, 4, 12, 3, 1)}


def test_a_subset_without_statistics_uses_those_of_its_groups():
    names = ["0_1_2", "3", "0_1_2_3"]  # camera, lidar, both; the full set has six channels
    assert find_nearest((0, 1), names, 6) == "0_1_2"
    assert find_nearest((0, 3), names, 6) == "0_1_2_3"
    assert find_nearest((0, 3), names[:2], 6) is None
    assert find_nearest((0, 1, 3, 4, 5), names, 6) is None
    assert find_nearest((0,), ["0_1", "3"], 4) == "0_1"
    bank = SubsetBatchNorm(nn.BatchNorm2d(2), by_subset, names, tied=True, nearest=6)
    assert bank.choose((1, 2)) is bank.entries["0_1_2"]
    assert bank.choose((0, 1, 3, 4, 5)) is bank.shared
    bank.add("1_2")
    assert bank.choose((1, 2)) is bank.entries["1_2"]
    assert SubsetBatchNorm(nn.BatchNorm2d(2), by_subset, names).choose((1, 2)) is not bank.entries["0_1_2"]


def test_a_network_of_groups_answers_every_subset_and_keeps_its_groups_when_it_is_saved(tmp_path):
    model = create_model("compact_k7", channels=CROWNS, num_classes=4, model_options={"width": 16}).eval()
    for position, norm in enumerate(module for module in model.modules() if isinstance(module, SubsetBatchNorm)):
        for number, entry in enumerate(norm.entries.values()):
            nn.init.constant_(entry.running_mean, 0.1 * number + 0.05 * position)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.channels == CROWNS
    x = pixels(2, 16)
    with torch.no_grad():
        for subset in ("camera", "camera+height", "R,h3", "G,B,height"):
            own = x[:, list(CROWNS.positions(subset))]
            torch.testing.assert_close(loaded(own, channels=subset), model(own, channels=subset))
        plain = model.specialize("R,h3")
        torch.testing.assert_close(plain(x[:, [0, 7]]), model(x[:, [0, 7]], channels="R,h3"), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("planes", [2, 3])
def test_calibration_leaves_modes_and_other_subsets_as_they_were(planes):
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = ac.adapt(theirs.append(nn.Linear(8, 4)), channels="R,G,B", source_channels="imagenet").eval()
    images = torch.randint(0, 256, (64, 3, 12, 12), dtype=torch.uint8)
    before = model(images)
    ac.calibrate(model, images[:, [0, 2, 1][:planes]] if planes == 2 else images, "R,B")
    assert not any(module.training for module in model.modules())
    torch.testing.assert_close(model(images), before)
    model.train()[-1].eval()
    ac.calibrate(model, images[:31], "R,G")
    assert not model[-1].training
    assert all(module.training for module in model[1].modules()), "the batch norms are in training mode again"
