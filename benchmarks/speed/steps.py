"""Rows about training steps: what being adaptive costs, kernels for each image, compact networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.channels import ChannelSet
from anychannel.models import create_model
from anychannel.nn.channel_sampling import Sampler, create_sampler
from anychannel.nn.stems.base import ConvGeometry, StemShape
from anychannel.nn.stems.kernel_attention import KernelAttentionStem
from anychannel.training.optim import create_optimizer
from benchmarks.speed.timing import Row, compare, costs, faster, kept_bytes, take_turns

RGB = ChannelSet(
    ("R", "G", "B"),
    mean=(120.0, 115.0, 105.0),
    std=(60.0, 60.0, 60.0),
    correlation=((1, 0.9, 0.8), (0.9, 1, 0.9), (0.8, 0.9, 1)),
)


class Step:
    """A training step of a network on random images, in bfloat16 or float32."""

    def __init__(
        self, name: str, size: int, batch: int, sampler: str | None = None, *, bf16: bool = True, **options: Any
    ) -> None:
        self.bf16 = bf16
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        channels = options.setdefault("channels", RGB)
        model = create_model(name, num_classes=50, **options)
        self.model = model.to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = create_optimizer(self.model, lr=0.01)
        self.sampler: Sampler | None = None if sampler is None else create_sampler(sampler, channels)
        self.generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (batch, len(channels), size, size), device=self.device).float()
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(50, (batch,), device=self.device)

    def loss(self) -> Tensor:
        """One forward pass."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if self.sampler is None:
                logits = self.model(self.images)
            else:
                logits = self.model(self.images, parts=self.sampler(len(self.images), self.generator))
        return F.cross_entropy(logits.float(), self.labels)

    def __call__(self) -> None:
        loss = self.loss()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()


def default_step(rounds: int) -> Iterator[Row]:
    """Row 3."""
    torch.manual_seed(0)
    plain = Step("resnet18", 84, 64, stem="static", norm="shared", channel_sampling=None)
    ours = {"stem": "completion", "norm": "statistics"}
    ways = {
        "plain": plain,
        "fit's step": Step("resnet18", 84, 64, "split", channel_sampling=None, **ours),
        "one batch norm": Step("resnet18", 84, 64, "split", channel_sampling=None, stem="completion", norm="shared"),
        "any loop's step": Step("resnet18", 84, 64, channel_sampling="split", **ours),
    }
    seconds = take_turns(ways, rounds)
    what = "ResNet18, 84 x 84, batch 64, a training step with the defaults (completion, split, statistics)"
    yield costs("3a", f"{what} as in fit, against a plain step", seconds, "fit's step", "plain", 1.05)
    yield costs("3b", f"{what} drawn in forward, against a plain step", seconds, "any loop's step", "plain", 1.05)
    yield costs("3c", "The same in fit with one batch norm for all subsets", seconds, "one batch norm", "plain", 1.05)
    kept = [kept_bytes(step.model, step.loss) for step in (ways["fit's step"], plain)]
    yield compare("3d", f"{what}: bytes kept for the backward pass", {}, [kept[0] / kept[1]], 1, 1.05)


def per_image_kernels(rounds: int) -> Iterator[Row]:
    """Row 4: kernel attention over three channels, 84 x 84, forward and backward."""
    torch.manual_seed(0)
    stem = KernelAttentionStem(StemShape(3, 64, ConvGeometry((7, 7), (2, 2), (3, 3))))
    subset = (0, 1, 2)

    def condconv(images: Tensor) -> Tensor:
        """As timm's ``CondConv2d``: one convolution with a group for each image."""
        weights, kernels = stem.mixing_weights(images, subset), stem.basis_kernels(subset)
        mixed = (weights @ kernels.flatten(1)).view(-1, *kernels.shape[2:])
        grouped = images.reshape(1, -1, *images.shape[2:])
        found = F.conv2d(grouped, mixed, None, stem.geometry.stride, stem.geometry.padding, groups=len(images))
        return found.view(len(images), stem.out_chans, *found.shape[2:])

    def outputs(images: Tensor) -> Tensor:
        """Each kernel's output, mixed."""
        weights, kernels = stem.mixing_weights(images, subset), stem.basis_kernels(subset)
        found = F.conv2d(images, kernels.flatten(0, 1), None, stem.geometry.stride, stem.geometry.padding)
        return torch.einsum("bk,bkohw->bohw", weights, found.unflatten(1, (len(kernels), stem.out_chans)))

    for letter, batch in (("a", 1), ("b", 64)):
        images = torch.randn(batch, 3, 84, 84)
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "ours": lambda images: stem(images, subset),
            "a group for each image": condconv,
            "outputs mixed": outputs,
        }
        for way in ways.values():
            torch.testing.assert_close(way(images), stem(images, subset), rtol=1e-3, atol=1e-3)
        repeat = 20 if batch == 1 else 1
        runs = {name: repeated(lambda way=way, images=images: way(images), repeat) for name, way in ways.items()}
        seconds = take_turns(runs, rounds)
        fastest = [min(others) for others in zip(*list(seconds.values())[1:], strict=True)]
        ratios = [a / b for a, b in zip(seconds["ours"], fastest, strict=True)]
        what = f"kernel attention, 84 x 84, batch {batch}, forward and backward, against the fastest other form"
        yield compare(f"4{letter}", what, seconds, ratios, 1, 1.0)


def repeated(forward: Callable[[], Tensor], times: int) -> Callable[[], None]:
    """Forward and backward passes."""

    def run() -> None:
        for _ in range(times):
            torch.autograd.backward(forward().square().mean())

    return run


def compact_step(rounds: int) -> Iterator[Row]:
    """Row 6."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"stem": "static", "norm": "shared", "channel_sampling": None}
    steps = {
        "ours": Step("compact_k7", 84, 16, **options),
        "literal": Step("compact_k7", 84, 16, bf16=False, **options),
        "literal, bfloat16": Step("compact_k7", 84, 16, **options),
    }
    for name, step in steps.items():
        for module in step.model.modules():
            if hasattr(module, "literal"):
                module.literal = name != "ours"
    seconds = take_turns(steps, rounds)
    what = "compact_k7, 84 x 84, batch 16, a training step against bmm, softmax and bmm in "
    yield faster("6a", f"{what}float32", seconds, "ours", "literal", 2.0)
    kept = {name: kept_bytes(step.model, step.loss) for name, step in steps.items()}
    ratio = kept["literal"] / kept["ours"]
    yield compare("6b", f"{what}float32: bytes kept for the backward pass", {}, [ratio], 0, 8.0)
    yield faster("6c", f"{what}bfloat16", seconds, "ours", "literal, bfloat16", 1.0)
