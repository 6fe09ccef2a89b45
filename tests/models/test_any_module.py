"""Networks of other libraries in a plain training loop: two lines make them adaptive, and they stay what they are."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
import transformers
from torch import nn

import anychannel as ac
from anychannel.nn.adapted import ChannelAdaptive
from anychannel.training import TrainingSettings, fit
from tests.helpers.training import make_split

SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}
TIMM = {
    "resnet10t": {},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "tf_efficientnet_lite0": {},
    "mobilenetv4_conv_small_035": {},
    "regnetx_002": {},
    "densenet121": {"growth_rate": 4, "block_config": (2, 2, 2, 2)},
    "vgg11": {"mlp_ratio": 0.01},
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 1},
    "swin_tiny_patch4_window7_224": SWIN,
    "fastvit_t8": {"layers": (1, 1, 1, 1)},
    "repvgg_a0": {},
    "test_nfnet": {},
}
VISION = torchvision.models
WIDTHS = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_labels": 5}
VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}


def hf_vit() -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, image_size=32, num_labels=5))


def hf_convnext() -> nn.Module:
    return transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**WIDTHS))


def hf_resnet() -> nn.Module:
    config = transformers.ResNetConfig(**WIDTHS, embedding_size=8, layer_type="basic")
    return transformers.ResNetForImageClassification(config)


def own() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 5))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"timm/{name}": lambda n=name, o=options: timm.create_model(n, num_classes=5, **o)
        for name, options in TIMM.items()
    },
    "timm features": lambda: timm.create_model("resnet10t", features_only=True, out_indices=(0, 1)),
    "torchvision resnet": lambda: VISION.resnet18(num_classes=5),
    "torchvision shufflenet": lambda: VISION.shufflenet_v2_x0_5(num_classes=5),
    "torchvision squeezenet": lambda: VISION.squeezenet1_1(num_classes=5),
    "torchvision mobilenet": lambda: VISION.mobilenet_v2(num_classes=5, width_mult=0.25),
    "torchvision vit": lambda: VISION.VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=5),
    "torchvision lraspp": lambda: VISION.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    ),
    "transformers ViT": hf_vit,
    "transformers ConvNeXt": hf_convnext,
    "transformers ResNet": hf_resnet,
    "smp Unet": lambda: smp.Unet("resnet18", encoder_weights=None, decoder_channels=(8,) * 5, classes=5),
    "own Sequential": own,
}


def images(batch: int = 4, channels: int = 4, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, generator=generator)


def adapted(network: nn.Module, **options):
    return ac.adapt(network, channels="R,G,B,NIR", source_channels="imagenet", **options)


def tensor_of(output) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, list):
        return output[-1]
    return output["out"] if "out" in output else output["logits"]


@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains_one_step_in_a_plain_loop_and_answers_to_a_subset(name):
    torch.manual_seed(0)
    theirs = NETWORKS[name]()
    model = adapted(theirs)
    assert isinstance(model, type(theirs))
    assert isinstance(model, ChannelAdaptive)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    weight = model._anychannel_conv.weight
    before = weight.detach().clone()
    output = model(images())
    assert len(set(model.last_subsets)) == 3
    tensor_of(output).float().square().mean().backward()
    optimizer.step()
    assert not torch.equal(weight, before)
    model.eval()
    with torch.no_grad():
        plain, fewer = theirs.eval()(torch.zeros(4, 3, 32, 32)), model(images(channels=2), channels=["NIR", "G"])
    assert type(fewer) is type(plain)
    assert tensor_of(fewer).shape == tensor_of(plain).shape
    assert tensor_of(fewer).isfinite().all()


@pytest.mark.parametrize("name", ["timm/resnet10t", "transformers ResNet", "own Sequential", "smp Unet"])
def test_copies_pickles_and_half_precision_answer_alike(name):
    model = adapted(NETWORKS[name]()).eval()
    expected = tensor_of(model(images(channels=2), channels="NIR,R"))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert torch.equal(tensor_of(other(images(channels=2), channels="NIR,R")), expected)
        other.load_state_dict(adapted(NETWORKS[name]()).state_dict())
        assert not torch.equal(tensor_of(other(images(channels=2), channels="NIR,R")), expected)
    assert torch.equal(tensor_of(model(images(channels=2), channels="NIR,R")), expected)
    half = tensor_of(model.bfloat16()(images(channels=2), channels="NIR,R")).float()
    torch.testing.assert_close(half, expected, rtol=0.1, atol=0.1)


def test_all_known_channels_give_the_networks_own_answer():
    theirs = own().eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    unit = images(channels=3) / 255
    for source_range, shown in ((255, images(channels=3)), (1, unit)):
        model = ac.adapt(theirs, channels="R,G,B", source_channels="imagenet", source_range=source_range)
        torch.testing.assert_close(model(shown), theirs((unit - mean) / std), rtol=1e-4, atol=1e-5)


def test_transformers_keep_config_labels_keywords_and_output():
    theirs = hf_convnext()
    model = adapted(theirs)
    assert theirs.config.num_channels == 3
    assert model.config.num_channels == 4
    parameters = inspect.signature(model.forward).parameters
    assert list(parameters)[:2] == list(inspect.signature(theirs.forward).parameters)[:2]
    assert {"channels", "present"} <= set(parameters)
    output = model(pixel_values=images(), labels=torch.tensor([0, 1, 2, 3]))
    expected = nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(output.loss, expected)
    renamed = adapted(theirs, num_classes=3)
    assert renamed.config.num_labels == renamed(images()).logits.shape[1] == 3


class Busy(nn.Module):
    """Uses names that an adapted network would add."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.stem, self.mean = 3, nn.Conv2d(3, 4, 3), 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x)[:, : self.channels].mean((2, 3)) + self.mean


