"""Real processes that work together over gloo, kept alive between tests because starting one takes seconds."""

from __future__ import annotations

import os
import socket
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from tests.helpers.commands import SERVER


def torchrun_variables(count: int) -> list[dict[str, str]]:
    """What ``torchrun`` tells each of ``count`` processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return [shared | {"MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


class Team:
    """``count`` processes that each run the function they are sent, all at the same time.

    A function must be found by import; it is called with ``arguments`` in every process, between ``join`` and the next
    function.
    """

    def __init__(self, count: int) -> None:
        context = SERVER
        self.count = count
        pairs = [context.Pipe() for _ in range(count)]
        self.pipes: list[Connection] = [pair[0] for pair in pairs]
        self.processes = [
            context.Process(target=work, args=(pair[1], variables), daemon=True)
            for pair, variables in zip(pairs, torchrun_variables(count), strict=True)
        ]
        for process in self.processes:
            process.start()

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Each process's result, in their order.

        Raises:
            AssertionError: a process failed; the message holds its traceback.
        """
        answers = self.attempt(function, *arguments)
        for i, (good, answer) in enumerate(answers):
            assert good, f"process {i} of {self.count} failed:\n{answer}"
        return [answer for _, answer in answers]

    def attempt(self, function: Callable[..., Any], *arguments: Any) -> list[tuple[bool, Any]]:
        """For each process whether it came through, and its result or traceback."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        answers = []
        for pipe in self.pipes:
            assert pipe.poll(120), "a process gave no answer within two minutes"
            answers.append(pipe.recv())
        return answers

    def close(self) -> None:
        """Let the processes end."""
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(120)
            assert process.exitcode == 0


def work(pipe: Connection, variables: dict[str, str]) -> None:
    """What each process of a team does: join the others, then run what it is sent."""
    os.environ |= variables | {"OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    from anychannel.utils.processes import join, leave

    join("cpu")
    while (task := pipe.recv()) is not None:
        function, arguments = task
        try:
            pipe.send((True, function(*arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
    leave()
