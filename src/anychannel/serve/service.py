"""The endpoints without HTTP: a run that is loaded once, and images that are opened and classified from any thread."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data import DataError, ImageDataset
from anychannel.data.content import digest_content
from anychannel.data.sources.registry import SOURCES, split_address
from anychannel.results.evaluation import SubsetResult
from anychannel.results.run import load_runs
from anychannel.runs.data import load_data
from anychannel.runs.folder import read_config
from anychannel.runs.predict import UNUSED, Predictor
from anychannel.serve.images import ImageStore, OpenedImage, draw_image
from anychannel.serve.schemas import Channel, Examples, Expected, Guess, Model, Prediction


class Service:
    """A trained run that answers. Relative paths in its configuration start at the working directory."""

    def __init__(self, folder: str | Path, cache_dir: str | Path | None = None) -> None:
        self.config = read_config(folder)
        self.run = load_runs([Path(folder)])[0]
        self.predictor = Predictor(folder)
        self.channels = self.predictor.channels
        data, reason = self._load_data(cache_dir)
        self.file_channels = self._find_file_channels(data)
        found: list[OpenedImage] = []
        if data is not None:
            try:
                found = self._read_examples(data)
            except DataError as error:
                reason = str(error)
        self.images = ImageStore(found)
        self.examples = Examples(images=[example.view for example in found], reason=reason)

    def _load_data(self, cache_dir: str | Path | None) -> tuple[ImageDataset | None, str]:
        """The run's data with all their channels; or None and the reason."""
        unnamed = self.config.only_channels is not None and self.config.channels is None  # only the data name them
        if not unnamed and not (self.run.examples and self.run.examples["images"]):
            return None, "The run recorded no example images."
        kind = SOURCES.get(split_address(self.config.data)[0])
        if not unnamed and kind is not None and not kind.embedded:
            return None, "Examples of streamed data are not read again: that might take as long as reading all of them."
        try:
            return load_data(replace(self.config, only_channels=None), cache_dir=cache_dir), ""
        except (OSError, ValueError) as error:
            return None, f"The run's examples cannot be read from its data: {error}"

    def _find_file_channels(self, data: ImageDataset | None) -> tuple[str, ...]:
        """Channels of a file of the training data in order, with ``-`` for those that the network does not know."""
        held: ChannelSet = self.channels
        if self.config.only_channels is not None:
            if self.config.channels is not None:
                held = as_channel_set(self.config.channels)
            elif data is not None:
                held = data.channels
        return tuple(name if name in self.channels.names else UNUSED for name in held.names)

    def _read_examples(self, data: ImageDataset) -> list[OpenedImage]:
        """The images of ``examples.json`` with their pixels; the pictures in that file have stretched values."""
        wanted = self.run.examples["images"] if self.run.examples else ()
        rows = {path: row for row, path in enumerate(data.test.paths)}
        absent = [entry["path"] for entry in wanted if entry["path"] not in rows]
        if absent or not set(self.channels.names) <= set(data.channels.names):
            missing = ", ".join(absent) or "the channels of the network"
            raise DataError(f"The run's examples cannot be read from its data: {missing} are not there any more")
        examples = []
        for number, entry in enumerate(wanted):
            row = rows[entry["path"]]
            has = [True] * len(data.channels) if data.test.present is None else data.test.present[row]
            held = [name in self.channels.names and there for name, there in zip(data.channels.names, has, strict=True)]
            names = tuple(compress(data.channels.names, held))
            image = self.predictor.prepare(data.test.images[row][held], names, entry["path"])
            examples.append(draw_image(image, self.channels, key=f"example-{number}", label=entry["label"]))
        return examples

    def open(
        self, data: bytes, name: str, channels: str | Sequence[str] | None = None, layout: str | None = None
    ) -> OpenedImage:
        """Decode a file and keep it; see ``Predictor.open``."""
        image = self.predictor.open(data, channels or self.file_channels, name=name, layout=layout)
        identity = repr((digest_content(data), name, image.channels, channels, layout))
        key = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
        opened = draw_image(image, self.channels, key=key)
        self.images.add(opened)
        return opened

    def predict(self, image: OpenedImage, channels: str | None, top: int) -> Prediction:
        """Classify an image from some of its channels; see ``Predictor.predict``."""
        answer = self.predictor.predict(image.input, channels)
        tests = {} if self.run.test is None else self.run.test.subsets
        result = tests.get(self.channels.key(self.channels.positions(answer.channels)))
        return Prediction(
            image=image.view.id,
            channels=list(answer.channels),
            missing=[name for name in self.channels.names if name not in answer.channels],
            top=[Guess.model_validate({"class": name, "probability": share}) for name, share in answer.top(top)],
            expected=None if result is None else describe_result(result),
            notes=image.view.notes,
            label=image.view.label,
        )

    def describe(self, max_upload_bytes: int) -> Model:
        """The network, and the accuracy of every evaluated subset."""
        test, known = self.run.test, self.channels
        statistics = zip(known.names, known.mean, known.std, known.wavelengths_nm, known.kinds, strict=True)
        return Model(
            name=self.run.name,
            model=self.config.model,
            stem=self.config.stem,
            channels=[
                Channel(name=name, mean=mean, std=std, wavelength_nm=wavelength, kind=kind)
                for name, mean, std, wavelength, kind in statistics
            ],
            classes=list(self.predictor.classes),
            image_size=self.shape,
            file_channels=list(self.file_channels),
            expected=[describe_result(result) for result in test.subsets.values()] if test else [],
            expected_note=test.note if test else "The run has no test results, so the expected accuracy is unknown.",
            max_upload_bytes=max_upload_bytes,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels that the network receives."""
        assert self.predictor.shape is not None  # a run records it
        return self.predictor.shape


def describe_result(result: SubsetResult) -> Expected:
    """The test result of a subset as the endpoints return it."""
    taken = result.refused is None
    return Expected(
        channels=result.key.split(","),
        accuracy=result.accuracy if taken else None,
        standard_error=result.standard_error if taken and result.n else None,
        images=result.n,
        refused=result.refused,
    )
