"""Channels that training never showed."""

from __future__ import annotations

import pytest
import torch

from anychannel.channels import ChannelError, ChannelSet
from anychannel.models import calibrate, create_model, load_model, save_model, with_channels
from anychannel.nn.subset_batchnorm import SubsetBatchNorm

MATRIX = ((1.0, 0.6), (0.6, 1.0))
OWN = ChannelSet(("B", "R"), (100.0, 90.0), (40.0, 50.0), MATRIX, wavelengths_nm=(490.0, 665.0))
MORE = ChannelSet(
    ("NIR", "R", "G", "B"),
    mean=(50.0, 1.0, 80.0, 2.0),
    std=(20.0, 1.0, 30.0, 2.0),
    correlation=tuple(tuple(0.8 ** abs(i - j) for j in range(4)) for i in range(4)),
    wavelengths_nm=(842.0, 665.0, 560.0, 490.0),
)
WAYS = [
    ("descriptor", "generated"),
    ("dofa", "generated"),
    ("static", "nearest"),
    ("static", "zero"),
    ("sliced", "nearest"),
    ("sliced", "zero"),
    ("grey", "zero"),
]


def train(stem: str, channels: ChannelSet = OWN, norm: str = "auto", **options):
    torch.manual_seed(0)
    small = {"width": 16}
    model = create_model(
        "compact_k7", channels=channels, num_classes=3, stem=stem, stem_options=options, model_options=small, norm=norm
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def pixels(channels: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, channels, 16, 16), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize(("stem", "new"), [*WAYS, ("completion", "zero")])
def test_every_subset_of_old_and_new_channels_is_finite_saved_and_specialised(stem, new, tmp_path):
    wider = with_channels(train(stem), MORE, new=new)
    save_model(wider, tmp_path)
    again = load_model(tmp_path)
    for subset in MORE.subsets():
        names = MORE.key(subset)
        logits = wider(pixels(len(subset)), channels=names)
        assert torch.isfinite(logits).all()
        assert torch.equal(again(pixels(len(subset)), channels=names), logits)
    plain = wider.specialize("G,NIR")(pixels(2))
    torch.testing.assert_close(plain, wider(pixels(2), channels="G,NIR"), rtol=1e-4, atol=1e-4)


def test_what_tells_that_channels_are_missing_goes_along():
    model = train("completion", presence=True)
    wider = with_channels(model, MORE, new="nearest")
    for i, name in enumerate(MORE.names):
        expected = model.stem.presence[OWN.names.index(name)] if name in OWN.names else torch.zeros(16)
        assert torch.equal(wider.stem.presence[i], expected)


@pytest.mark.parametrize(("stem", "new"), WAYS)
def test_answers_to_the_channels_that_were_trained_stay(stem, new):
    model = train(stem)
    wider = with_channels(model, MORE, new=new)
    assert wider.channels.names == MORE.names
    assert wider.channels.select("R,B").mean == (90.0, 100.0), "known channels keep the model's statistics"
    kernel = model.stem.kernel(model.channels.full)[:, [1, 0]]
    torch.testing.assert_close(wider.stem.kernel(wider.channels.subset("B,R")), kernel)
    for subset in OWN.subsets():
        names = OWN.key(subset)
        expected = model(pixels(len(subset)), channels=names)
        torch.testing.assert_close(wider(pixels(len(subset)), channels=names), expected, rtol=1e-4, atol=1e-5)


def test_the_model_that_is_given_stays_as_it_is():
    model = train("descriptor")
    expected = model(pixels(2))
    with_channels(model, MORE)
    assert model.stem.in_chans == 2
    assert torch.equal(model(pixels(2)), expected)


def test_a_generated_kernel_is_the_wavelengths_own_and_varies_smoothly():
    model = train("descriptor")
    near = ChannelSet(("B", "R", "x", "y"), (1.0,) * 4, (2.0,) * 4, wavelengths_nm=(490.0, 665.0, 666.0, 1500.0))
    kernel = with_channels(model, near).stem.kernel((0, 1, 2, 3))
    assert (kernel[:, 2] - kernel[:, 1]).norm() < 0.05 * kernel[:, 1].norm()
    assert (kernel[:, 3] - kernel[:, 1]).norm() > 0.05 * kernel[:, 1].norm()


def test_the_nearest_channels_slice_is_copied_and_zero_adds_nothing():
    model = train("static")
    nearest, zero = (with_channels(model, MORE, new=new).stem.weight for new in ("nearest", "zero"))
    blue, red = model.stem.weight.unbind(1)
    torch.testing.assert_close(nearest.unbind(1)[0], red)
    torch.testing.assert_close(nearest.unbind(1)[2], blue)
    assert not zero[:, [0, 2]].any()


def test_completion_estimates_the_trained_channels_from_a_new_one():
    """A new channel that always says what B and R say: it alone gives what they give."""
    ones = ((1.0,) * 3,) * 3
    model = train("completion", OWN.with_statistics(OWN.mean, OWN.std, ((1.0, 1.0), (1.0, 1.0))))
    again = ChannelSet(("B", "R", "pan"), (0.0, 0.0, 60.0), (1.0, 1.0, 30.0), ones)
    wider = with_channels(model, again, new="zero")
    plane = torch.randn(2, 1, 16, 16)
    expected = model(torch.cat([40 * plane + 100, 50 * plane + 90], 1))
    torch.testing.assert_close(wider(30 * plane + 60, channels="pan"), expected, rtol=1e-3, atol=1e-3)


def test_channels_can_be_described_by_vectors_instead(tmp_path):
    plain = ChannelSet(("actin", "DNA"))
    model = train("descriptor", plain, embedding=[[1.0, 0.0, 0.2], [0.0, 1.0, 0.1]])
    more = ChannelSet(("actin", "DNA", "RNA"))
    wider = with_channels(model, more, embedding=[[1.0, 0.0, 0.2], [0.0, 1.0, 0.1], [0.1, 0.9, 0.3]])
    torch.testing.assert_close(wider(pixels(2), channels="actin,DNA"), model(pixels(2)))
    save_model(wider, tmp_path)
    assert torch.equal(load_model(tmp_path)(pixels(1), channels="RNA"), wider(pixels(1), channels="RNA"))


@pytest.mark.parametrize(
    ("stem", "channels", "options", "message"),
    [
        ("static", ChannelSet(("R", "G")), {}, "must hold the model's own too; B is missing"),
        ("static", ChannelSet(("B", "R", "G")), {}, "new channels need statistics, measured on images without labels"),
        ("static", MORE, {"new": "near"}, "unknown new 'near'.*generated, nearest, zero"),
        ("static", MORE, {"new": "generated"}, "StaticStem generates no kernels from descriptors; use new='nearest'"),
        ("grey", MORE, {"new": "nearest"}, "copied slices of new channels would change the logits .*use new='zero'"),
        ("hypernetwork", MORE, {}, "HypernetworkStem with .* has parts that belong to its own channels"),
        ("static", ChannelSet(("B", "R", "PI"), (1.0,) * 3, (2.0,) * 3), {}, "'PI' or the model's have no wavelength"),
        ("descriptor", ChannelSet(("B", "R", "PI"), (1.0,) * 3, (2.0,) * 3), {}, "give every channel one"),
        ("descriptor", MORE, {"embedding": [[1.0]] * 4}, "describe new ones the same way"),
    ],
)
def test_what_cannot_be_done_is_said(stem, channels, options, message):
    with pytest.raises(ValueError, match=message):
        with_channels(train(stem), channels, **options)


def shift_statistics(model):
    """Statistics that differ from one subset to the next."""
    generator = torch.Generator().manual_seed(3)
    for bank in model.modules():
        if isinstance(bank, SubsetBatchNorm):
            for norm in (bank.shared, *bank.entries.values()):
                norm.running_mean.add_(0.1 * torch.randn(norm.running_mean.shape, generator=generator))
    return model


@pytest.mark.parametrize("calibrated", [False, True])
def test_subsets_keep_their_own_statistics(calibrated):
    model = train("descriptor", norm="shared" if calibrated else "auto")
    if calibrated:
        calibrate(model, pixels(1), "B")
    shift_statistics(model)
    assert model.spec.norm == ("shared" if calibrated else "statistics")
    wider = with_channels(model, MORE)
    assert wider.spec.norm == model.spec.norm
    with torch.no_grad():
        for names in ("B", "R", "B,R"):
            images = pixels(names.count(",") + 1)
            expected = model(images, channels=names)
            torch.testing.assert_close(wider(images, channels=names), expected, rtol=1e-4, atol=1e-5)
    if not calibrated:
        mine, old = (next(m for m in one.modules() if isinstance(m, SubsetBatchNorm)) for one in (wider, model))
        for new, source in (("3", old.entries["0"]), ("0_3", old.entries["0"]), ("0_1", old.entries["1"])):
            assert torch.equal(mine.entries[new].running_mean, source.running_mean)
        for new in ("0", "0_2", "1_3", "1_2_3"):
            assert torch.equal(mine.entries[new].running_mean, old.shared.running_mean)


def test_statistics_of_the_old_subsets_go_along_to_more_channels_than_can_have_their_own(tmp_path):
    names = (*OWN.names, *"abcde")
    waves = (490.0, 665.0, 560.0, 700.0, 740.0, 780.0, 842.0)
    many = ChannelSet(names, mean=(100.0,) * 7, std=(50.0,) * 7, wavelengths_nm=waves)
    model = shift_statistics(train("descriptor"))
    wider = with_channels(model, many)
    assert wider.spec.norm == "shared"
    save_model(wider, tmp_path)
    with torch.no_grad():
        for names in ("B", "R", "B,R"):
            images = pixels(names.count(",") + 1)
            expected = model(images, channels=names)
            torch.testing.assert_close(wider(images, channels=names), expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(load_model(tmp_path)(images, channels=names), wider(images, channels=names))


def test_banks_and_half_known_wavelengths_are_refused():
    banked = create_model("compact_k7", channels=OWN, num_classes=3, norm="subset")
    with pytest.raises(ValueError, match="batch norms for the old channels' subsets"):
        with_channels(banked, MORE)
    with pytest.raises(ChannelError, match="channels must hold"):
        with_channels(train("static"), OWN.select("R"))
    with pytest.raises(ValueError, match="wavelengths are known for 1 of 2 channels; give one for every channel"):
        create_model("compact_k7", channels="R,thermal", num_classes=3, stem="descriptor")


def test_groups_go_along_and_new_channels_may_join_them():
    model = train(
        "static", ChannelSet(("B", "R"), (100.0, 90.0), (40.0, 50.0), MATRIX, (490.0, 665.0), groups={"c": "B"})
    )
    wider = with_channels(model, MORE.with_groups({"near": "NIR"}), new="nearest")
    assert wider.channels.members == {"near": ("NIR",), "c": ("B",)}
    assert wider.channels.group_subsets()[0] == wider.channels.full
