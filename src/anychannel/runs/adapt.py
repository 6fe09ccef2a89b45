"""Adapt a run's network, or published weights, to every subset of its channels with a folder of unlabelled images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from anychannel.data import appearance
from anychannel.data.input_images import Reader
from anychannel.data.unlabelled import read_folder
from anychannel.models import adapt, load_model, save_model
from anychannel.models.adapt import is_saved
from anychannel.models.saving import find_weights
from anychannel.models.view import as_view
from anychannel.results.run import RunError, read_record, warn_unfinished
from anychannel.runs.environment import command_line, describe_environment
from anychannel.runs.execute import NETWORK
from anychannel.runs.predict import find_reader
from anychannel.training import Adaptation, learn_unlabelled
from anychannel.utils.files import write_json
from anychannel.utils.options import check_options
from anychannel.utils.sizes import height_width

RECORD = "adaptation.json"
"""What was done, in the adapted network's folder."""


def adapt_folder(
    source: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    channels: str | None = None,
    size: int | None = None,
    adapt_options: Mapping[str, Any] | None = None,
    device: str = "auto",
    **options: Any,
) -> Adaptation:
    """Teach a trained network all subsets with unlabelled images, and write it as a folder.

    The folder can be used as a run's: evaluate, predict, serve and export take it. It has the settings of the run that
    the network comes from, if it comes from one, and ``adaptation.json``.

    Args:
        source: a run's folder or one of ``save_model``, a file of weights, or the name of a timm network, whose
            published weights are loaded.
        images: a folder of image files, or of scenes with a file for each band as the run's data. Images that lack a
            channel are not used.
        out: the new folder.
        model: the timm network that a file of weights is for.
        channels: of published weights or a file of weights: the channels that they were trained on, in their order;
            None means R, G, B. Of a run: the channels of files that the folder does not name, in order, ``-`` for one
            that is not used; None means the run's.
        size: height and width in pixels; None takes the run's, else the files'.
        adapt_options: options of ``adapt``.
        device, options: see ``learn_unlabelled``.

    Raises:
        RunError: ``out`` is not empty, or an argument does not go with the source.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not empty; choose a new folder for --out")
    saved = is_saved(source)
    network = open_network(source, model, channels, dict(adapt_options or {}))
    record = read_record(source) if saved and (Path(source) / "run.json").is_file() else None
    reader, bands = Reader(network.channels), None
    if record is not None:
        reader, bands = find_reader(Path(source), record, network.channels)
    if size is not None:
        reader = replace(reader, shape=height_width(size), size_was_set=True)
    if saved and channels is not None and bands is not None:
        raise RunError("--channels names the channels of files, and files with one band each tell it; leave it out")
    shown = read_folder(images, reader, channels=channels if saved else None, bands=bands)
    found = learn_unlabelled(network, shown, device=device, **options)
    out.mkdir(parents=True, exist_ok=True)
    save_model(found.model, out)
    if record is not None:
        copy_run(Path(source), record, out, as_view(found.model).spec.norm)
    adaptation = {
        "source": str(source),
        "command": command_line(),
        "images": found.images,
        "held_out": found.held_out,
        "passes": found.passes,
        "agreement": {key: asdict(each) for key, each in found.agreement.items()},
        "environment": describe_environment(device),
    }
    write_json(out / RECORD, adaptation)
    return found


def open_network(source: str | Path, model: str | None, channels: str | None, options: dict[str, Any]) -> Any:
    """The network to adapt; see ``adapt_folder``."""
    check_options(adapt, options, "adapt_options.", reserved=NETWORK)
    if is_saved(source):
        if model is not None or options:
            raise RunError(f"{source} says what its network is; leave out --model and --adapt-option")
        warn_unfinished(Path(source))
        return load_model(source, weights=find_weights(Path(source)))
    names = channels or "R,G,B"
    if Path(source).is_file():
        if model is None:
            raise RunError(f"{source} is a file of weights; say which network they are for (--model timm/resnet18)")
        return adapt(model, channels=names, source_channels=names, checkpoint=source, **options)
    if Path(source).exists() or model is not None:
        what = "is a folder without a network" if Path(source).is_dir() else "is not there"
        raise RunError(f"{source} {what}; give a run's folder, a file of weights, or the name of a timm network alone")
    return adapt(str(source), channels=names, source_channels=names, **options)


def copy_run(source: Path, record: Mapping[str, Any], out: Path, norm: str) -> None:
    """Copy what says how a run's images are read; its training and its evaluation are not the new network's."""
    for name in ("config.toml", appearance.FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    write_json(out / "run.json", {**record, "name": out.name, "adapted_from": str(source), "norm": norm})
