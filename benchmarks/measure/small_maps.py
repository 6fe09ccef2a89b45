"""The ``anychannel`` command, faster on a CPU: convolutions of small maps and their attention are matrix products.

    python -m benchmarks.measure.small_maps train --config recipes/quick.toml ...

oneDNN's bfloat16 convolutions run at a sixth of a matrix product's speed where a map is a few pixels wide, which at
42 x 42 pixels is the last stage of a ResNet. Here such a map is unfolded, (N, C, H, W) to (N H W, 9 C), and multiplied
by the kernel. Both ways sum in float32 and round once, so results differ as those of two runs do.

Self-attention over a few hundred positions takes half of the fused kernel's time in training where its weights, which
the fused kernel computes again for the gradients, are kept: (N, L, L) in bfloat16, 50 MB for 128 images of 441
positions.

This replaces the forward pass of ``torch.nn.Conv2d`` and ``SelfAttention.attend``, on the CPU under bfloat16 autocast,
and nothing else.

    python -m benchmarks.measure.small_maps --measure

times one training step of ResNet18 and of compact_k7 both ways, alternating, and prints the medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.models.attention import SelfAttention

LARGEST = 6
"""Edge of the largest map convolved as a matrix product; above it oneDNN's own kernels are as fast."""

MOST_POSITIONS = 512
"""Positions of the largest map whose attention keeps its weights, which take memory quadratic in them."""

IMAGES = 2
"""Images whose attention is computed at a time: as much as a core's cache holds."""

HALF = torch.bfloat16

own_forward = nn.Conv2d._conv_forward
own_attend = SelfAttention.attend


def unfold(maps: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Maps (N, C, H, W) as what the kernel meets at each of its places, (N, H', W', kh kw C)."""
    rows = F.pad(maps.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])).contiguous()
    number, height, width, channels = rows.shape
    height, width = ((edge - k) // s + 1 for edge, k, s in zip((height, width), kernel, stride, strict=True))
    image, row, column, _ = rows.stride()
    places = rows.as_strided(
        (number, height, width, kernel[0], kernel[1] * channels),
        (image, row * stride[0], column * stride[1], row, 1),
    )
    return places.reshape(number, height, width, -1)


class MatrixConvolution(torch.autograd.Function):
    """A convolution without bias, forwards and backwards as matrix products."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        out, _, *kernel = weight.shape
        rows = unfold(maps, tuple(kernel), stride, padding)
        ctx.save_for_backward(maps, rows, weight)
        ctx.stride, ctx.padding = stride, padding
        return (rows @ weight.permute(0, 2, 3, 1).reshape(out, -1).t()).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        maps, rows, weight = ctx.saved_tensors
        out, channels, *kernel = weight.shape
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        flat = gradient.permute(0, 2, 3, 1).reshape(-1, out)
        for_weight = (flat.t() @ rows.flatten(0, 2)).view(out, *kernel, channels).permute(0, 3, 1, 2)
        if ctx.stride == (1, 1):
            turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, channels)
            margin = (kernel[0] - 1 - ctx.padding[0], kernel[1] - 1 - ctx.padding[1])
            for_maps = (unfold(gradient, tuple(kernel), (1, 1), margin) @ turned).permute(0, 3, 1, 2)
        else:
            for_maps = torch.nn.grad.conv2d_input(maps.shape, weight, gradient, ctx.stride, ctx.padding)
        return for_maps, for_weight, None, None


