"""The ``anychannel`` command, faster on a CPU: convolutions of small maps are matrix products.

    python benchmarks/small_maps.py train --config recipes/quick.toml ...

oneDNN's bfloat16 convolutions run at a sixth of a matrix product's speed where a map is a few pixels wide, which at
42 x 42 pixels is the last stage of a ResNet. Here such a map is unfolded, (N, C, H, W) to (N H W, 9 C), and multiplied
by the kernel. Both ways sum in float32 and round once, so results differ as those of two runs do. It replaces
``torch.nn.Conv2d``'s forward pass on the CPU under bfloat16 autocast and nothing else.

    python benchmarks/small_maps.py --measure

times one training step both ways, alternating, and prints the medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 6
"""Edge of the largest map computed as a matrix product; above it oneDNN's own kernels are as fast."""

own_forward = nn.Conv2d._conv_forward


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


def small_forward(self: nn.Conv2d, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``torch.nn.Conv2d``'s forward pass, small maps as matrix products."""
    small = (
        maps.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
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
    half = torch.bfloat16
    return MatrixConvolution.apply(maps.to(half), weight.to(half), self.stride, self.padding)


def install() -> None:
    """Use matrix products for small maps from here on."""
    nn.Conv2d._conv_forward = small_forward  # type: ignore[method-assign]


def uninstall() -> None:
    """Use torch's own convolutions again."""
    nn.Conv2d._conv_forward = own_forward  # type: ignore[method-assign]


def measure(rounds: int = 7) -> None:
    """Time a training step of ResNet18 on 128 images of 42 x 42 pixels both ways."""
    from anychannel import create_model

    model = create_model("resnet18", channels=["R", "G", "B"], num_classes=25, stem="static")
    model = model.train().to(memory_format=torch.channels_last)
    images = torch.rand(128, 3, 42, 42).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(25, (128,))
    seconds: dict[str, list[float]] = {"own": [], "matrix": []}
    for turn in range(rounds + 1):
        for name, choose in (("own", uninstall), ("matrix", install)):
            choose()
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(images), labels)
            model.zero_grad()
            loss.backward()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    own, matrix = (statistics.median(values) for values in seconds.values())
    ratio = own / matrix
    print(f"{torch.get_num_threads()} threads: {own:.3f} s a step, as products {matrix:.3f} s: {ratio:.2f} x faster")


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        measure()
    else:
        from anychannel.cli import app

        install()
        app()
