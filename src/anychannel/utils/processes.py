"""Several processes that do one piece of work: who I am, what I take of it, what we tell each other.

A program is started as several by ``torchrun`` or ``accelerate launch``, one process a GPU (nccl) or, without GPUs,
some on the processor (gloo). Started alone, a program is its own main process, takes everything, and nothing here
communicates.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from anychannel.utils.hardware import choose_device

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long processes wait for each other; the main process may decode all images meanwhile."""


class ProcessError(ValueError):
    """Another process stopped, or the processes were started in a way that cannot work; the message says which."""


@dataclass(frozen=True)
class Share:
    """What one process takes of anything countable: items ``index``, ``index + count``, ``index + 2 count`` ...

    Args:
        index: the process, from 0; process 0 is the main one.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a process is one of 0 .. count - 1, got index {self.index} of {self.count}")

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the person."""
        return self.index == 0

    def before(self, position: int) -> int:
        """How many of this process's items lie below ``position``: its own number for the next one."""
        return -((self.index - position) // self.count)

    def rows(self, total: int) -> np.ndarray:
        """Positions in 0 .. total - 1 that this process takes, ascending."""
        return np.arange(self.index, total, self.count)


def join(device: str = "auto") -> torch.device:
    """Meet the other processes that this program was started as, if any, and say which device is this one's.

    Args:
        device: ``auto`` or a torch device, as ``choose_device`` takes; of several processes each gets the GPU of its
            number on its machine, whichever is named.

    Raises:
        ProcessError: the processes met before on another kind of device, or without telling how many they are.
        ValueError: the device is unknown or not there.
    """
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    chosen = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if share().count > 1:
            raise ProcessError(
                "torch.distributed is running, but RANK, LOCAL_RANK and WORLD_SIZE are not in the environment; "
                "start the program with torchrun or accelerate launch"
            )
        if PartialState(cpu=chosen.type == "cpu").device.type != chosen.type:  # an earlier training's
            AcceleratorState._reset_state(reset_partial_state=True)
        if chosen.type == "cuda" and chosen.index is not None:
            torch.cuda.set_device(chosen)
    found: torch.device = PartialState(cpu=chosen.type == "cpu", timeout=PATIENCE).device
    if found.type != chosen.type:
        raise ProcessError(
            f"these processes work together on {found.type}, but device {device!r} was asked for; use one kind of "
            "device in one program"
        )
    return found


def leave() -> Share:
    """Part from the other processes, once all have come this far; for the end of a program.

    Returns:
        The share that this process had.
    """
    own = share()
    if own.count > 1:
        dist.barrier()
        dist.destroy_process_group()
    return own


def share() -> Share:
    """This process among those that joined."""
    if dist.is_available() and dist.is_initialized():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share()


def average_gradients(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the module to call in training: its gradients are averaged over all processes.

    All processes start with the main one's weights and buffers. Which parameters a step uses depends on the subsets of
    its images and may differ between processes, so DistributedDataParallel looks for the unused ones at each step. A
    parameter that no process used keeps ``grad=None``, and momentum and weight decay leave it alone, as in one process.
    Buffers are not synchronised again: ``anychannel.nn.sync_batchnorm`` combines batch norm statistics.
    """
    if share().count == 1:
        return model
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
    with warnings.catch_warnings():
        # its new name, forward_sync_buffers, is not in every torch that this package runs on
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )


def add_up(values: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place."""
    if share().count > 1:
        dist.all_reduce(values)
    return values


def gather_rows(mine: np.ndarray, total: int, own: Share) -> np.ndarray:
    """Put together what every process made of its rows.

    Args:
        mine: (n, ...) results for ``own.rows(total)``, in that order; n may be 0.
        total: number of rows of all processes together.
        own: this process's share: ``share()``, or ``Share()`` where this process has everything.

    Returns:
        (total, ...) in the rows' order, on every process; each row once, and nothing else.

    Raises:
        ValueError: there are not as many results as rows.
    """
    expected = len(own.rows(total))
    if len(mine) != expected:
        raise ValueError(
            f"process {own.index} of {own.count} takes {expected} of {total} rows, got {len(mine)} results"
        )
    if own.count == 1:
        return mine
    most = Share(0, own.count).before(total)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    padded = torch.zeros(most, *mine.shape[1:], dtype=torch.from_numpy(mine).dtype)
    padded[:expected] = torch.from_numpy(mine)
    pieces = [torch.empty_like(padded, device=device) for _ in range(own.count)]
    dist.all_gather(pieces, padded.to(device))
    joined = torch.stack(pieces, dim=1).flatten(0, 1)  # row 0 of each process, then row 1 of each ...
    result: np.ndarray = joined[:total].cpu().numpy()
    return result


def tell_all(value: T) -> list[T]:
    """What every process has to tell, in the processes' order; all of them get the same."""
    own = share()
    if own.count == 1:
        return [value]
    told: list[T | None] = [None] * own.count
    dist.all_gather_object(told, value)
    return told  # type: ignore[return-value]  # each filled by the process that tells it


def on_main(make: Callable[[], T]) -> T:
    """Let the main process do something; all get its result, or fail with its message.

    Raises:
        ProcessError: in the other processes, when it failed in the main one.
    """
    own = share()
    if own.count == 1:
        return make()
    value, error = attempt(make) if own.is_main else (None, None)
    box: list[tuple[T | None, str | None]] = [(value, describe(error))]
    dist.broadcast_object_list(box)
    sent, message = box[0]
    raise_together(error, {0: message})
    return sent  # type: ignore[return-value]  # the main process's value, which pickle carried over


def main_first(make: Callable[[], T]) -> T:
    """Let each process do the same thing, the main one before the others; none goes on unless all have done it.

    So several nodes can share a disk without trusting its file locks: what the main process leaves there, the others
    find.

    Raises:
        ProcessError: in the processes that did not fail themselves, naming the one that did.
    """
    own = share()
    if own.count == 1:
        return make()
    value: T | None = None
    error: Exception | None = None
    for turn in (True, False):
        if own.is_main is turn:
            value, error = attempt(make)
        raise_together(error, dict(enumerate(tell_all(describe(error)))))
    return value  # type: ignore[return-value]  # made in this process's turn


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Say in plain words that an exchange failed because another process ended.

    Raises:
        ProcessError: in place of what the transport raises (gloo a RuntimeError, nccl a DistError).
    """
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, dist.DistError) or "onnection" in str(error)
        if share().count == 1 or not broken:
            raise
        raise ProcessError(f"another of the {share().count} processes stopped; its own message says why") from error


def attempt(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """The result, or the error."""
    try:
        return make(), None
    except Exception as error:  # it is raised again once the others know
        return None, error


def describe(error: Exception | None) -> str | None:
    """An error in words that the others can be told."""
    return None if error is None else str(error) or type(error).__name__


def raise_together(error: Exception | None, messages: dict[int, str | None]) -> None:
    """Raise this process's own error, or tell another's."""
    if error is not None:
        raise error
    for index, message in messages.items():
        if message is not None:
            raise ProcessError(f"process {index} stopped: {message}")
