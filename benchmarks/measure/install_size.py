"""Measure how large the package and each of its extras is, and how long installing takes.

    python -m benchmarks.measure.install_size                  everything, in new virtual environments
    python -m benchmarks.measure.install_size --only geo wds   these extras again; the others' figures stay
    python -m benchmarks.measure.install_size --print          the table of docs/install.md, from the committed result

The base is ``pip install .`` into an empty environment. Each extra is then installed into an environment of its own
that sees the base's packages, so that what is counted is what this extra adds to the base; packages that two extras
share are counted with both. Sizes are those of the files in site-packages, without pip's own, with compiled ``.pyc``.
Times include the download, as pip's cache is off. The result goes to ``benchmarks/results/install_size.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

from anychannel.utils.files import write_json

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "install_size.json"
OWN = re.compile(r"anychannel\[(.+)\]")


def read_extras() -> dict[str, list[str]]:
    """The requirements of each extra of pyproject.toml; extras that an extra is made of are written out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared: dict[str, list[str]] = project["optional-dependencies"]

    def expand(name: str) -> list[str]:
        found: list[str] = []
        for requirement in declared[name]:
            own = OWN.fullmatch(requirement)
            found += [inner for extra in own[1].split(",") for inner in expand(extra)] if own else [requirement]
        return found

    return {name: expand(name) for name in declared}


def make_environment(folder: Path, base: Path | None = None) -> Path:
    """A new virtual environment that sees ``base``'s packages, if any; its site-packages."""
    venv.create(folder, with_pip=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    if base is not None:
        (packages / "base.pth").write_text(f"{base}\n", encoding="utf-8")
    return packages


def count_bytes(packages: Path) -> int:
    """Size of all files below a folder."""
    return sum(file.lstat().st_size for file in packages.rglob("*") if file.is_file() and not file.is_symlink())


def count_packages(packages: Path) -> int:
    """Number of installed distributions."""
    return len(list(packages.glob("*.dist-info")))


def measure(folder: Path, requirements: list[str], base: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Install into a new environment; what that added and took, and the environment's site-packages."""
    packages = make_environment(folder, base)
    bytes_before, packages_before = count_bytes(packages), count_packages(packages)
    started = time.monotonic()
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    subprocess.run([*pip, "--disable-pip-version-check", *requirements], check=True, cwd=ROOT)
    seconds = time.monotonic() - started
    return {
        "packages": count_packages(packages) - packages_before,
        "megabytes": round((count_bytes(packages) - bytes_before) / 1e6, 1),
        "seconds": round(seconds, 1),
    }, packages


def largest(packages: Path, most: int = 3) -> dict[str, float]:
    """The largest folders of site-packages, in megabytes."""
    sizes = {folder.name: count_bytes(folder) / 1e6 for folder in packages.iterdir() if folder.is_dir()}
    return {name: round(sizes[name], 1) for name in sorted(sizes, key=lambda name: -sizes[name])[:most]}


def render(result: dict[str, Any]) -> str:
    """Return the table of docs/install.md."""
    lines = ["| install | packages | MB | seconds |", "|---|---:|---:|---:|"]
    rows = {"`pip install .`": result["base"]} | {f"`[{name}]` adds": row for name, row in result["extras"].items()}
    for name, row in rows.items():
        size = row["megabytes"]
        lines.append(f"| {name} | {row['packages']} | {size:,.{int(size < 10)}f} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write the result, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="EXTRA", help="measure just these extras again, and the base")
    parser.add_argument("--print", action="store_true", help="measure nothing")
    chosen = parser.parse_args()
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"extras": {}}
    if not chosen.print:
        extras = read_extras()
        unknown = set(chosen.only or ()) - set(extras)
        if unknown:
            parser.error(f"unknown extra {sorted(unknown)[0]!r}; the extras are {', '.join(extras)}")
        with tempfile.TemporaryDirectory(prefix="install-size-") as temporary:
            base, packages = measure(Path(temporary, "base"), ["."])
            found = {
                name: row
                for name, row in before["extras"].items()
                if name in extras and name not in (chosen.only or extras)
            }
            result = {
                "command": "python -m benchmarks.measure.install_size",
                "python": platform.python_version(),
                "platform": f"{platform.system()} {platform.machine()}",
                "date": time.strftime("%Y-%m-%d"),
                "base": base | {"largest": largest(packages)},
                "extras": found,
            }
            for name in chosen.only or extras:
                found[name] = measure(Path(temporary, name), extras[name], packages)[0]
                print(name, found[name], file=sys.stderr, flush=True)
            result["extras"] = {name: found[name] for name in extras if name in found}
        write_json(RESULT, result)
        before = result
    print(render(before))


if __name__ == "__main__":
    main()
