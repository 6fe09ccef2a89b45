from __future__ import annotations

import pytest
import torch

from anychannel.channels import ChannelSet
from anychannel.models import create_model, load_model, replace_stem, save_model
from anychannel.nn.stems import STEMS

RGB = ChannelSet(
    ("R", "G", "B"),
    mean=(120.0,) * 3,
    std=(60.0,) * 3,
    correlation=((1.0, 0.9, 0.8), (0.9, 1.0, 0.9), (0.8, 0.9, 1.0)),
)
STATIC = [name for name in STEMS if not STEMS[name].per_image]


def plain(name: str = "compact_k7"):
    return create_model(name, channels=RGB, num_classes=4, stem="static").eval()


@pytest.mark.parametrize("stem", STATIC)
@pytest.mark.parametrize("name", ["compact_k7", "tf_efficientnet_lite0"])
def test_the_full_sets_answers_stay_as_they_are(stem, name):
    model, images = plain(name), torch.randint(0, 256, (2, 3, 33, 33))
    torch.testing.assert_close(replace_stem(model, stem)(images), model(images), rtol=1e-3, atol=1e-4)


def test_completion_uses_the_correlations_that_the_model_carries(tmp_path):
    model = plain()
    adapted = replace_stem(model)
    grey = {"grey_single": True}
    direct = create_model("compact_k7", channels=RGB, num_classes=4, stem="completion", stem_options=grey).eval()
    with pytest.warns(UserWarning, match=r"lacks backbone\.conv1\.stem\.covariance"):
        direct.load_state_dict(model.state_dict(), strict=False)
    images = torch.randint(0, 256, (2, 1, 20, 20))
    torch.testing.assert_close(adapted(images, channels="G"), direct(images, channels="G"))
    assert not torch.allclose(adapted(images, channels="G"), model(images, channels="G"))
    save_model(adapted, tmp_path)
    assert torch.equal(load_model(tmp_path)(images, channels="G"), adapted(images, channels="G"))


def test_a_stem_without_a_kernel_is_refused():
    model = create_model("compact_k7", channels=RGB, num_classes=4, stem="per_size")
    with pytest.raises(ValueError, match="PerSizeStem has no single kernel to start from"):
        replace_stem(model)


def test_completion_without_correlations_says_so_and_takes_given_ones(tmp_path):
    model = create_model("compact_k7", channels="R,G,B", num_classes=4, stem="static").eval()
    with pytest.warns(UserWarning, match="carry no correlations, so completion can estimate nothing"):
        replace_stem(model)
    adapted, images = replace_stem(model, correlation=RGB.correlation), torch.randn(2, 1, 20, 20)
    assert not torch.allclose(adapted(images, channels="G"), model(images, channels="G"))
    save_model(adapted, tmp_path)
    assert torch.equal(load_model(tmp_path)(images, channels="G"), adapted(images, channels="G"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_new_stem_has_the_models_precision(dtype):
    adapted, images = replace_stem(plain().to(dtype)), torch.randint(0, 256, (2, 2, 20, 20))
    assert adapted(images, channels="R,B").dtype == dtype
