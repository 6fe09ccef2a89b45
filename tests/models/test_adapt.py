"""Trained networks made channel-adaptive: timm's families, saved classifiers, a user's own module."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import pytest
import timm
import torch
from torch import nn

from anychannel.channels import ChannelSet
from anychannel.models import PretrainedError, adapt, calibrate, create_model, load_model, replace_stem, save_model

SMALL = {
    "resnet10t": (32, {}),
    "convnext_atto": (32, {}),
    "test_efficientnet": (32, {}),
    "tf_efficientnet_lite0": (33, {}),
    "mobilenetv4_conv_small_035": (32, {}),
    "regnetx_002": (32, {}),
    "densenet121": (32, {"growth_rate": 4, "block_config": (2, 2, 2, 2)}),
    "vgg11": (32, {"mlp_ratio": 0.01}),
    "vit_tiny_patch16_224": (32, {"img_size": 32, "depth": 2}),
    "swin_tiny_patch4_window7_224": (
        32,
        {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)},
    ),
    "fastvit_t8": (32, {"layers": (1, 1, 1, 1)}),
    "repvgg_a0": (32, {}),
    "test_nfnet": (32, {}),
    "levit_128s": (224, {"depth": (1, 1, 1)}),
}
FAMILIES = list(SMALL)
BANDS = "B,NIR,R,G"


def images(channels: int, size: int = 32, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, channels, size, size), generator=torch.Generator().manual_seed(1)).float()


def unsettle(network: nn.Module) -> nn.Module:
    """Norm statistics and scales as training leaves them, so that nothing is one or zero by accident."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if "channel_input." in name or name.endswith("stem.offset"):
                continue
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_((0.1 * torch.randn(tensor.shape, generator=generator)).abs())
            elif tensor.ndim > 1 and not tensor.any():
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            assert torch.isfinite(tensor).all(), name
    return network.eval()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A timm network with its weights in a file, as a user has a checkpoint."""
    size, options = SMALL[request.param]
    torch.manual_seed(0)
    network = unsettle(timm.create_model(request.param, num_classes=5, **options))
    file = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    torch.save({"state_dict": network.state_dict()}, file)
    return request.param, size, options, network, file


def adapted(family, channels, **options):
    name, _, model_options, _, file = family
    return adapt(f"timm/{name}", channels=channels, checkpoint=file, model_options=model_options, **options)


def as_timm_sees(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Logits of timm's own preprocessing and network for 8-bit pixels."""
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return network((pixels / 255 - mean) / std)