class MatrixAttention(torch.autograd.Function):
    """softmax(Q K^T) V, forwards and backwards as matrix products; softmax in float32, products in bfloat16.

    What is constant over the positions that a query looks at changes no weight, and is taken out before anything is
    rounded: the keys' mean, and in the gradients of the products Q K^T the mean under the weights. As one product with
    two further columns this mean is subtracted before the sum is rounded, as in the fused kernel, not after.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = query.float(), key.float(), value.contiguous()
        key = key - key.mean(1, keepdim=True)
        images, positions, _ = value.shape
        weights = value.new_empty(images, positions, positions)
        attended = torch.empty_like(value)
        for some in blocks(images):
            weights[some] = torch.bmm(query[some], key[some].transpose(1, 2)).softmax(-1)
            torch.bmm(weights[some], value[some], out=attended[some])
        ctx.save_for_backward(query.to(HALF), key.to(HALF), value, weights, attended)
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, weights, attended = ctx.saved_tensors
        gradient = gradients[0].to(HALF).contiguous()
        mean = (gradient.float() * attended.float()).sum(-1, keepdim=True)
        rounded = mean.to(HALF)
        both = torch.cat([gradient, -rounded, (rounded.float() - mean).to(HALF)], -1)
        values = F.pad(value, (0, 2), value=1.0)
        for_query, for_key, for_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for some in blocks(len(value)):
            torch.bmm(weights[some].transpose(1, 2), gradient[some], out=for_value[some])
            products = torch.bmm(both[some], values[some].transpose(1, 2)).mul_(weights[some])
            torch.bmm(products, key[some], out=for_query[some])
            torch.bmm(products.transpose(1, 2), query[some], out=for_key[some])
        return for_query, for_key - for_key.float().mean(1, keepdim=True).to(HALF), for_value


def blocks(images: int) -> Iterator[slice]:
    """The images, a few at a time."""
    return (slice(start, start + IMAGES) for start in range(0, images, IMAGES))


def small_forward(self: nn.Conv2d, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``torch.nn.Conv2d``'s forward pass, small maps as matrix products."""
    small = (
        halved(maps)
        and max(maps.shape[2:]) <= LARGEST
        and self.groups == 1
        and self.dilation == (1, 1)
        and self.kernel_size != (1, 1)
        and isinstance(self.padding, tuple)
        and self.padding_mode == "zeros"
        and bias is None
    )
    if not small:
        return own_forward(self, maps, weight, bias)
    return MatrixConvolution.apply(maps.to(HALF), weight.to(HALF), self.stride, self.padding)


def small_attend(self: SelfAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``SelfAttention.attend``, that of small maps as matrix products where gradients will be asked for."""
    if not (halved(value) and value.shape[1] <= MOST_POSITIONS and torch.is_grad_enabled()):
        return own_attend(self, query, key, value)
    return MatrixAttention.apply(*(tensor.to(HALF) for tensor in (query, key, value)))


def halved(tensor: Tensor) -> bool:
    """Whether a CPU computes with it in bfloat16."""
    on_cpu = tensor.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return on_cpu and torch.get_autocast_dtype("cpu") == HALF


def install() -> None:
    """Use matrix products for small maps from here on."""
    nn.Conv2d._conv_forward = small_forward  # type: ignore[method-assign]
    SelfAttention.attend = small_attend  # type: ignore[method-assign]


def uninstall() -> None:
    """Use torch's own kernels again."""
    nn.Conv2d._conv_forward = own_forward  # type: ignore[method-assign]
    SelfAttention.attend = own_attend  # type: ignore[method-assign]


def measure(name: str, rounds: int = 7) -> None:
    """Time a training step of a network on 128 images of 42 x 42 pixels both ways."""
    from anychannel import create_model

    model = create_model(name, channels=["R", "G", "B"], num_classes=25, stem="static", channel_sampling=None)
    model = model.train().to(memory_format=torch.channels_last)
    images = torch.rand(128, 3, 42, 42).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(25, (128,))
    seconds: dict[str, list[float]] = {"own": [], "matrix": []}
    for turn in range(rounds + 1):
        for way, choose in (("own", uninstall), ("matrix", install)):
            choose()
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(images), labels)
            model.zero_grad()
            loss.backward()
            if turn:
                seconds[way].append(time.perf_counter() - start)
    own, matrix = (statistics.median(values) for values in seconds.values())
    times = f"{own:.3f} s a step, as products {matrix:.3f} s: {own / matrix:.2f} x faster"
    print(f"{name}, {torch.get_num_threads()} threads: {times}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        for network in ("resnet18", "compact_k7"):
            measure(network)
    else:
        from anychannel.cli import app

        install()
        app()
