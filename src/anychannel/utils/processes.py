"""Several processes that share one piece of work: their rank, their share of it, and what they exchange.

``torchrun`` or ``accelerate launch`` start several processes, one for each GPU (nccl) or several on the CPU (gloo). A
program that is started alone is the main process, takes everything, and communicates with nobody.
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

from anychannel.utils.hardware import choose_device, start_reading, to_device
from anychannel.utils.signals import Interrupted, asked, check

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long processes wait for each other; the main process may decode all images meanwhile."""


class ProcessError(ValueError):
    """Another process stopped, or the processes were started in a way that cannot work; the message says which."""


@dataclass(frozen=True)
class Share:
    """One process's share of anything countable: items ``index``, ``index + count``, ``index + 2 count`` ...

    ``index`` is the process, from 0; process 0 is the main one. ``count`` is the number of processes.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a process is one of 0 .. count - 1, got index {self.index} of {self.count}")

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.index == 0

    def before(self, position: int) -> int:
        """The number of this process's items below ``position``."""
        return -((self.index - position) // self.count)

    def rows(self, total: int) -> np.ndarray:
        """Positions in 0 .. total - 1 that this process takes, ascending."""
        return np.arange(self.index, total, self.count)


def join(device: str = "auto") -> torch.device:
    """Connect to the other processes that this program was started as, if any. Returns this process's device.

    ``device`` is one for ``choose_device``. Each of several processes gets the GPU of its number on its machine,
    whichever GPU is named.
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
    """Disconnect from the other processes at the end of a program, once all are here. Returns this process's share."""
    own = share()
    if own.count > 1:
        dist.barrier()
        dist.destroy_process_group()
    return own


def share() -> Share:
    """This process's share."""
    if dist.is_available() and dist.is_initialized():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share()


def average_gradients(model: nn.Module, device: torch.device) -> nn.Module:
    """The module to call in training, whose gradients are averaged over all processes.

    All processes start with the main one's weights and buffers. The subsets of a step's images decide which parameters
    it uses. These may differ between processes, so DistributedDataParallel looks for unused ones at each step. A
    parameter that no process used keeps ``grad=None``, so that momentum and weight decay skip it, as in one process.
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


class Ending:
    """Interrupts all processes between the same two steps, once a signal has come to one of them.

    With several processes the host reads one step late, so that it does not wait for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.read: Callable[[], int] = lambda: 0

    def check(self) -> None:
        """Raise ``Interrupted`` if a signal has come; every process calls this after each step."""
        if share().count == 1:
            check()
            return
        if number := self.read():
            raise Interrupted(number)
        found = to_device(torch.tensor(asked()), self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        self.read = start_reading(found)


def check_all() -> None:
    """Raise ``Interrupted`` in all processes if a signal has come to one of them."""
    if number := max(tell_all(asked())):
        raise Interrupted(number)


def gather_rows(mine: np.ndarray, total: int, own: Share) -> np.ndarray:
    """Collect all processes' results (total, ...) on every process, in the rows' order.

    ``mine`` holds the results (n, ...) for ``own.rows(total)``, in that order; n may be 0. ``own`` is ``share()``, or
    ``Share()`` if this process has all rows.
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
    """Every process's value, in the processes' order, on every process."""
    own = share()
    if own.count == 1:
        return [value]
    values: list[T | None] = [None] * own.count
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # each is filled by its process


def on_main(make: Callable[[], T]) -> T:
    """Call ``make`` in the main process. All processes get its result, or a ProcessError with its message."""
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
    """Call ``make`` in each process, first in the main one. If one fails, all fail, and the others name it.

    Several nodes can so share a disk without file locks: the others find what the main process wrote there.
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
    """Raise a ProcessError if an exchange fails because another process ended.

    The transports raise different errors then: gloo a RuntimeError, nccl a DistError. If a signal asked this process to
    end too, it raises ``Interrupted``.
    """
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, dist.DistError) or "onnection" in str(error)
        if share().count == 1 or not broken:
            raise
        check()
        raise ProcessError(f"another of the {share().count} processes stopped; its own message says why") from error


def attempt(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """The result, or the error."""
    try:
        return make(), None
    except Exception as error:  # it is raised again once the others know
        return None, error


def describe(error: Exception | None) -> str | None:
    """The message of an error, for the other processes."""
    return None if error is None else str(error) or type(error).__name__


def raise_together(error: Exception | None, messages: dict[int, str | None]) -> None:
    """Raise this process's own error, else a ProcessError with the first message of another."""
    if error is not None:
        raise error
    for index, message in messages.items():
        if message is not None:
            raise ProcessError(f"process {index} stopped: {message}")