def test_their_own_attributes_win_over_ours():
    model = adapted(Busy(), first_conv="stem")
    assert model.channels == 3
    assert model(images()).shape == (4, 3)
    assert model.last_subsets is not None
    assert copy.deepcopy(model).eval()(images(channels=1), channels="NIR").shape == (4, 3)


class Own(nn.Module):
    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.conv1, self.bn, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, count)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv1(x)).mean((2, 3)))


def test_fit_calibrate_save_and_wider_channels_take_it_and_give_it_back(tmp_path):
    data = make_split(32, 0)
    model = ac.adapt(Own(), channels="R,G,B", source_channels="imagenet")
    settings = TrainingSettings(epochs=1, batch_size=16, device="cpu", precision="fp32", crop_padding=1)
    assert settings.with_rate(trained=model._anychannel_conv.channel_input.trained).lr == pytest.approx(0.01)
    fit(model, data, data, settings)
    ac.calibrate(model, torch.as_tensor(data.images[:16]).float(), "G")
    ac.save_model(model, tmp_path)
    again = ac.load_model(tmp_path, network=Own())
    assert isinstance(again, Own)
    shown = images(channels=2)
    torch.testing.assert_close(again(shown, channels="B,G"), model.eval()(shown, channels="B,G"))
    wider = ac.with_channels(model, ac.ChannelSet(("R", "G", "B", "N"), (100.0,) * 4, (50.0,) * 4), new="zero")
    assert isinstance(wider, Own)
    torch.testing.assert_close(wider(shown, channels="B,G"), model(shown, channels="B,G"))
    assert isinstance(ac.adapt(model, channels="R,G"), Own)
    torch.testing.assert_close(
        model.specialize("B,G")(shown.float()), model(shown, channels="B,G"), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ac.replace_stem(own(), "completion"), r"Sequential takes no named channels; .* ac.adapt\(model, chan"),
        (lambda: ac.with_channels(own(), "R,G,B,NIR"), r"Sequential takes no named channels"),
        (
            lambda: fit(own(), make_split(8, 0), make_split(8, 0)),
            r"this module knows no channels by name",
        ),
        (lambda: adapted(torch.compile(own())), "OptimizedModule wraps a network; adapt the network itself"),
        (lambda: adapted(own(), channel_sampling="sandwich"), "'sandwich' does not show every image exactly once"),
        (lambda: adapted(own(), sampling_options={"paired": True}), "'split' does not show every image exactly once"),
        (lambda: adapted(own(), channel_sampling="splitt"), "unknown sampler 'splitt'"),
        (lambda: ac.adapt(own(), channels="R,G,B"), "pass source_channels='imagenet' if by ImageNet's"),
    ],
)
def test_what_cannot_be_done_says_what_to_call(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_network_of_other_channels_is_adapted_to_these_by_default():
    network = timm.create_model("resnet10t", num_classes=3, in_chans=4)
    adapted = ac.adapt(network, channels="R,G,B,NIR", normalise="none").eval()
    images = torch.randn(2, 4, 64, 64)
    torch.testing.assert_close(adapted(images), network.eval()(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"its first one has 4; pass source_channels with the names of the 4 channels"):
        ac.adapt(network, channels="R,G", normalise="none")
