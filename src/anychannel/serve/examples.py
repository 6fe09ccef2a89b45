"""Example images of a run: the test images that its ``examples.json`` names, read again from its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data import DataError
from anychannel.data.content import read_content
from anychannel.data.sources.registry import SOURCES, find_folder, open_source, split_address
from anychannel.data.sources.source import Request
from anychannel.results.run import Example, Run
from anychannel.runs.config import RunConfig
from anychannel.runs.execute import load_data
from anychannel.serve.images import UNUSED, OpenedImage, open_image, prepare


def find_examples(
    run: Run,
    config: RunConfig,
    channels: ChannelSet,
    *,
    shape: tuple[int, int],
    held: Sequence[str],
    reading: Mapping[str, Any] | None = None,
) -> tuple[tuple[OpenedImage, ...], str]:
    """The run's example images with their own pixels: the pictures in ``examples.json`` are stretched for the eye.

    Args:
        run: the run's records.
        config: the run's configuration; relative paths start where the program runs.
        channels: the network's.
        shape: height and width that the network is given, in pixels.
        held: channels of the files in their order, ``-`` for one that the network does not know.
        reading: further options of ``read_image``.

    Returns:
        The examples, and why there are none (empty where there are).
    """
    wanted = run.examples["images"] if run.examples else ()
    if not wanted:
        return (), "The run recorded no example images."
    kind = SOURCES.get(split_address(config.data)[0])
    if kind is not None and not kind.embedded:
        return (), "Examples of streamed data are not read again: that might take as long as reading all of them."
    try:
        if kind is not None:
            found = from_embedded(wanted, config, channels, shape)
        else:
            found = from_files(wanted, config, channels, shape, held, reading)
    except (OSError, ValueError) as error:
        return (), f"The run's examples cannot be read from its data: {error}"
    return tuple(found), ""


def from_embedded(
    wanted: Sequence[Example], config: RunConfig, channels: ChannelSet, shape: tuple[int, int]
) -> list[OpenedImage]:
    """Examples of a data set that is made in memory."""
    dataset = load_data(config)
    rows = {path: row for row, path in enumerate(dataset.test.paths)}
    absent = [entry["path"] for entry in wanted if entry["path"] not in rows]
    if absent or dataset.channels.names != channels.names:
        raise DataError(f"{config.data} does not hold {', '.join(absent) or 'the channels of the network'} any more")
    examples = []
    for number, entry in enumerate(wanted):
        row = rows[entry["path"]]
        pixels, present = dataset.test.images[row], dataset.test.present
        has = np.ones(len(channels), dtype=bool) if present is None else present[row]
        examples.append(
            prepare(
                pixels[has],
                tuple(compress(channels.names, has)),
                entry["path"],
                channels,
                shape=shape,
                key=f"example-{number}",
                label=entry["label"],
            )
        )
    return examples


def from_files(
    wanted: Sequence[Example],
    config: RunConfig,
    channels: ChannelSet,
    shape: tuple[int, int],
    held: Sequence[str],
    reading: Mapping[str, Any] | None,
) -> list[OpenedImage]:
    """Examples of a folder of images."""
    root = find_folder(config.data)
    options = config.data_options
    source = open_source(root, Request(seed=options.get("seed", 0)), form=options.get("form"))
    samples = [one for split in source.splits.values() if isinstance(split, Sequence) for one in split]
    told = {one.path: one.channels or () for one in samples}
    return [
        open_image(
            read_content(root / entry["path"]),
            entry["path"],
            channels,
            shape=shape,
            channels=[name if name in channels.names else UNUSED for name in told.get(entry["path"], ())] or held,
            reading=reading,
            label=entry["label"],
        )
        for entry in wanted
    ]
