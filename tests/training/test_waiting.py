"""Within a step, the host never waits for the device."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anychannel.nn.stems import STEMS
from anychannel.training.loop import train_step
from anychannel.training.settings import AUGMENTATIONS, MIXING, OFF
from anychannel.training.state import TrainingState
from anychannel.utils.processes import Share
from tests.helpers.training import SETTINGS, lacking, make_model, make_split

WAITING = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "unique_dim", "_unique2", "masked_select")
"""Operations whose result the host needs, so that it waits for everything before."""


class Watch(TorchDispatchMode):
    """Notes operations that would wait for a device which held these tensors and all that is computed from them."""

    def __init__(self, tensors):
        super().__init__()
        self.storages = {}
        self.waited = []
        for tensor in tensors:
            self.put_on_device(tensor)

    def put_on_device(self, tensor):
        storage = tensor.untyped_storage()
        self.storages[storage._cdata] = storage  # kept alive, so that no other storage gets its address

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        on_device = any(tensor.untyped_storage()._cdata in self.storages for tensor in tensors)
        if on_device and func.overloadpacket.__name__ in WAITING:
            self.waited.append(str(func))
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if on_device and isinstance(leaf, torch.Tensor):
                self.put_on_device(leaf)
        return result


class WatchLists(TorchFunctionMode):
    """Notes ``tolist`` of such tensors, which no dispatched operation shows on the CPU."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.tolist and args[0].untyped_storage()._cdata in self.watch.storages:
            self.watch.waited.append("tolist")
        return func(*args, **(kwargs or {}))


def waits(settings, split, model, teacher=None):
    """What two steps wait for, after a first one, in which a stem may note its channel set."""
    state = TrainingState(model, settings, batch_size=16, steps=3)
    found = []
    first, *others = split.batches(seed=0, epoch=0, batch_size=16, share=Share())
    train_step(state, model, first, len(first.places), teacher, nullcontext())
    for batch in others:
        networks = [model] if teacher is None else [model, teacher]
        tensors = [*(value for n in networks for value in n.state_dict().values()), batch.images, batch.labels]
        moments = [value for entry in state.optimizer.state.values() for value in entry.values()]
        with Watch([*tensors, *moments, state.counts, state.updates.streak]) as watch, WatchLists(watch):
            train_step(state, model, batch, len(batch.places), teacher, nullcontext())
        found += watch.waited
    assert state.counts[2] > 0
    return found


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("sampler", ["full", "split"])
def test_a_step_waits_for_nothing_with_every_stem(stem, sampler):
    if stem == "masked" and sampler != "full":
        pytest.skip("the masked stem learns one channel set")
    assert waits(replace(SETTINGS, sampler=sampler, jitter=0.1, flip=True), make_split(48, 1), make_model(stem)) == []


@pytest.mark.parametrize("norm", ["shared", "statistics"])
@pytest.mark.parametrize("split", [make_split(48, 1), lacking(48, 1)], ids=["whole", "lacking"])
@pytest.mark.parametrize("taught", [False, True])
def test_a_step_waits_for_nothing_with_average_distillation_and_missing_channels(norm, split, taught):
    settings = replace(SETTINGS, sampler="sandwich", distill=0.5, ema=0.9, optimizer="adamw", precision="bf16")
    settings = replace(settings, **(OFF | MIXING | AUGMENTATIONS["scenes"] | AUGMENTATIONS["strong"]))
    teacher = make_model("completion", seed=3).eval() if taught else None
    assert waits(settings, split, make_model("completion", norm=norm), teacher) == []


def test_waiting_is_noticed():
    values = torch.rand(3)
    with Watch([values]) as watch, WatchLists(watch):
        (values * 2).sum().item()
        (values * 2).tolist()
        torch.rand(3).sum().item()
        torch.rand(3).tolist()
    assert watch.waited == ["aten._local_scalar_dense.default", "tolist"]
