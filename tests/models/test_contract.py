"""Networks with stems, on every subset of their channels, as a user calls them.

Every stem meets every small network, and each large network a few stems: neither knows of the other.
"""

from __future__ import annotations

import pytest
import torch

from anychannel.channels import ChannelError, ChannelSet
from anychannel.models import MODELS, create_model, load_model, save_model
from anychannel.models.saving import describe_model
from anychannel.nn.channel_sampling import SAMPLERS, Part, create_sampler
from anychannel.nn.stems import STEMS
from anychannel.nn.subset_context import current_shown

RGB = ChannelSet(("R", "G", "B"), mean=(120.0, 110.0, 100.0), std=(60.0, 55.0, 50.0))
NAMES = [RGB.key(subset) for subset in RGB.subsets()]
SMALL = {
    "compact_k3": {"width": 64},
    "compact_k7": {"width": 64},
    "compact_rrdb": {"repeats": 2, "depths": [1, 1, 1]},
}
LARGE = [("resnet18", stem) for stem in ("completion", "hypernetwork", "masked")] + [("resnet34", "completion")]
PAIRS = [(model, stem) for model in SMALL for stem in STEMS] + LARGE


def make(model: str = "compact_k7", stem: str = "static", **options):
    return create_model(model, channels=RGB, num_classes=4, stem=stem, model_options=SMALL.get(model), **options).eval()


def pixels(batch: int, channels: int = 3, size: int = 20) -> torch.Tensor:
    return torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8)


def test_every_network_is_here():
    assert {model for model, _ in PAIRS} == {*MODELS}


@pytest.mark.parametrize(("model_name", "stem"), PAIRS)
def test_every_subset_gives_finite_logits_at_batch_1_and_3(model_name, stem):
    model = make(model_name, stem)
    for names in NAMES:
        for batch in (1, 3):
            logits = model(pixels(batch, len(names.split(","))), channels=names)
            assert logits.shape == (batch, 4)
            assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("model_name", "stem"), PAIRS)
def test_a_saved_model_gives_the_same_logits_when_loaded(model_name, stem, tmp_path):
    model = make(model_name, stem, classes=["a", "b", "c", "d"])
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.channels == RGB
    assert again.classes == ("a", "b", "c", "d")
    assert describe_model(again) == describe_model(model)
    for names in NAMES:
        images = pixels(2, len(names.split(",")))
        assert torch.equal(model(images, channels=names), again(images, channels=names))


@pytest.mark.parametrize("stem", STEMS)
def test_data_and_names_permuted_together_give_the_same_logits(stem):
    model, images = make(stem=stem), pixels(2)
    expected = model(images, channels=["R", "G", "B"])
    for order in ([2, 1, 0], [1, 2, 0], [0, 2, 1]):
        names = [RGB.names[i] for i in order]
        assert torch.equal(model(images[:, order], channels=names), expected)
    pair = model(images[:, [0, 2]], channels="R,B")
    assert torch.equal(model(images[:, [2, 0]], channels="B,R"), pair)


@pytest.mark.parametrize("stem", STEMS)
def test_a_black_channel_is_not_a_missing_one(stem):
    model, images = make(stem=stem), pixels(2)
    images[:, 1] = 0
    black, missing = model(images), model(images[:, [0, 2]], channels="R,B")
    assert (black - missing).abs().max() > 1e-4


@pytest.mark.parametrize(("model_name", "stem"), PAIRS)
def test_gradients_reach_every_parameter_that_should_learn(model_name, stem):
    model = make(model_name, stem).train()
    shown = RGB.subsets() if stem != "masked" else [RGB.full]
    parts = [Part(subset, 2 * i, 2 * i + 2) for i, subset in enumerate(shown)]
    for parameter in model.parameters():  # open the gates that start at exactly zero
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    for _ in range(2):
        model(pixels(2 * len(parts)), parts=parts).logsumexp(1).sum().backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_parts_give_what_each_subset_gives_alone(stem, sampler):
    model, images = make(stem=stem), pixels(9)
    parts = create_sampler(sampler, 3, **({"drop": 0.5, "parts": 4} if sampler == "dropout" else {}))(
        9, torch.Generator().manual_seed(2)
    )
    together = model(images, parts=parts)
    alone = [
        model(images[part.start : part.stop][:, list(part.subset)], channels=RGB.key(part.subset)) for part in parts
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_pixels_are_normalised_with_the_channels_own_statistics():
    model, images = make(), pixels(2)
    plain = create_model("compact_k7", channels="R,G,B", num_classes=4, stem="static").eval()
    weights = {name: value for name, value in model.backbone.state_dict().items() if "channel_input" not in name}
    plain.backbone.load_state_dict(plain.backbone.state_dict() | weights)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (RGB.mean, RGB.std))
    torch.testing.assert_close(model(images), plain((images.float() - mean) / std))


@pytest.mark.parametrize(
    ("channels", "shape", "message"),
    [
        (["R", "X"], (1, 2, 8, 8), "unknown channel 'X'; the channels are R, G, B"),
        (["R", "R"], (1, 2, 8, 8), "channel 'R' is given twice"),
        (["R"], (1, 3, 8, 8), r"images of shape \(1, 3, 8, 8\) given for 1 channels \(R\)"),
        (None, (1, 2, 8, 8), r"given for 3 channels \(R, G, B\)"),
        (None, (3, 8, 8), r"expected \(batch, 3, height, width\)"),
    ],
)
def test_images_that_do_not_fit_their_names_are_refused(channels, shape, message):
    with pytest.raises(ChannelError, match=message):
        make()(torch.zeros(shape), channels=channels)


def test_a_backbone_called_on_its_own_says_what_to_call():
    with pytest.raises(RuntimeError, match="call the model that adapt or create_model returned, not its backbone"):
        make().backbone(torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError, match="call the model that adapt or create_model returned"):
        current_shown()