def assert_close(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert ((got - expected).abs().max() / expected.abs().max()).item() < tolerance


class TestTimmFamilies:
    def test_on_all_of_rgb_it_gives_timms_logits_in_any_order_of_the_channels(self, family):
        network, pixels = family[3], images(3, family[1])
        expected = as_timm_sees(network, pixels)
        assert expected.std() > 1e-4
        model = adapted(family, "R,G,B")
        with torch.no_grad():
            assert_close(model(pixels), expected)
            assert_close(model(pixels[:, [2, 0, 1]], channels="B,R,G"), expected)

    def test_its_answers_are_finite_it_trains_is_saved_and_specialised(self, family, tmp_path):
        model, size = adapted(family, BANDS, num_classes=3, classes=["a", "b", "c"]), family[1]
        with torch.no_grad():
            for subset in model.channels.subsets([1, 4]):
                logits = model(images(len(subset), size, 1), channels=model.channels.key(subset))
                assert logits.shape == (1, 3)
                assert torch.isfinite(logits).all()
        save_model(model, tmp_path)
        again = load_model(tmp_path)
        pixels = images(2, size)
        expected = model(pixels, channels="NIR,R").detach()
        assert torch.equal(again(pixels, channels="NIR,R"), expected)
        with torch.no_grad():
            assert_close(torch.as_tensor(quiet_specialize(model, "NIR,R")(pixels)), expected)
        model.train()
        model(images(4, size)).logsumexp(1).sum().backward()
        for name, parameter in model.stem.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def quiet_specialize(model, channels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # not every network can be traced
        return model.specialize(channels)


THIRTEEN = tuple(f"B{i:02d}" for i in range(1, 14))


@pytest.fixture(scope="module")
def thirteen_band_file(tmp_path_factory):
    """A foreign checkpoint: a timm ResNet trained on 13 bands and 6 classes, saved by its own training script."""
    torch.manual_seed(1)
    network = unsettle(timm.create_model("resnet10t", in_chans=13, num_classes=6))
    file = tmp_path_factory.mktemp("foreign") / "model.pt"
    torch.save({"model": {f"module.{name}": value for name, value in network.state_dict().items()}}, file)
    return file, network


class TestThirteenBands:
    """A checkpoint of 13 bands goes into 13, 4 and 3 bands by name."""

    source = ChannelSet(THIRTEEN, mean=tuple(range(900, 2200, 100)), std=(500.0,) * 13)

    def adapt(self, file, channels, **options):
        return adapt("timm/resnet10t", channels=channels, checkpoint=file, source_channels=self.source, **options)

    def test_all_thirteen_in_any_order_give_the_networks_logits(self, thirteen_band_file):
        file, network = thirteen_band_file
        pixels = 3000 * torch.rand(2, 13, 32, 32)
        mean, std = (torch.tensor(values).view(1, 13, 1, 1) for values in (self.source.mean, self.source.std))
        with torch.no_grad():
            expected = network((pixels - mean) / std)
            assert_close(self.adapt(file, THIRTEEN)(pixels), expected)
            assert_close(self.adapt(file, THIRTEEN[::-1])(pixels.flip(1)), expected)

    @pytest.mark.parametrize("names", ["B08,B04,B03,B02", "B04,B03,B02"])
    def test_fewer_bands_keep_their_own_slices_and_statistics_by_name(self, thirteen_band_file, names):
        file, network = thirteen_band_file
        model = self.adapt(file, names, fill="zero", stem="static")
        places = [THIRTEEN.index(name) for name in names.split(",")]
        assert torch.equal(model.stem.weight, network.conv1[0].weight[:, places])
        assert model.channels.mean == tuple(self.source.mean[place] for place in places)
        shared_out = self.adapt(file, names, stem="static").stem.weight
        torch.testing.assert_close(shared_out.sum(1), network.conv1[0].weight.sum(1))

    def test_bands_that_are_gone_are_estimated_where_the_correlations_are_known(self, thirteen_band_file):
        file, network = thirteen_band_file
        ones = tuple((1.0,) * 13 for _ in range(13))  # every band says the same
        source = self.source.with_statistics(self.source.mean, self.source.std, ones)
        model = adapt("timm/resnet10t", channels="B07", checkpoint=file, source_channels=source)
        weight = network.conv1[0].weight.sum(1, keepdim=True)
        torch.testing.assert_close(model.stem.weight, weight, rtol=1e-3, atol=1e-4)

    def test_a_saved_classifier_goes_into_fewer_more_and_other_bands(self, tmp_path):
        names = THIRTEEN[:5]
        matrix = tuple(tuple(0.7 ** abs(i - j) for j in range(5)) for i in range(5))
        channels = ChannelSet(names, mean=(100.0,) * 5, std=(30.0,) * 5, correlation=matrix)
        classes = ["a", "b", "c"]
        saved = create_model("compact_k7", channels=channels, num_classes=3, stem="completion", classes=classes)
        unsettle(saved)
        save_model(saved, tmp_path)
        pixels = images(2)
        fewer = adapt(tmp_path, channels="B04,B02")
        assert fewer.classes == ("a", "b", "c")
        with torch.no_grad():
            assert_close(fewer(pixels), saved(pixels, channels="B04,B02"))
            assert_close(fewer(pixels[:, :1], channels="B02"), saved(pixels[:, :1], channels="B02"), 1e-3)
            more = adapt(tmp_path, channels=[*names, "thermal"], fill="zero")
            assert_close(more(images(6)), saved(images(6)[:, :5]))
            other = adapt(saved, channels="x,y", classes=["a", "b"])
            assert other(pixels).shape == (2, 2)

    @pytest.mark.parametrize("norm", ["statistics", "subset", "size", "stem", "shared"])
    def test_the_norms_of_the_channels_that_stay_stay_too(self, norm):
        model = create_model("resnet18", channels=self.source.select(THIRTEEN[:3]), num_classes=3, norm=norm)
        unsettle(model)
        if norm == "shared":
            calibrate(model, images(2), THIRTEEN[:2])
        names = f"{THIRTEEN[1]},{THIRTEEN[0]}"
        lost = pytest.warns(UserWarning, match=rf"weights of its own for subsets .* norm='{norm}'.* learn them again")
        with lost if norm in ("subset", "size", "stem") else nullcontext():
            fewer = adapt(model, channels=names)
        with torch.no_grad():
            assert_close(fewer(images(2)), model(images(2), channels=names))

    def test_new_names_of_as_many_classes_get_a_new_head(self):
        saved = create_model("compact_k7", channels="R,G,B", num_classes=2, classes=["cat", "dog"])
        kept, new = (adapt(saved, channels="R,G", classes=names) for names in (["cat", "dog"], ["oak", "elm"]))
        assert torch.equal(kept.backbone.fc.weight, saved.backbone.fc.weight)
        assert not torch.equal(new.backbone.fc.weight, saved.backbone.fc.weight)


class Mine(nn.Module):
    """A network of the user's own whose second convolution takes three channels too."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 3, 3)
        self.again = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.again(self.look(x).relu()).mean((2, 3)))


class TestOwnModule:
    source = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3)

    def test_it_keeps_its_logits_is_copied_and_comes_back_from_disk(self, tmp_path):
        mine = Mine().eval()
        model = adapt(mine, channels="R,G,B,NIR", source_channels=self.source, first_conv="look", fill="zero")
        pixels = images(4)
        assert_close(model(pixels).detach(), mine((pixels[:, :3] - 120) / 60).detach())
        assert isinstance(mine.look, nn.Conv2d)
        save_model(model, tmp_path)
        with pytest.raises(
            ValueError, match=r"network of your own, .*Mine; make one and pass it: load_model\(folder, "
        ):
            load_model(tmp_path)
        assert torch.equal(load_model(tmp_path, network=Mine())(pixels), model(pixels))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "Mine has 2 convolutions that take 3 channels.*: first_conv='look', or another of look, again"),
            ({"first_conv": "head"}, "first_conv='head' of Mine is a Linear; it must be a convolution that takes 3"),
            ({"first_conv": "stem"}, "first_conv='stem' of Mine is not there"),
            ({"first_conv": "look", "source_channels": "R,G,B"}, "it is unknown how the images of .*Mine were normali"),
            ({"first_conv": "look", "checkpoint": "x.pt"}, "checkpoint and model_options are for timm's names"),
            ({"first_conv": "look", "fill": "near"}, "unknown fill 'near'.*neighbours, mean, zero"),
            ({"first_conv": "look", "normalise": "z"}, "unknown normalise 'z'; use one of source, data, none"),
            ({"normalise": "none", "source_range": 1}, "source_range has no effect: images arrive normalised"),
            ({"first_conv": "look", "normalise": "data"}, "needs channels with statistics; pass channels=data.chan"),
        ],
    )
    def test_what_cannot_be_known_is_asked_for(self, options, message):
        with pytest.raises(ValueError, match=message):
            adapt(Mine(), **({"channels": "R,G,B", "source_channels": self.source} | options))


class TestStatistics:
    """Images are normalised as the network was trained; what the data's own statistics say is not lost."""

    def test_known_channels_keep_the_sources_and_new_ones_have_their_own(self):
        data = ChannelSet(("G", "NIR"), mean=(90.0, 40.0), std=(50.0, 20.0))
        model = adapt("timm/resnet10t", channels=data, pretrained=False)
        assert model.mean.flatten().tolist() == pytest.approx([255 * 0.456, 40.0])
        assert model.std.flatten().tolist() == pytest.approx([255 * 0.224, 20.0])
        assert model.channels == data
        own = adapt("timm/resnet10t", channels=data, pretrained=False, normalise="data")
        assert own.mean.flatten().tolist() == [90.0, 40.0]

    def test_images_that_a_loader_normalises_are_not_normalised_again(self):
        network = timm.create_model("resnet10t", num_classes=3).eval()
        model = adapt(network, channels="R,G,B", normalise="none")
        images = torch.randn(2, 3, 32, 32)
        assert_close(model(images), network(images))
        measured = ChannelSet(tuple("RGB"), (0.1,) * 3, (0.9,) * 3)
        assert_close(adapt(network, channels=measured, normalise="none")(images), network(images))

    def test_sixteen_bit_files_are_asked_about(self):
        data = ChannelSet(("R", "G", "B"), mean=(5000.0,) * 3, std=(2000.0,) * 3)
        with pytest.raises(ValueError, match=r"channel 'R' has mean 5000 and std 2000 .* pass the source_range"):
            adapt("timm/resnet10t", channels=data, pretrained=False)
        model = adapt("timm/resnet10t", channels=data, pretrained=False, source_range=10_000)
        assert model.mean.flatten().tolist() == pytest.approx([4850.0, 4560.0, 4060.0])
        with pytest.warns(UserWarning, match="if your files hold values from 0 to 1, pass source_range=1"):
            adapt("timm/resnet10t", channels=ChannelSet(tuple("RGB"), (0.5,) * 3, (0.2,) * 3), pretrained=False)

    def test_completion_estimates_a_missing_channel_about_the_datas_own_mean(self):
        """Channels that are one up to scale and shift: the estimate is exact, so a subset loses nothing."""
        scale, shift = torch.tensor([50.0, 25.0, 40.0]), torch.tensor([60.0, 100.0, 30.0])
        ones = ((1.0,) * 3,) * 3
        data = ChannelSet(("R", "G", "B"), tuple(shift.tolist()), tuple(scale.tolist()), ones)
        model = adapt("timm/vit_tiny_patch16_224", channels=data, pretrained=False, model_options=TINY_VIT)
        plane = torch.randn(2, 1, 32, 32)
        pixels = plane * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)
        with torch.no_grad():
            full = model(pixels)
            for names, places in (("R", [0]), ("G", [1]), ("G,B", [1, 2])):
                assert_close(model(pixels[:, places], channels=names), full, 2e-3)
            static = adapt("timm/resnet10t", channels=data, pretrained=False, stem="static")
            assert (static(pixels[:, :1], channels="R") - static(pixels)).abs().max() > 1e-3

    def test_the_offset_is_saved_and_specialised(self, tmp_path):
        matrix = ((1.0, 0.8, 0.5), (0.8, 1.0, 0.7), (0.5, 0.7, 1.0))
        data = ChannelSet(("R", "G", "B"), (60.0, 100.0, 30.0), (50.0, 25.0, 40.0), matrix)
        model = adapt("timm/resnet10t", channels=data, pretrained=False, num_classes=3)
        save_model(model, tmp_path)
        with torch.no_grad():
            expected = model(images(2), channels="B,G")
            assert torch.equal(load_model(tmp_path)(images(2), channels="B,G"), expected)
            assert_close(model.specialize("B,G")(images(2)), expected)
            again = replace_stem(replace_stem(model, "static"), "completion")
            assert_close(again(images(2), channels="B,G"), expected)


TINY_VIT = {"img_size": 32, "depth": 1}


class TestWeights:
    def test_what_cannot_be_fetched_or_read_is_said(self, tmp_path, monkeypatch):
        def refuse(*args, **kwargs):
            raise OSError("no route to host")

        monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
        with pytest.raises(PretrainedError, match=r"the hub gave no weights .* no route to host; give a local file"):
            adapt("timm/resnet10t", channels="R,G,B")
        with pytest.raises(PretrainedError, match=r"none\.pth' is not a file"):
            adapt("timm/resnet10t", channels="R,G,B", checkpoint=tmp_path / "none.pth")
        (tmp_path / "bad.pth").write_text("nothing")
        torch.save({"model": object}, tmp_path / "more.pth")
        for name in ("bad.pth", "more.pth"):
            with pytest.raises(PretrainedError, match=f"{name}' cannot be read: .*than tensors.*state_dict") as caught:
                adapt("timm/resnet10t", channels="R,G,B", checkpoint=tmp_path / name)
            assert "weights_only" not in str(caught.value)
        state = timm.create_model("resnet10t", in_chans=4).state_dict()
        message = (
            r"no weights that fit resnet10t of 3 channels: .*conv1\.0\.weight.*; its first convolution takes 4 "
            r"channels, but source_channels names 3 \(R, G, B\): name those that it was trained on, in their order"
        )
        with pytest.raises(PretrainedError, match=message):
            adapt("timm/resnet10t", channels="R,G,B", checkpoint=state)
        with pytest.raises(PretrainedError, match="take 3 channels, source_channels names 4; give the file"):
            adapt("timm/resnet10t", channels="R,G,B", source_channels="R,G,B,NIR")
        with pytest.raises(PretrainedError, match=r"'resnet18' is a network of ours.*give timm/resnet18"):
            adapt("resnet18", channels="R,G,B")
        with pytest.raises(ValueError, match="unknown model 'timm/resnet81'"):
            adapt("timm/resnet81", channels="R,G,B", pretrained=False)

    def test_published_weights_arrive_by_the_hubs_own_way(self, monkeypatch):
        state = timm.create_model("resnet10t").state_dict()
        monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: dict(state))
        model = adapt("resnet10t.c3_in1k", channels="R,G,B", num_classes=3)
        torch.testing.assert_close(model.stem.weight, state["conv1.0.weight"])
        assert model.backbone.fc.out_features == 3

    def test_the_weights_are_not_kept_in_memory_beside_the_network(self, thirteen_band_file):
        model = adapt(
            "timm/resnet10t",
            channels=THIRTEEN,
            source_channels=TestThirteenBands.source,
            checkpoint=thirteen_band_file[0],
        )
        assert model.backbone.pretrained_cfg.get("state_dict") is None

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("crossvit_tiny_240", r"looks at the images through 2 convolutions \(patch_embed\.0\.proj, patch_embed"),
            ("tresnet_m", "has no convolution with 3 input channels, and its first one has 48"),
        ],
    )
    def test_a_network_that_no_stem_fits_is_refused(self, name, message):
        with pytest.raises(ValueError, match=message):
            adapt(f"timm/{name}", channels="R,G,B", pretrained=False)
