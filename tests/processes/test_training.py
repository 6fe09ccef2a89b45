"""Two processes with half of each batch end where one process with all of it ends.

Compared in double precision, where the order of additions does not matter: a batch norm over a few values multiplies
float32's rounding by so much that two such runs part within an epoch, as they do when one changes the number of
threads. One test compares float32 where the network is well conditioned.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from anychannel.data import Split
from anychannel.evaluation import evaluate
from anychannel.models import create_model
from anychannel.nn.channel_sampling import SAMPLERS
from anychannel.nn.stems import STEMS
from anychannel.nn.subset_batchnorm import NORMS
from anychannel.training import TrainingError, fit
from tests.helpers.torch_data import Dictionaries, Flow, Pairs
from tests.helpers.training import (
    CHANNELS,
    SETTINGS,
    UNEVEN,
    assert_close,
    draw_present,
    lacking,
    make_split,
    plain_model,
)

TRAIN, VAL = make_split(48, 1), make_split(17, 2)


def trained(settings, model=None, *, double=True, train=TRAIN, val=VAL, **options):
    """Weights and metrics after training a network from seed 0."""
    choices = {"model": "compact_k7", "stem": "completion", "norm": "shared"} | (model or {})
    name = choices.pop("model")
    torch.manual_seed(0)
    sizes = {"width": 16} if name.startswith("compact") else {}
    network = create_model(name, channels=CHANNELS, num_classes=4, model_options=sizes, **choices)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network = network.double() if double else network
    rows = fit(network, train, val, settings, **options).rows
    figures = [{key: value for key, value in row.items() if "second" not in key} for row in rows]
    after = network.state_dict()
    untouched = [key for key, value in before.items() if torch.equal(after[key].to(value.dtype), value)]
    return after, figures, untouched


@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem != "masked"])
def test_two_processes_train_every_stem_as_one_does(stem, pair):
    settings = replace(UNEVEN, sampler="split")
    assert_close(pair.run(trained, settings, {"stem": stem}), trained(settings, {"stem": stem}))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_processes_train_with_every_sampler_as_one_does(sampler, pair):
    settings = replace(UNEVEN, sampler=sampler, distill=0.5 if sampler == "sandwich" else 0.0)
    assert_close(pair.run(trained, settings), trained(settings))


@pytest.mark.parametrize("norm", NORMS)
def test_different_subsets_in_each_process_stay_right_for_every_norm(norm, pair):
    """Nine parts of one or two images: most subsets are shown by one process alone, some by none."""
    settings = replace(UNEVEN, sampler="dropout", sampler_options={"drop": 0.4, "parts": 9})
    model = {"norm": norm, "stem": "per_size"}
    one = trained(settings, model)
    assert_close(pair.run(trained, settings, model), one)


def test_unsynchronised_norms_train_and_all_processes_end_with_the_same_weights(pair):
    settings = replace(UNEVEN, sync_norm=False, sampler="dropout", sampler_options={"parts": 9})
    model = {"norm": "subset"}
    first, second = pair.run(trained, settings, model)
    assert_close([second], first, 0)
    synchronised = trained(settings, model)
    name = "backbone.bn1.shared.running_mean"
    torch.testing.assert_close(first[0][name], synchronised[0][name], rtol=0.1, atol=0.05)
    assert not torch.equal(first[0][name], synchronised[0][name])


def test_what_no_process_uses_keeps_its_weights(pair):
    model = {"norm": "size", "stem": "per_size"}
    one = trained(UNEVEN, model)
    several = pair.run(trained, UNEVEN, model)
    assert_close(several, one)
    moving = ("running_mean", "running_var")  # with the full set's
    entries = [name for name in one[0] if ".entries." in name and not name.endswith(moving)]
    assert entries
    assert set(entries) <= set(several[0][2])


def test_three_processes_with_averaged_weights_and_timms_batch_norm_train_as_one_does(trio):
    settings = replace(UNEVEN, ema=0.9, sampler="sandwich", optimizer="adamw", lr=1e-3)
    model = {"model": "timm/test_efficientnet"}
    assert_close(trio.run(trained, settings, model), trained(settings, model), 1e-6)


def test_in_float32_the_weights_agree_to_rounding(pair):
    settings = replace(UNEVEN, epochs=2, sampler="split", lr=1e-3)
    one = trained(settings, double=False)
    assert_close(pair.run(trained_in_float32, settings), one, 1e-4)


@pytest.mark.parametrize(("sampler", "norm"), [("full", "shared"), ("split", "statistics"), ("sandwich", "shared")])
def test_two_processes_train_on_images_that_lack_channels_as_one_does(sampler, norm, pair):
    settings = replace(UNEVEN, sampler=sampler, distill=0.5 if sampler == "sandwich" else 0.0)
    assert_close(pair.run(trained_on_lacking, settings, norm), trained_on_lacking(settings, norm))


@pytest.mark.parametrize(
    ("sampler", "stem"),
    [("split", "completion"), ("sandwich", "per_size"), ("dropout", "per_size"), ("uniform_size", "descriptor")],
)
def test_two_processes_add_up_the_gradients_of_several_batches_as_one_does(sampler, stem, pair):
    assert_close(pair.run(trained_in_pieces, sampler, stem), trained_in_pieces(sampler, stem))


def trained_in_pieces(sampler, stem):
    """Without batch norms, so that it does not matter which images are in a piece."""
    options = {"drop": 0.4, "parts": 3} if sampler == "dropout" else {}
    settings = replace(UNEVEN, batch_size=8, accumulate=2, sampler=sampler, sampler_options=options)
    model = plain_model(stem)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rows = fit(model, TRAIN, VAL, settings).rows
    figures = [{key: value for key, value in row.items() if "second" not in key} for row in rows]
    after = model.state_dict()
    return after, figures, [key for key, value in before.items() if torch.equal(after[key], value)]


@pytest.mark.parametrize("norm", ["shared", "subset", "statistics"])
def test_pieces_of_a_step_keep_batch_norms_of_two_processes_together(norm, pair):
    settings = replace(UNEVEN, batch_size=8, accumulate=3, sampler="dropout", sampler_options={"parts": 4, "drop": 0.4})
    first, second = pair.run(trained, settings, {"norm": norm, "stem": "per_size"})
    assert_close([second], first, 0)
    assert all(value.isfinite().all() for value in first[0].values() if value.is_floating_point())


@pytest.mark.parametrize("kind", ["data set", "loader", "partial", "flow"])
def test_two_processes_train_on_pytorchs_data_as_one_does(kind, pair):
    settings = replace(SETTINGS, epochs=1, sampler="split", batch_size=16, lr=0.01)
    assert_close(pair.run(trained_on_torch_data, settings, kind), trained_on_torch_data(settings, kind))


def trained_on_torch_data(settings, kind):
    data = Dictionaries(48, present=draw_present(48, 1) if kind == "partial" else None)
    sources = {"loader": DataLoader(data, 16, shuffle=True), "flow": Flow(data)}
    return trained(settings, train=sources.get(kind, data), val=DataLoader(Dictionaries(17, 2), 6))


def test_a_distributed_sampler_gives_each_process_its_own_images(pair):
    first, second = pair.run(trained_with_distributed_sampler)
    assert_close([second], first, 0)
    with pytest.raises(AssertionError, match="a DistributedSampler repeats images; give the Dataset"):
        pair.run(evaluated_with_distributed_sampler)


def distributed_loader():
    data = Pairs(48)
    return DataLoader(data, 8, sampler=DistributedSampler(data))


def trained_with_distributed_sampler():
    settings = replace(SETTINGS, epochs=2, sampler="split", batch_size=8, lr=0.01, accumulate=2)
    return trained(settings, train=distributed_loader(), val=DataLoader(Dictionaries(17, 2), 6))


def evaluated_with_distributed_sampler():
    model = create_model("compact_k7", channels=CHANNELS, num_classes=4, model_options={"width": 16})
    return evaluate(model, distributed_loader(), distributed=True)


def test_two_processes_evaluate_a_loader_as_one_does(pair):
    one = evaluated(distributed=False)
    for found in pair.run(evaluated):
        assert found[0] == one[0]
        np.testing.assert_allclose(found[1], one[1], atol=1e-5)


def evaluated(distributed=True):
    torch.manual_seed(0)
    model = create_model("compact_k7", channels=CHANNELS, num_classes=4, model_options={"width": 16})
    data = Dictionaries(17, 2, present=draw_present(17, 2))
    found = evaluate(model, DataLoader(data, 5, shuffle=True), distributed=distributed)
    return (found.labels.tolist(), found.paths, found.present.tolist()), found.probabilities["R"]


def trained_on_lacking(settings, norm):
    return trained(settings, {"norm": norm}, train=lacking(48, 1, np.nan), val=lacking(17, 2, np.nan))


def trained_in_float32(settings):
    return trained(settings, double=False)


def resumed(settings, folder, kill_at):
    """Train in one go; and killed at a step, then resumed. Both from the same folder's parent."""
    from anychannel.training import loop

    whole = trained(settings, folder=folder / "whole")
    original, calls = loop.augment, 0

    def augment_until_killed(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls > kill_at:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    loop.augment = augment_until_killed
    try:
        trained(settings, folder=folder / "killed")
    except KeyboardInterrupt:
        pass
    finally:
        loop.augment = original
    again = trained(settings, folder=folder / "killed", resume=True)
    same = all(torch.equal(whole[0][name], value) for name, value in again[0].items())
    return same, whole[1] == again[1]


@pytest.mark.parametrize("kill_at", [2, 4])
def test_a_killed_run_of_two_processes_resumes_to_bitwise_the_same_weights(kill_at, pair, tmp_path):
    settings = replace(UNEVEN, epochs=2, sampler="dropout", ema=0.9, checkpoint_seconds=0)
    assert pair.run(resumed, settings, tmp_path, kill_at) == [(True, True)] * 2
    assert len((tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()) == 2


def test_only_the_main_process_writes(pair, tmp_path):
    folders = pair.run(train_in_own_folder, tmp_path)
    assert {path.name for path in folders[0].iterdir()} >= {"metrics.jsonl", "weights", "checkpoint", "model.json"}
    assert not folders[1].exists()
    assert json.loads((folders[0] / "metrics.jsonl").read_text())["epoch"] == 1


def train_in_own_folder(parent):
    from anychannel.utils.processes import share

    folder = parent / str(share().index)
    trained(UNEVEN, folder=folder)
    return folder


@pytest.mark.parametrize("poisoned", [[], [11], range(48)])
def test_processes_agree_on_which_steps_are_skipped(poisoned, pair):
    images = TRAIN.images.astype(np.float32)
    images[poisoned] = np.nan
    answers = pair.run(train_on, UNEVEN, Split(images, TRAIN.labels, TRAIN.paths))
    one = train_on(UNEVEN, Split(images, TRAIN.labels, TRAIN.paths))
    if len(poisoned) == 48:
        assert "in 3 steps in a row, computed in fp32; the last was epoch 1, batch 3" in one
        assert answers == [one] * 2
    else:
        assert_close(answers, one)
        assert one[1][0]["skipped_steps"] == len(poisoned)


def train_on(settings, split):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "epoch 1: 1 step skipped")
        try:
            return trained(settings, train=split)
        except TrainingError as error:
            return str(error)


def test_a_batch_smaller_than_the_number_of_processes_is_refused(trio):
    for good, answer in trio.attempt(trained, replace(UNEVEN, batch_size=2)):
        assert not good
        assert "a batch of 2 images is too small for 3 processes; raise batch_size" in answer
