"""SIGINT (Ctrl-C) and SIGTERM at many moments of every long command."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.faults.case import Case
from benchmarks.faults.program import (
    FLAGS,
    Ended,
    at_call,
    check_resumed,
    check_weights,
    copy_of_run,
    run_program,
    send,
    train,
    undisturbed,
)

TRAIN = (
    "SIGINT or SIGTERM ends a training within 30 s with a checkpoint, and one line says how to continue. It then "
    "reaches bitwise the same weights."
)
COMMANDS = "SIGINT or SIGTERM ends every long command with exit code 130 or 143, one line and no half-written result."
TWICE = "A second signal ends the program at once, without a traceback."
TOGETHER = "Several processes end at the same step, and resume to bitwise the same weights."
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NAMES = (
    *("sweep", "compare --dedicated", "demo", "evaluate", "evaluate, decoding", "export", "export --check"),
    *("export hub", "profile", "predict", "report"),
)
MOMENTS = {
    "data.prepare.survey:progress_bar": (1,),
    "training.loop:train_step": (1, 3, 6),
    "training.validation:runs_of": (2, 3),
    "training.state:torch.save": (2,),
    "runs.execute:evaluate": (1,),
    "runs.execute:collect_examples": (1,),
}


def check_ended(ended: Ended, number: int, *, resume: str = " with --resume") -> None:
    """The exit code, the time, and one line that says how to continue."""
    assert ended.code == 128 + number, f"{ended.code}: {ended.text}"
    assert ended.seconds < 30 + 10, f"{ended.seconds:.0f} s"
    line = f"stopped by {signal.Signals(number).name}; to continue, start the same command again{resume}"
    assert ended.text.splitlines().count(line) == 1, ended.text
    assert "Traceback" not in ended.text
    assert "error" not in ended.text


def check_status(run: Path) -> None:
    if (run / "run.json").is_file():
        assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


def check_train(place: str, count: int, number: int, folder: Path) -> None:
    stop = at_call(place, count, partial(send, number))
    check_ended(train(undisturbed().images, folder, prepare=stop), number)
    check_status(folder / "run")
    check_resumed(folder)


def check_steps_kept(number: int, folder: Path) -> None:
    """Without checkpoints in between, the step that was running is the last one that is kept."""
    import torch

    stop = at_call("training.loop:train_step", 3, partial(send, number))
    ended = train(undisturbed().images, folder, "--set", "training.checkpoint_seconds=1000", prepare=stop)
    check_ended(ended, number)
    state = torch.load(folder / "run/checkpoint/state.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (0, 3)


def check_twice(place: str, count: int, numbers: tuple[int, int], folder: Path) -> None:
    """The second signal comes while the program still works on the first."""
    stop = at_call(place, count, partial(send, *numbers))
    ended = train(undisturbed().images, folder, prepare=stop)
    assert ended.code == 128 + numbers[1], f"{ended.code}: {ended.text}"
    assert "Traceback" not in ended.text
    check_resumed(folder)


def later(number: int) -> None:
    """Send a signal in half a second, while the program waits for something."""
    threading.Timer(0.5, send, [number]).start()


def commands(folder: Path) -> dict[str, tuple[tuple[Any, ...], str, int]]:
    """Each command with the function that it is in when the signal comes, and at which call."""
    run, images = folder / "run", undisturbed().images
    sweep_files = {
        "recipe.toml": f'data = "{images}"\nsize = 12\nmodel = "compact_k7"\nmodel_options = {{ width = 16 }}\n'
        "[training]\nepochs = 1\nbatch_size = 8\n",
        "space.toml": '"training.lr" = { low = 0.01, high = 0.1 }\n',
    }
    for name, text in sweep_files.items():
        (folder / name).write_text(text)
    cached = ("--cache", folder / "cache")
    space = ("--space", folder / "space.toml")
    sweep = ("sweep", folder / "recipe.toml", *space, "--trials", 2, "--out", folder / "sweep")
    dedicated = ("compare", run, "--dedicated", "--budget", "total", "--channels", "R", "--out", folder / "dedicated")
    step = "training.loop:train_step"
    return {
        "sweep": ((*sweep, *cached, "--quiet"), step, 3),
        "compare --dedicated": ((*dedicated, *cached, "--quiet"), step, 2),
        "demo": (("demo", "--out", folder / "demo", "--epochs", 1, "--quiet"), step, 2),
        "evaluate": (("evaluate", run, "--save", *cached), "runs.evaluate:evaluate", 1),
        "evaluate, decoding": (("evaluate", run, *cached), "data.prepare.survey:progress_bar", 1),
        "export": (("export", run, "--out", folder / "out" / "net.pt2"), "export.formats:torch.export.save", 1),
        "export --check": (("export", run, "--out", folder / "out" / "a.onnx", "--check"), "export.export:capture", 1),
        "export hub": (("export", run, "--format", "hub", "--out", folder / "out"), "models.saving:save_file", 1),
        "profile": (("profile", run, "--no-memory"), "cost.latency:time.perf_counter", 5),
        "predict": (("predict", run, images / "test/left/0.png"), "runs.predict:resize_valid", 1),
        "report": (("report", run, "--out", folder / "out" / "page.html"), "report.page:write_text", 1),
    }


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def check_command(name: str, number: int, folder: Path) -> None:
    home = copy_of_run(folder)
    before = contents(home)
    (folder / "out").mkdir()
    arguments, place, count = commands(folder)[name]
    stop = at_call(place, count, partial(send, number))
    ended = run_program(*arguments, prepare=stop)
    check_ended(ended, number, resume=" with --resume" if name == "sweep" else "")
    assert contents(home) == before
    assert {path.name for path in (folder / "out").rglob("*") if path.is_file()} <= {"model.json"}  # no weights
    for record in folder.glob("*/*/run.json"):
        check_status(record.parent)
    if name == "sweep":
        again = run_program(*arguments, "--resume")
        assert again.code == 0, again.text
        assert "best of 2 trials (2 finished, 0 pruned, 0 failed)" in again.text
    elif name == "compare --dedicated":
        again = run_program(*arguments)
        assert again.code == 0, again.text


def check_memory(number: int, folder: Path) -> None:
    """``profile`` waits for a process that measures memory, which ends too."""
    home = copy_of_run(folder)
    stop = at_call("cost.memory:subprocess.run", 1, partial(later, number))
    check_ended(run_program("profile", home, prepare=stop), number, resume="")
    assert (
        "anychannel.cost.memory"
        not in subprocess.run(
            ["ps", "-o", "args", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
        ).stdout
    )


def write_shards(folder: Path) -> Path:
    """The undisturbed run's images as three shards."""
    images = sorted((undisturbed().images).rglob("*.png"))
    folder.mkdir()
    for split in ("train", "val", "test"):
        chosen = [path for path in images if path.parts[-3] == split]
        for part in range(2):
            with tarfile.open(folder / f"{split}-{part}.tar", "w") as archive:
                for number, path in enumerate(chosen[part::2]):
                    label = str(int(path.parent.name == "right")).encode()
                    for suffix, content in (("png", path.read_bytes()), ("cls", label)):
                        entry = tarfile.TarInfo(f"{part}-{number}.{suffix}")
                        entry.size = len(content)
                        archive.addfile(entry, io.BytesIO(content))
    return folder


