"""The endpoints without HTTP: a run that is loaded once, and images that are opened and classified from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from anychannel.channels import as_channel_set
from anychannel.data.input_images import UNUSED
from anychannel.data.limits import check_extent
from anychannel.models import Classifier
from anychannel.results.evaluation import SubsetResult
from anychannel.results.parse import number as finite
from anychannel.results.run import load_runs
from anychannel.runs import examples
from anychannel.runs.explain import explain
from anychannel.runs.folder import read_array, read_config
from anychannel.runs.predict import Predictor, describe_image
from anychannel.serve.decoding import DECODER
from anychannel.serve.images import ImageStore, OpenedImage, draw_image
from anychannel.serve.schemas import Channel, Examples, Expected, Guess, Importance, Model, Prediction


class Service:
    """A trained run that answers. It reads nothing outside the run's folder.

    ``model`` is the network, if the folder cannot rebuild it; None loads it.
    """

    def __init__(self, folder: str | Path, model: Classifier | None = None) -> None:
        DECODER.start()
        self.run = load_runs([Path(folder)])[0]
        config = None if self.run.trained_elsewhere else read_config(folder)
        self.predictor = Predictor(folder if model is None else model, run=folder)
        self.channels = self.predictor.channels
        own = self.channels if config is None else config.channels or self.channels
        held = self.run.record.get("file_channels") or as_channel_set(own).names
        self.names = (self.run.text("model"), self.run.text("stem")) if config is None else (config.model, config.stem)
        self.file_channels = tuple(name if name in self.channels.names else UNUSED for name in held)
        found = self._read_examples()
        self.images = ImageStore(found)
        reason = "" if found else "The run holds no example images; those of earlier versions kept none."
        self.examples = Examples(images=[example.view for example in found], reason=reason)

    def _read_examples(self) -> list[OpenedImage]:
        """The images of ``examples.json`` with their pixels; the pictures in that file have stretched values."""
        wanted = self.run.examples["images"][: examples.COUNT] if self.run.examples else ()
        pixels = read_array(self.run.folder / examples.FILE, (None, len(self.channels), *self.shape))
        found = []
        for number, (entry, planes) in enumerate(zip(wanted, () if pixels is None else pixels, strict=False)):
            check_extent(planes.size)
            has = [name in entry["png"] for name in self.channels.names]
            names = tuple(name for name in self.channels.names if name in entry["png"])
            image = self.predictor.reader.prepare(planes[has], names, entry["path"])
            drawn = draw_image(image, self.channels, key=f"example-{number}", label=entry["label"])
            found.append(self._mark_dead(drawn))
        return found

    def _mark_dead(self, image: OpenedImage) -> OpenedImage:
        """The same image with its dead channels."""
        positions = self.channels.positions(image.input.channels)
        (dead,) = self.predictor.dead.find(image.input.pixels[None], positions)
        return replace(image, view=image.view.model_copy(update={"dead": dead}))

    def open(
        self, data: bytes | BinaryIO, name: str, channels: str | Sequence[str] | None = None, layout: str | None = None
    ) -> OpenedImage:
        """Decode a file and keep it; see ``Decoder.decode``."""
        source = BytesIO(data) if isinstance(data, bytes) else data
        opened = DECODER.decode(self.predictor.reader, source, name, channels or self.file_channels, layout)
        opened = self._mark_dead(opened)
        self.images.add(opened)
        return opened

    def predict(self, image: OpenedImage, channels: str | None, top: int) -> Prediction:
        """Classify an image from some of its channels; see ``Predictor.predict``. Of several labels, all are told."""
        answer = self.predictor.predict(image.input, channels)
        limits = dict(zip(answer.classes, answer.thresholds or (), strict=False))
        tests = {} if self.run.test is None else self.run.test.subsets
        result = tests.get(self.channels.key(self.channels.positions(answer.channels)))
        return Prediction(
            image=image.view.id,
            channels=list(answer.channels),
            missing=[name for name in self.channels.names if name not in answer.channels],
            top=[
                Guess.model_validate({"class": name, "probability": share, "threshold": limits.get(name)})
                for name, share in answer.top(top if answer.labels is None else len(answer.classes))
            ],
            labels=None if answer.labels is None else list(answer.labels),
            expected=None if result is None or answer.unlike else describe_result(result, self.run.measured),
            unlike=answer.unlike,
            dead=dict(answer.dead),
            notes=describe_image(image.input, answer),
            label=image.view.label,
        )

    def explain(self, image: OpenedImage) -> Importance:
        """Rank the channels, or groups, of an image by what they add to its answer; see ``explain``."""
        test = self.run.test.whole if self.run.test else None
        share = {score["class"]: score["support"] / test.n for score in test.per_class} if test else {}
        first = self.predictor.predict(image.input).top(1)[0][0]
        found = explain(self.predictor, image.input, frequency=share.get(first))
        ranked = sorted(found.ranking.values.items(), key=lambda entry: -entry[1].shapley)
        return Importance.model_validate(
            {
                "image": image.view.id,
                "class": first,
                "probability": found.ranking.full,
                "frequency": found.ranking.empty,
                "orders": found.orders,
                "contributions": [
                    {"name": name, "channels": list(found.members[name])} | asdict(one) for name, one in ranked
                ],
                "subsets": [
                    {
                        "name": name,
                        "channels": list(answer.channels),
                        "class": best,
                        "probability": probability,
                        "labels": answer.labels,
                        "probabilities": answer.labels
                        and [
                            share
                            for name, share in zip(answer.classes, answer.probabilities.tolist(), strict=True)
                            if name in answer.labels
                        ],
                    }
                    for name, answer in found.predictions.items()
                    for best, probability in answer.top(1)
                ],
            }
        )

    def describe(self, max_upload_bytes: int) -> Model:
        """The network, and the accuracy of every evaluated subset."""
        test, known = self.run.test, self.channels
        statistics = zip(
            known.names, known.mean, known.std, known.wavelengths_nm, known.kinds, known.groups, strict=True
        )
        return Model(
            name=self.run.name,
            model=self.names[0],
            stem=self.names[1],
            channels=[
                Channel(name=name, mean=mean, std=std, wavelength_nm=wavelength, kind=kind, group=group)
                for name, mean, std, wavelength, kind, group in statistics
            ],
            classes=list(self.predictor.classes),
            thresholds=None if (found := self.predictor.network.spec.thresholds) is None else list(found),
            image_size=self.shape,
            file_channels=list(self.file_channels),
            expected=[describe_result(result, self.run.measured) for result in test.subsets.values()] if test else [],
            expected_note=test.note if test else "The run has no test results, so the expected accuracy is unknown.",
            max_upload_bytes=max_upload_bytes,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels that the network receives."""
        assert self.predictor.reader.shape is not None  # a run records it
        return self.predictor.reader.shape


def describe_result(result: SubsetResult, split: str) -> Expected:
    """The result of a subset on ``test`` or ``validation`` images as the endpoints return it."""
    taken = result.refused is None
    return Expected(
        channels=result.key.split(","),
        name=result.label,
        accuracy=finite(result.accuracy),
        balanced_accuracy=None if result.has_several else finite(result.balanced_accuracy),
        macro_f1=finite(result.macro_f1),
        mean_average_precision=finite(result.mean_average_precision),
        micro_f1=finite(result.micro_f1),
        split=split,
        standard_error=result.standard_error if taken and result.n else None,
        images=result.n,
        refused=result.refused,
    )
