"""Batch norms over processes against one batch norm that sees all images."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from anychannel.nn.channel_sampling import Part
from anychannel.nn.subset_batchnorm import SubsetBatchNorm, by_subset
from anychannel.nn.subset_context import subset_context
from anychannel.nn.sync_batchnorm import sync_batchnorm
from anychannel.utils.processes import share

SUBSETS = {"first": (0,), "second": (1,), "both": (0, 1)}


def make_bank():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).double()
    nn.init.uniform_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(1, 2)
    return SubsetBatchNorm(norm, by_subset, [by_subset(subset) for subset in SUBSETS.values()])


def make_images(count):
    return 5 + torch.randn(count, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def target(images):
    return (images * torch.linspace(-1, 1, images[0].numel(), dtype=torch.float64).view(images[0].shape)).sin()


def pass_through(bank, images, sizes, block):
    """Forward and backward; ``sizes`` counts the images of the first and of the second subset."""
    leaf = images.clone().requires_grad_()
    parts = [Part(SUBSETS["first"], 0, sizes[0]), Part(SUBSETS["second"], sizes[0], sum(sizes))]
    with block, subset_context(parts):
        result = bank(leaf)
    (result * target(images)).sum().backward()
    gradients = {name: value.grad for name, value in bank.named_parameters()}
    return result.detach(), leaf.grad, gradients


def in_processes(sizes_of, synchronise):
    """Process i holds the next ``sizes_of[i]`` images of each subset; first come all images of the first subset."""
    own = share()
    bank, images, rows = make_bank(), make_images(sum(map(sum, sizes_of))), []
    offset = 0
    for subset in (0, 1):
        for i, sizes in enumerate(sizes_of):
            rows += range(offset, offset + sizes[subset]) if i == own.index else ()
            offset += sizes[subset]
    with sync_batchnorm(synchronise=synchronise) as norms:
        results = pass_through(bank, images[rows], sizes_of[own.index], norms)
    return rows, (*results, bank.state_dict())


@pytest.mark.parametrize("sizes_of", [[(3, 2), (1, 4)], [(4, 0), (0, 3)], [(2, 3), (5, 0)]])
def test_statistics_and_gradients_are_those_of_one_process_whichever_process_shows_a_subset(sizes_of, pair):
    total = [sum(sizes[subset] for sizes in sizes_of) for subset in (0, 1)]
    images = make_images(sum(total))
    bank = make_bank()
    result, by_images, gradients = pass_through(bank, images, total, nullcontext())
    answers = pair.run(in_processes, sizes_of, True)
    for rows, (mine, my_gradient, _, my_state) in answers:
        torch.testing.assert_close(mine, result[rows])
        torch.testing.assert_close(my_gradient, by_images[rows])
        for name, value in bank.state_dict().items():
            torch.testing.assert_close(my_state[name], value, msg=name)
    for name, expected in gradients.items():
        found = [answer[1][2][name] for answer in answers]
        if expected is None:
            assert found == [None, None]
        else:
            torch.testing.assert_close(sum(found), expected)


def test_an_entry_that_no_process_shows_keeps_its_statistics(pair):
    before = make_bank().state_dict()
    for synchronise in (True, False):
        for _, (*_, state) in pair.run(in_processes, [(2, 1), (1, 3)], synchronise):
            for name in before:
                same = torch.equal(before[name], state[name])
                assert same == (name.startswith(("shared", "entries.0_1")) or name.endswith(("weight", "bias")))


@pytest.mark.parametrize("sizes_of", [[(3, 2), (1, 4)], [(4, 0), (0, 3)]])
def test_statistics_of_each_process_are_averaged_by_the_images_that_it_showed(sizes_of, pair):
    answers = pair.run(in_processes, sizes_of, False)
    images, before = make_images(sum(map(sum, sizes_of))), make_bank()
    for subset, entry in ((0, "0"), (1, "1")):
        running = before.entries[entry]
        mean, var, shown = torch.zeros(3).double(), torch.zeros(3).double(), 0
        for (rows, (result, *_)), sizes in zip(answers, sizes_of, strict=True):
            start = sizes[0] * subset
            mine = images[rows][start : start + sizes[subset]]
            if len(mine):
                mean += len(mine) * mine.mean((0, 2, 3))
                var += len(mine) * mine.transpose(0, 1).flatten(1).var(1)
                shown += len(mine)
                alone = F.batch_norm(mine, None, None, running.weight, running.bias, training=True)
                torch.testing.assert_close(result[start : start + sizes[subset]], alone)
        for _, (*_, state) in answers:
            for name, new in (("running_mean", mean / shown), ("running_var", var / shown)):
                expected = (getattr(running, name) + new) / 2  # of a first batch
                torch.testing.assert_close(state[f"entries.{entry}.{name}"], expected)


def normalise_large_values():
    images = 1e4 + torch.randn(64, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    norm = nn.BatchNorm2d(2, momentum=1.0)
    with sync_batchnorm() as norms, norms:
        result = norm(images[share().rows(64)])
    return result.detach().var(), norm.running_var, norm.num_batches_tracked.item(), dist.get_world_size()


def test_large_values_lose_nothing_to_cancellation(pair):
    for variance, running, batches, count in pair.run(normalise_large_values):
        torch.testing.assert_close(running, torch.ones(2), rtol=0.05, atol=0)
        assert float(variance) == pytest.approx(1, rel=0.05)
        assert (batches, count) == (1, 2)


def pass_single_values(images_of, synchronise):
    """The first subset has one value a feature over all processes, the second more."""
    norm = nn.BatchNorm2d(3).double()
    norm.running_mean.fill_(0.5)
    bank = SubsetBatchNorm(norm, by_subset, ["0", "1"])
    first, second = images_of[share().index]
    images = torch.arange(3.0 * (first + second), dtype=torch.float64).view(-1, 3, 1, 1)
    with sync_batchnorm(synchronise=synchronise) as norms:
        result, gradient, _ = pass_through(bank, images, (first, second), norms)
    return images[:first], result[:first], gradient[:first], bank.entries["0"].state_dict()


@pytest.mark.parametrize("synchronise", [True, False])
def test_one_value_a_feature_takes_the_running_statistics_as_in_one_process(synchronise, pair):
    answers = pair.run(pass_single_values, [(1, 2), (0, 3)], synchronise)
    for images, result, gradient, state in answers:
        torch.testing.assert_close(result, (images - 0.5) / (1 + 1e-5) ** 0.5)
        torch.testing.assert_close(gradient, target(images) / (1 + 1e-5) ** 0.5 if len(images) else images)
        assert torch.equal(state["running_mean"], torch.full((3,), 0.5).double())
        assert torch.equal(state["running_var"], torch.ones(3).double())