def check_workers(number: int, folder: Path) -> None:
    """A terminal sends the signal to the processes that read shards, too."""
    shards = write_shards(folder / "shards")
    arguments = ("train", "--data", f"wds:{shards}", "--cache", folder / "cache", *FLAGS)
    arguments += ("--channels", "R,G,B", "--set", "data_options.workers=2")

    def stop() -> None:
        os.setsid()
        at_call("training.loop:train_step", 6, lambda: os.killpg(0, number))()

    ended = run_program(*arguments, "--out", folder / "run", prepare=stop)
    check_ended(ended, number)
    check_status(folder / "run")
    for name, flags in (("run", ("--resume",)), ("whole", ())):
        again = run_program(*arguments, "--out", folder / name, *flags)
        assert again.code == 0, again.text
    check_weights(folder / "run", folder / "whole")


def start_together(folder: Path, *flags: str) -> subprocess.Popen[str]:
    """Two processes train together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "anychannel", "train", "--data", str(undisturbed().images), "--out", str(folder / "run"), *FLAGS]
    command += ["--epochs", "25", "--set", "training.checkpoint_seconds=1000", "--cache", str(folder / "cache"), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


@cache
def together() -> Path:
    """Train in two processes, undisturbed."""
    folder = Path(tempfile.mkdtemp(prefix="together-"))
    process = start_together(folder)
    text = process.communicate()[1]
    assert process.returncode == 0, text
    return folder / "run"


def check_together(number: int, group: bool, folder: Path) -> None:
    """``group`` sends the signal to every process, as a terminal does; otherwise the launcher alone gets it."""
    whole = together()
    process = start_together(folder)
    metrics = folder / "run/metrics.jsonl"
    while process.poll() is None and not metrics.is_file():
        time.sleep(0.02)
    started = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    text = process.communicate()[1]
    assert time.monotonic() - started < 30
    assert process.returncode != 0, text
    assert text.count("to continue, start the same command again with --resume") == 1, text
    check_status(folder / "run")
    again = start_together(folder, "--resume")
    text = again.communicate()[1]
    assert again.returncode == 0, text
    check_weights(folder / "run", whole)


def cases() -> list[Case]:
    found = []
    for number in SIGNALS:
        name = signal.Signals(number).name
        for place, counts in MOMENTS.items():
            for count in counts:
                check: Callable[[Path], None] = partial(check_train, place, count, number)
                short = (place, count, number) == ("training.validation:runs_of", 2, signal.SIGTERM)
                found.append(Case(TRAIN, f"{name} at {place} {count}", check, short))
        found.append(Case(TRAIN, f"{name} long after a checkpoint", partial(check_steps_kept, number)))
        found.append(Case(TRAIN, f"{name} with reading processes", partial(check_workers, number)))
        found.append(Case(COMMANDS, f"{name} to profile, measuring memory", partial(check_memory, number)))
    for position, name in enumerate(NAMES):
        number = SIGNALS[position % 2]
        found.append(Case(COMMANDS, f"{signal.Signals(number).name} to {name}", partial(check_command, name, number)))
    for place, count, numbers in (
        ("training.loop:train_step", 3, (signal.SIGINT, signal.SIGINT)),
        ("training.validation:runs_of", 1, (signal.SIGTERM, signal.SIGTERM)),
        ("training.state:torch.save", 2, (signal.SIGTERM, signal.SIGINT)),
        ("training.loop:close_epoch", 1, (signal.SIGINT, signal.SIGTERM)),
    ):
        case = Case(TWICE, f"at {place} {count}", partial(check_twice, place, count, numbers), short=count == 3)
        found.append(case)
    for number, group in ((signal.SIGINT, True), (signal.SIGTERM, False)):
        check = partial(check_together, number, group)
        found.append(Case(TOGETHER, f"{signal.Signals(number).name} {'to all' if group else 'to the launcher'}", check))
    return found
