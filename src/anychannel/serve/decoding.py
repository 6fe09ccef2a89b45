"""Decode uploads in processes of their own, each with a deadline and a limit on its memory.

A file that makes a decoder loop, crash or eat memory ends its process and nothing else. A program without threads, the
nursery, imports what decoding needs once and is forked for each process, so that a lost one is replaced within
milliseconds. What a process answers is JSON and pixels; the service unpickles nothing that it sends.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import Any, BinaryIO

import numpy as np
import torch

from anychannel.channels import ChannelError
from anychannel.data import DataError
from anychannel.data.content import digest_content
from anychannel.data.input_images import InputImage, Reader
from anychannel.data.limits import MAX_VALUES, VARIABLE
from anychannel.serve.images import OpenedImage, draw_image
from anychannel.serve.schemas import Image
from anychannel.utils.extras import MissingExtraError

PROCESSES = 2
SECONDS = 20.0
"""Deadline of one image."""
BYTES_A_VALUE, SPARE = 8, 2**27
"""Memory of one process, beyond its libraries: for each value of the largest image, and for the rest."""
CHUNK, LARGEST_ANSWER = 2**20, 2**30
PROGRAM = "from anychannel.serve.decoding import answer_forever; answer_forever()"
"""What the nursery runs. Its standard input is the socket on which the service asks for processes."""


class Decoder:
    """The processes. They start when they are first needed, end with the program, and serve several threads."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: list[Connection] = []

    def start(self) -> None:
        """Start the nursery, which takes seconds to import its libraries, if it does not run."""
        with self._lock:
            if self._nursery is not None and self._nursery.poll() is None:
                return
            self.close()
            atexit.register(self.close)
            self._control, there = socket.socketpair()
            path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
            with there:
                self._nursery = subprocess.Popen(
                    [sys.executable, "-P", "-c", PROGRAM],
                    stdin=there.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                    start_new_session=True,  # Ctrl+C in a terminal is for the service alone
                )

    def warm(self) -> None:
        """Wait until images can be decoded at once."""
        self._idle.append(self._take())

    def close(self) -> None:
        """End all processes. An image that is being decoded fails."""
        with self._lock:
            if self._nursery is not None and self._control is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._nursery.pid, signal.SIGKILL)
                self._nursery.wait()
                self._control.close()
            while self._idle:
                self._idle.pop().close()
            self._nursery = self._control = None

    def decode(
        self, reader: Reader, source: BinaryIO, name: str, channels: Sequence[str] | str, layout: str | None
    ) -> OpenedImage:
        """Read an image from a file, without taking all of it into memory here, and draw it; see ``Reader.open``.

        Raises DataError also if the image needs more time or memory than one may have, or crashes its process.
        """
        job = pickle.dumps((SECONDS, os.environ.get(VARIABLE, ""), reader, name, channels, layout))
        process, started = self._take(), monotonic()
        try:
            process.send_bytes(job)
            while chunk := source.read(CHUNK):
                process.send_bytes(chunk)
            process.send_bytes(b"")
            answer: dict[str, Any] = json.loads(process.recv_bytes(LARGEST_ANSWER))
            pixels = process.recv_bytes(LARGEST_ANSWER)
        except (EOFError, OSError) as error:
            process.close()
            late = monotonic() - started >= SECONDS
            what = f"took longer than {SECONDS:g} s" if late else "crashed the program that reads images"
            raise DataError(f"{name}: decoding it {what}; the file is probably damaged: replace it") from error
        self._idle.append(process)
        if "bug" in answer:
            raise RuntimeError(f"decoding {name} failed:\n{answer['bug']}")
        if "error" in answer:
            raise DataError(answer["error"])
        view = Image.model_validate(answer["view"])
        planes = np.frombuffer(pixels, answer["dtype"]).reshape(len(view.channels), *view.image_size).copy()
        names = tuple(channel.name for channel in view.channels)
        return OpenedImage(InputImage(name, names, planes, planes, answer["far"], tuple(answer["notes"])), view)

    def _take(self) -> Connection:
        """A process that waits for an image."""
        self.start()
        with suppress(IndexError):
            return self._idle.pop()
        here, there = socket.socketpair()
        process = Connection(here.detach())
        try:
            with there, self._lock:
                assert self._control is not None
                socket.send_fds(self._control, [b"1"], [there.fileno()])
            process.recv_bytes()
        except (EOFError, OSError) as error:
            process.close()
            self.close()  # the nursery ends, or cannot fork
            raise RuntimeError("the processes that decode images cannot be started; see the terminal") from error
        return process


DECODER = Decoder()
"""The decoder of this program, for all services in it."""


def answer_forever() -> None:
    """Fork a process for each socket that arrives; run in the nursery."""
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)  # the answer says what is wrong with a file
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    control = socket.socket(fileno=0)
    while handles := socket.recv_fds(control, 1, 1)[1]:
        if os.fork() == 0:
            try:
                control.close()
                answer_jobs(Connection(handles[0]))
            finally:
                os._exit(0)
        os.close(handles[0])


def answer_jobs(service: Connection) -> None:
    """Decode one image after the other until the service is gone."""
    with suppress(EOFError, OSError):
        service.send_bytes(b"ready")
        while True:
            seconds, os.environ[VARIABLE], *job = pickle.loads(service.recv_bytes())
            signal.setitimer(signal.ITIMER_REAL, seconds)  # ends this process, whatever it is doing
            answer, pixels = answer_job(b"".join(iter(service.recv_bytes, b"")), *job)
            service.send_bytes(json.dumps(answer).encode())
            service.send_bytes(pixels)
            signal.setitimer(signal.ITIMER_REAL, 0)


def answer_job(
    content: bytes, reader: Reader, name: str, channels: Sequence[str] | str, layout: str | None
) -> tuple[dict[str, Any], bytes]:
    """What ``Decoder.decode`` makes an image of, or why there is none."""
    identity = repr((digest_content(content), name, channels, layout))
    key = hashlib.blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    try:
        bound_memory()
        image = reader.open(content, channels, name=name, layout=layout)
        view = draw_image(image, reader.channels, key=key).view
    except MemoryError:
        return {"error": f"{name}: decoding it needs more memory than an image may have; cut or scale it down"}, b""
    except (ChannelError, DataError, MissingExtraError) as error:
        return {"error": str(error)}, b""
    except Exception:  # raised again in the service
        return {"bug": traceback.format_exc()}, b""
    facts = {"dtype": image.pixels.dtype.name, "far": dict(image.far), "notes": list(image.notes)}
    return facts | {"view": view.model_dump()}, image.pixels.tobytes()


def bound_memory() -> None:
    """Limit this process to what an image of the most values needs beyond what it holds now."""
    with suppress(OSError):  # no /proc on macOS
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = held + BYTES_A_VALUE * int(os.environ.get(VARIABLE) or MAX_VALUES) + SPARE
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
