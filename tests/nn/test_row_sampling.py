"""Subsets that a network draws by itself: each row shows one, in its place, in any training loop."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from anychannel.channels import ChannelError, ChannelSet
from anychannel.models import create_model
from anychannel.nn.channel_sampling import SplitSampler
from anychannel.nn.row_sampling import ChannelSampling
from anychannel.nn.stems import STEMS

RGBN = ChannelSet(
    ("R", "G", "B", "N"),
    (120.0, 110.0, 100.0, 90.0),
    (60.0, 50.0, 55.0, 40.0),
    [[1.0 if i == j else 0.8 for j in range(4)] for i in range(4)],
    wavelengths_nm=(665.0, 560.0, 490.0, 842.0),
)
STEM_OPTIONS = [(name, {}) for name in STEMS if name != "masked"] + [
    ("completion", {"residual": "missing"}),
    ("completion", {"presence": True}),
]


def make(stem: str = "completion", norm: str = "statistics", stem_options=None, **options):
    torch.manual_seed(0)
    values = {"model_options": {"width": 16}, "stem_options": stem_options} | options
    return create_model("compact_k7", channels=RGBN, num_classes=3, stem=stem, norm=norm, **values)


def images(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, 4, 16, 16), generator=generator).float()


def freeze(model: nn.Module) -> nn.Module:
    """Batch norms that do not depend on the batch, with statistics unlike one another."""
    model.train()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.eval().running_mean.normal_()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def alone(model: nn.Module, shown: torch.Tensor) -> torch.Tensor:
    """Each row by itself, with the subset that it showed."""
    rows = []
    for image, names in zip(shown, model.last_subsets, strict=True):
        places = list(RGBN.positions(names))
        rows.append(model(image[None, places], channels=names))
    return torch.cat(rows)


@pytest.mark.parametrize(("stem", "options"), STEM_OPTIONS)
def test_every_row_gives_what_its_subset_gives_alone_in_its_place(stem, options):
    model = freeze(make(stem, stem_options=options))
    shown = images(9)
    together = model(shown)
    assert len(set(model.last_subsets)) > 2
    torch.testing.assert_close(together, alone(model, shown), rtol=1e-3, atol=1e-4)


def test_completion_around_another_mean_is_the_same_at_the_border():
    offset = create_model(
        "compact_k7",
        channels=RGBN,
        num_classes=3,
        stem_options={"offset": [0.5, -1.0, 2.0, 0.3]},
        model_options={"width": 16},
    )
    model = freeze(offset)
    shown = images(9)
    torch.testing.assert_close(model(shown), alone(model, shown), rtol=1e-3, atol=1e-4)


def test_rows_of_a_part_share_a_batch_norm_whatever_their_places():
    model = make()
    shown = images(12)
    model.train()(shown)
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, names in enumerate(model.last_subsets):
        rows.setdefault(RGBN.subset(names), []).append(row)
    bank = model.backbone.bn1
    for subset, places in rows.items():
        with torch.no_grad():
            pixels = model.normalise(shown[places][:, list(subset)], subset)
            features = model.stem(pixels, subset)
        before = 0.0 if bank.choose(subset) is bank.shared else bank.shared.running_mean
        expected = (before + features.mean((0, 2, 3))) / 2
        torch.testing.assert_close(bank.choose(subset).running_mean, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("norm", ["shared", "statistics", "subset"])
def test_the_smallest_batches_train(batch, norm):
    model = make(norm=norm).train()
    assert model(images(batch)).isfinite().all()
    assert len(model.last_subsets) == batch


def test_nothing_is_drawn_in_evaluation_by_name_or_when_switched_off():
    model = make().train()
    for change in (
        lambda: model(images(6), channels="R,G,B,N"),
        lambda: model.eval()(images(6)),
        lambda: setattr(model.train(), "channel_sampling", None) or model(images(6)),
        lambda: setattr(model, "channel_sampling", "full") or model(images(6)),
    ):
        change()
        assert model.last_subsets == ["R,G,B,N"] * 6
        assert model.channel_input.step == 0
    model.channel_sampling = "uniform_size"
    model(images(6))
    assert model.channel_input.step == 1


def test_the_draws_continue_from_a_state_dict_and_no_average_changes_them():
    model = make(sampling_seed=5).train()
    for _ in range(3):
        model(images(8))
    other, average = make().train(), AveragedModel(model, use_buffers=True)
    other.load_state_dict(model.state_dict())
    for _ in range(2):
        average.update_parameters(model)
    assert average.module.state_dict()["_extra_state"].tolist() == [5, 3]
    twin = copy.deepcopy(model).bfloat16()
    drawn = []
    for each in (model, other, twin):
        each(images(8))
        drawn.append(each.last_subsets)
    assert drawn[0] == drawn[1] == drawn[2]
    model(images(8))
    assert model.last_subsets != drawn[0]


def test_images_that_lack_channels_show_what_they_have_of_what_is_drawn():
    model = freeze(make())
    generator = torch.Generator().manual_seed(1)
    present = torch.rand(10, 4, generator=generator) > 0.5
    present[:, 2] |= ~present.any(1)
    shown = torch.where(present[:, :, None, None], images(10), torch.nan)
    logits = model(shown, present=present)
    for row, names in zip(present, model.last_subsets, strict=True):
        assert all(row[place] for place in RGBN.subset(names))
    torch.testing.assert_close(logits, alone(model, shown), rtol=1e-3, atol=1e-4)
    model.eval()
    logits = model(shown, present=present)
    assert [RGBN.subset(names) for names in model.last_subsets] == [
        tuple(torch.nonzero(row)[:, 0].tolist()) for row in present
    ]
    torch.testing.assert_close(logits, alone(model, shown), rtol=1e-3, atol=1e-4)
    swapped = model(shown[:, [2, 0, 1, 3]], channels="B,R,G,N", present=present[:, [2, 0, 1, 3]])
    torch.testing.assert_close(swapped, logits)
    with pytest.raises(ValueError, match="image 3 of the batch has no channel at all"):
        model(shown, present=present & (torch.arange(10) != 3)[:, None])
    with pytest.raises(ValueError, match=r"present has the shape \(4,\); expected \(10, 4\)"):
        model(shown, present=present[0])
    with pytest.raises(ChannelError, match="leave channels and present out"):
        model(shown, present=present, parts=[])


@pytest.mark.parametrize("norm", ["shared", "statistics", "subset", "stem"])
def test_gradients_with_activation_checkpointing_are_the_plain_ones(norm):
    plain = create_model("timm/resnet10t", channels=RGBN, num_classes=3, norm=norm).train()
    kept = copy.deepcopy(plain)
    kept.set_grad_checkpointing(True)
    shown, grads = images(6).repeat(1, 1, 4, 4), []  # 2 x 2 positions in the last layer
    for model in (plain, kept):
        sum(model(shown[:size]).square().sum() for size in (6, 5)).backward()  # two passes of other draws
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-4 * grad.abs().max().item())


def test_processes_together_show_what_one_shows(monkeypatch):
    whole = ChannelSampling("split", 4).draw(12, 0, 3, None, torch.device("cpu")).subsets()
    monkeypatch.setattr("anychannel.nn.row_sampling.process_count", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr("anychannel.nn.row_sampling.dist.get_rank", lambda rank=rank: rank)
        own = ChannelSampling("split", 4).draw(4, 0, 3, None, torch.device("cpu"))
        assert own.subsets() == whole[rank::3]
        assert {part.subset for part in own.parts} == set(whole)


def test_a_sampler_of_ones_own_draws_too():
    model = make(channel_sampling=SplitSampler(4, full=0.25)).train()
    model(images(8))
    assert model.last_subsets.count("R,G,B,N") == 2
    with pytest.raises(ValueError, match="sampling_options are for a sampler by name"):
        make(channel_sampling=SplitSampler(4), sampling_options={"full": 0.5})


def test_what_timm_users_expect_is_there():
    model = create_model("timm/resnet10t", channels=RGBN, num_classes=3).eval()
    shown = torch.rand(2, 2, 32, 32) * 255
    features = model.forward_features(shown, "N,R")
    torch.testing.assert_close(model.forward_head(features), model(shown, channels="N,R"))
    embedded = model.embed(shown, "N,R")
    torch.testing.assert_close(embedded, model.forward_head(features, pre_logits=True))
    assert embedded.shape == (2, model.num_features)
    assert model.get_classifier() is model.backbone.fc
    model.reset_classifier(7, classes=list("abcdefg"))
    assert model(shown, channels="N,R").shape == (2, len(model.classes))
    vit = create_model("timm/test_vit", channels=RGBN, num_classes=3)
    assert "backbone.pos_embed" in vit.no_weight_decay()
    own = make().eval()
    assert own.embed(images(2)).shape == (2, own.backbone.fc.in_features)


@pytest.mark.parametrize(
    ("name", "options", "fewest"),
    [("timm/test_vit", {"img_size": 32}, 1), ("compact_k7", {"width": 16}, 1), ("compact_k7", {"width": 16}, 16)],
)
def test_compiled_inference_is_one_graph_and_training_breaks_once_at_most(name, options, fewest):
    sampling = {"fewest": fewest}  # three parts of four images, or two
    model = create_model(name, channels=RGBN, num_classes=3, model_options=options, sampling_options=sampling).eval()
    shown = torch.rand(4, 4, 32, 32) * 255
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for names in ("R,G", "N", "R,G,B,N"):
        places = list(RGBN.positions(names))
        torch.testing.assert_close(compiled(shown[:, places], channels=names), model(shown[:, places], channels=names))
    torch._dynamo.reset()
    freeze(model)
    graphs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # dynamo's own, at a graph break
        logits = torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph.forward)(shown)
    assert 1 <= len(graphs) <= 2
    torch.testing.assert_close(logits, alone(model, shown), rtol=1e-3, atol=1e-3)
