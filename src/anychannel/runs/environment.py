"""The environment of a run: versions, device, commit and command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.version import __version__

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn")


def describe_environment(device_name: str = "auto", precision: str = "auto") -> dict[str, Any]:
    """Versions, hardware and commit, as plain values for ``environment.json``."""
    device = choose_device(device_name)
    return {
        "anychannel": __version__,
        "commit": current_commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": choose_precision(precision, device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_name() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def current_commit() -> str | None:
    """The git commit of this package's source tree, with ``+`` if it has changes; None outside a git repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        inside = git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "") if inside else None
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """The command that started this process, without the program's folder."""
    program = Path(sys.argv[0]) if sys.argv else Path("anychannel")
    module = program.name == "__main__.py"  # of `python -m PACKAGE`
    return shlex.join([*(("python", "-m", program.parent.name) if module else (program.name,)), *sys.argv[1:]])
