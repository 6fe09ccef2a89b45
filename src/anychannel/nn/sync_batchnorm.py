"""Batch norms over several processes.

    with sync_batchnorm() as norms:  # once a training
        with norms:  # each step
            logits = model(images)

Inside the block, a batch norm in training takes mean and variance over the images of all processes, as if one process
had them all; so do its running statistics and its gradients. A network's modules stay as they are: the mode intercepts
``F.batch_norm``, which torch's and timm's batch norms and every entry of a ``SubsetBatchNorm`` call.

Each process calls the same batch norms in the same order, even without an image for one (``SubsetBatchNorm`` ensures
it, since every process knows the parts of the whole batch). An entry that no process uses is not called and keeps its
statistics. Variances follow Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances", 1979; the gradient follows Ioffe and Szegedy, "Batch Normalization", ICML 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from anychannel.nn.module_utils import process_count


@contextmanager
def sync_batchnorm(*, synchronise: bool = True) -> Iterator[AbstractContextManager[object]]:
    """A context manager for each training step's forward pass; it does nothing in a single process."""
    if process_count() == 1:
        yield nullcontext()
        return
    group = dist.new_group()
    assert isinstance(group, dist.ProcessGroup)  # every process is in it
    yield SyncBatchNorm(group, synchronise=synchronise)
    dist.destroy_process_group(group)


@dataclass
class Followed:
    """A batch norm's running statistics, and copies of them that follow this process's ``images`` images alone.

    They are copies because autograd forbids changes in place of the forward pass's arguments.
    """

    running_mean: Tensor
    running_var: Tensor
    mean: Tensor
    var: Tensor
    images: int = 0


class SyncBatchNorm(TorchFunctionMode):
    """Makes the batch norms that are called inside its block work over all processes of a group.

    Args:
        group: the processes; not the default group, which exchanges gradients in another order.
        synchronise: take each batch's statistics over all processes. False normalises each process's images with their
            own statistics, which saves two exchanges for each batch norm and step. The running statistics become the
            processes' averages, weighted by their numbers of images, after the block.
    """

    def __init__(self, group: dist.ProcessGroup, *, synchronise: bool = True) -> None:
        super().__init__()
        self.group = group
        self.synchronise = synchronise
        self.followed: dict[int, Followed] = {}

    def __enter__(self) -> SyncBatchNorm:
        """Begin to intercept."""
        _active.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Intercept ``F.batch_norm``."""
        if func is F.batch_norm:
            return self.batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def batch_norm(
        self,
        images: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """``F.batch_norm``."""
        if training and self.synchronise:
            return self.normalise(images, running_mean, running_var, weight, bias, momentum, eps)
        if training and running_mean is not None and running_var is not None:
            fresh = Followed(running_mean, running_var, running_mean.clone(), running_var.clone())
            own = self.followed.setdefault(id(running_mean), fresh)
            running_mean, running_var = own.mean, own.var
            training = images.numel() != images.shape[1]  # one value a feature has no variance
            own.images += len(images) if training else 0
        if training and len(images) == 0:
            return images
        return F.batch_norm(images, running_mean, running_var, weight, bias, training, momentum, eps)

    def normalise(
        self,
        images: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """Normalise with the statistics of all processes' images, and update the running ones."""
        mean, squares, count = joint_moments(images, self.group)
        variance = squares / count
        if running_mean is not None and running_var is not None:
            alone = count == 1  # one value a feature has no variance, and is normalised by the running statistics
            unbiased = squares / (count - 1).clamp(min=1)
            followed = [
                torch.where(alone, running, (1 - momentum) * running + momentum * new.to(running.dtype))
                for running, new in ((running_mean, mean), (running_var, unbiased))
            ]
            mean, variance = torch.where(alone, running_mean, mean), torch.where(alone, running_var, variance)
            running_mean.copy_(followed[0])
            running_var.copy_(followed[1])
        scale = (variance + eps).rsqrt()
        result: Tensor = Normalise.apply(images, weight, bias, mean, scale, count, self.group)
        return result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Combine the running statistics that each process updated by itself."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        _active.remove(self)
        if kind is None and self.followed:
            combine_running(list(self.followed.values()), self.group)
        self.followed.clear()


