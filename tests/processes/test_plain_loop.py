"""A plain loop under DistributedDataParallel, with nothing of ours but ``adapt``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

import anychannel as ac
from anychannel.utils.processes import share


def make() -> Any:
    """A network whose norm does not depend on the batch."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(8, 4))
    return ac.adapt(network, channels="R,G,B,NIR", source_channels="imagenet")


def train() -> tuple[dict[str, Tensor], list[list[str]]]:
    """Four steps on this process's rows of batches of twelve; the weights, and the subsets that its rows showed."""
    own, model, shown = share(), make(), []
    network = model if own.count == 1 else DistributedDataParallel(model)
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        images = torch.randint(0, 256, (12, 4, 16, 16), generator=generator, dtype=torch.uint8)[own.index :: own.count]
        labels = torch.randint(0, 4, (12,), generator=generator)[own.index :: own.count]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        shown.append(model.last_subsets)
    return model.state_dict(), shown


def test_two_processes_show_and_learn_what_one_does(pair):
    weights, shown = train()
    for rank, (others, rows) in enumerate(pair.run(train)):
        assert rows == [step[rank :: pair.count] for step in shown]
        for name, value in weights.items():
            torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-5)
