"""Runs and recipes of strangers whose data are commands. The cases are part of the section ``hostile_models``."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import tomli_w

from anychannel.serve.service import Service
from benchmarks.faults.bomb_files import header_of
from benchmarks.faults.case import Case
from benchmarks.faults.small_run import SETTINGS, invoke, trained

SILENT = "Nothing that is read from a run or a recipe runs a command, whichever command of anychannel reads it."
FLAG = "A command in --data runs only if it is typed together with --allow-pipe, and the run does not remember it."
STREAMED = "serve never opens streamed data."


def addresses(mark: Path) -> dict[str, dict[str, Any]]:
    """Settings of data that would create a file, if they ran."""
    command, plain = f"touch {mark}", {"val": "val.tar", "test": "test.tar"}
    return {
        "data": {"data": f"wds:pipe:{command}", "data_options": plain},
        "val": {"data": "wds:train.tar", "data_options": plain | {"val": f"pipe:{command}"}},
        "test": {"data": "wds:train.tar", "data_options": plain | {"test": f"pipe:{command}"}},
        "braces": {"data": "wds:{pi,pu}pe:" + command, "data_options": plain},
        "second of two": {"data": f"wds:train.tar::pipe:{command}", "data_options": plain},
        "file:": {"data": f"wds:file:pipe:{command}", "data_options": plain},
        "allowed by itself": {"data": f"wds:pipe:{command}", "data_options": plain | {"allow_pipe": True}},
        "quotes": {"data": f"wds:https://127.0.0.1:9/a.tar';{command};'", "data_options": plain},
    }


def shards(folder: Path) -> None:
    """Shards of four images of each of two classes, for each split."""
    for number, split in enumerate(("train", "val", "test")):
        with (folder / f"{split}.tar").open("wb") as file:
            for i in range(8):
                pixels = io.BytesIO()
                np.save(pixels, np.random.default_rng(10 * number + i).integers(0, 255, (3, 8, 8), np.uint8))
                for name, content in ((f"{i}.npy", pixels.getvalue()), (f"{i}.cls", str(i % 2).encode())):
                    file.write(header_of(name, len(content)) + content + bytes(-len(content) % 512))
            file.write(bytes(1024))


def by_recipe(settings: dict[str, Any], folder: Path) -> None:
    (folder / "recipe.toml").write_text(tomli_w.dumps({"channels": ["R", "G", "B"], **SETTINGS, **settings}))
    common = ("train", "--config", folder / "recipe.toml", "--cache", folder / "cache", "--no-cost", "--quiet")
    assert invoke(*common, "--out", folder / "a")[0] == 2
    assert invoke(*common, "--out", folder / "b", "--allow-pipe")[0] == 2
    assert invoke(*common, "--out", folder / "c", "--allow-pipe", "--data", "wds:pipe:true")[0] == 2


def by_sweep(settings: dict[str, Any], folder: Path) -> None:
    (folder / "recipe.toml").write_text(tomli_w.dumps({"channels": ["R", "G", "B"], **SETTINGS, **settings}))
    (folder / "space.toml").write_text('"training.lr" = [0.1, 0.2]\n')
    found = invoke(
        "sweep", folder / "recipe.toml", "--space", folder / "space.toml", "--trials", 1, "--out", folder / "s"
    )
    assert found[0] != 0


def with_settings(settings: dict[str, Any], folder: Path) -> Path:
    """A copy of the run with other data."""
    run = Path(copytree(trained(), folder / "run"))
    values = {"channels": ["band_1", "band_2", "band_3"], "size": 8, **SETTINGS, **settings}
    (run / "config.toml").write_text(tomli_w.dumps({key: value for key, value in values.items() if value is not None}))
    return run


def by_evaluate(settings: dict[str, Any], folder: Path) -> None:
    run = with_settings(settings, folder)
    for more in ((), ("--split", "val"), ("--data", settings["data"])):
        assert invoke("evaluate", run, "--cache", folder / "cache", *more)[0] == 2


def by_resume(settings: dict[str, Any], folder: Path) -> None:
    run = with_settings(settings, folder)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"status": "running"}))
    found = invoke("train", "--config", run / "config.toml", "--out", run, "--resume", "--cache", folder / "cache")
    assert found[0] == 2


def by_serve(settings: dict[str, Any], folder: Path) -> None:
    for name, more in (
        ("a", {}),
        ("b", {"only_channels": ["band_1"]}),
        ("c", {"only_channels": ["band_1"], "channels": None}),
    ):
        (folder / name).mkdir()
        run = with_settings({**settings, **more}, folder / name)
        with suppress(ValueError):
            Service(run)


def by_reading(settings: dict[str, Any], folder: Path) -> None:
    run = with_settings(settings, folder)
    invoke("report", run)
    invoke("compare", run, run)
    invoke("predict", run, folder / "none.png")


ROUTES: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "train --config": by_recipe,
    "sweep": by_sweep,
    "evaluate": by_evaluate,
    "train --resume": by_resume,
    "serve": by_serve,
    "report, compare, predict": by_reading,
}


def check_silent(route: Callable[[dict[str, Any], Path], None], name: str, folder: Path) -> None:
    shards(folder)
    mark = folder / "mark"
    settings = addresses(mark)[name]
    options = {
        key: str(folder / value) if str(value).endswith(".tar") else value
        for key, value in settings["data_options"].items()
    }
    data = settings["data"].replace("wds:train.tar", f"wds:{folder}/train.tar")
    route({"data": data, "data_options": options}, folder)
    assert not mark.exists()


def check_typed(folder: Path) -> None:
    shards(folder)
    mark = folder / "mark"
    (folder / "recipe.toml").write_text(tomli_w.dumps({"channels": ["R", "G", "B"], **SETTINGS}))
    data = f"wds:pipe:touch {mark} && cat {folder}/train.tar"
    common = ["train", "--config", folder / "recipe.toml", "--data", data, "--cache", folder / "cache", "--no-cost"]
    for split in ("val", "test"):
        common += ["--set", f'data_options.{split}="{folder}/{split}.tar"']
    code, text = invoke(*common, "--out", folder / "run")
    assert code == 2, text
    assert "--allow-pipe" in text
    assert not mark.exists()
    code, text = invoke(*common, "--out", folder / "run", "--allow-pipe")
    assert code == 0, text
    mark.unlink()
    code, text = invoke("evaluate", folder / "run", "--cache", folder / "cache")
    assert code == 2, text
    assert not mark.exists()


def check_streamed(folder: Path) -> None:
    shards(folder)
    run = with_settings({"data": f"wds:{folder}", "only_channels": ["band_1"], "channels": None}, folder)
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    Service(run)
    assert str(run / "model.json") in opened
    assert not [path for path in opened if path.endswith(".tar")]


def cases() -> list[Case]:
    """Ways in which a run or recipe is read, by the places that a command may hide in."""
    found = [
        Case(
            SILENT,
            f"{name}, {route}",
            partial(check_silent, check, name),
            short=name == "data" and route == "train --config",
        )
        for name in addresses(Path("mark"))
        for route, check in ROUTES.items()
    ]
    return [*found, Case(FLAG, "train, evaluate", check_typed), Case(STREAMED, "wds:", check_streamed)]