_active: list[SyncBatchNorm] = []
"""The blocks that a pass is in."""


def is_synchronising(norm: nn.Module) -> bool:
    """Whether a batch norm in training exchanges its statistics, so that all processes have to call it."""
    return bool(_active) or (isinstance(norm, nn.SyncBatchNorm) and norm.training and process_count() > 1)


@torch.no_grad()
def joint_moments(images: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), sum of squared differences from it (C,) and count () over all processes' images (n, C, ...).

    Computed in at least float32 from each process's own moments, which avoids cancellation; n may be 0.
    """
    values = images.to(torch.promote_types(images.dtype, torch.float32))
    width = values.shape[1]
    count = values.numel() // width
    own = values.new_zeros(2 * width + 1)
    if count:
        variance, mean = torch.var_mean(values, dim=axes(values), correction=0)
        own = torch.cat([mean, variance * count, values.new_tensor([count])])
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, own, group=group)
    means, squares, counts = torch.split(torch.stack(everyone), [width, width, 1], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    return mean, squares.sum(0) + (counts * (means - mean).square()).sum(0), total


class Normalise(torch.autograd.Function):
    """(x - mean) * scale * weight + bias, where mean and scale are those of all processes' images."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        count: Tensor,
        group: dist.ProcessGroup,
    ) -> Tensor:
        """(n, C, ...) -> (n, C, ...) in the images' type."""
        ctx.save_for_backward(images, weight, mean, scale, count)
        ctx.group = group
        gain = scale if weight is None else scale * weight
        offset = -mean * gain if bias is None else bias - mean * gain
        result = torch.addcmul(spread_over(offset, images), images.to(gain.dtype), spread_over(gain, images))
        return result.to(images.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of this process's images, weight and bias; the sums behind them run over all processes' images."""
        images, weight, mean, scale, count = ctx.saved_tensors
        gradient = gradients[0].to(mean.dtype)
        normal = (images.to(mean.dtype) - spread_over(mean, images)) * spread_over(scale, images)
        over = axes(images)
        by_bias, by_weight = gradient.sum(over), (gradient * normal).sum(over)
        sums = torch.cat([by_bias, by_weight])
        dist.all_reduce(sums, group=ctx.group)
        first, second = (sums / count * (count > 1)).chunk(2)  # one value's statistics do not depend on it
        gain = scale if weight is None else scale * weight
        by_images = spread_over(gain, images) * (
            gradient - spread_over(first, images) - normal * spread_over(second, images)
        )
        wanted = ctx.needs_input_grad
        return (
            by_images.to(images.dtype),
            by_weight if wanted[1] else None,
            by_bias if wanted[2] else None,
            *(None,) * 4,
        )


@torch.no_grad()
def combine_running(norms: list[Followed], group: dist.ProcessGroup) -> None:
    """Set running statistics to the processes' averages, weighted by their numbers of images, in one exchange.

    All processes have the same batch norms in the same order. A batch norm without any image stays as it is.
    """
    own = [torch.cat([n.mean * n.images, n.var * n.images, n.mean.new_tensor([n.images])]) for n in norms]
    flat = torch.cat(own)
    dist.all_reduce(flat, group=group)
    for norm, sums in zip(norms, torch.split(flat, [len(piece) for piece in own]), strict=True):
        means, variances, images = torch.split(sums, [len(norm.mean), len(norm.var), 1])
        norm.running_mean.copy_(torch.where(images > 0, means / images, norm.running_mean))
        norm.running_var.copy_(torch.where(images > 0, variances / images, norm.running_var))


def axes(images: Tensor) -> list[int]:
    """All axes but the features'."""
    return [0, *range(2, images.ndim)]


def spread_over(values: Tensor, images: Tensor) -> Tensor:
    """Reshape (C,) values to broadcast over images (n, C, ...)."""
    return values.view(-1, *(1,) * (images.ndim - 2))
