"""What the endpoints return, as the published schema says it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from anychannel.results.evaluation import SubsetResult
from anychannel.serve.images import OpenedImage, Plane
from anychannel.serve.service import Answer, Service


class Health(BaseModel):
    """The service is up."""

    status: Literal["ok"] = "ok"
    version: str = Field(description="Version of anychannel.")


class Problem(BaseModel):
    """Why a request was not answered: what was given, what was expected, what to do."""

    error: str


class Channel(BaseModel):
    """A channel that the network knows, with its statistics over the training images in the files' own units."""

    name: str
    mean: float
    std: float
    wavelength_nm: float | None = Field(description="Centre wavelength in nanometres, null where unknown.")
    kind: str | None = Field(description="What it shows, null where not said.")


class Expected(BaseModel):
    """What the run's evaluation on test images found for one subset of the channels."""

    channels: list[str]
    accuracy: float | None = Field(description="Fraction of test images classified rightly; null where refused.")
    standard_error: float | None = Field(
        description="Binomial standard error of the accuracy, never 0; null where refused."
    )
    images: int = Field(description="Number of test images; 0 where refused.")
    refused: str | None = Field(description="Why the network does not take this subset, null where it does.")

    @classmethod
    def of(cls, result: SubsetResult) -> Expected:
        """From the run's record."""
        taken = result.refused is None
        return cls(
            channels=result.key.split(","),
            accuracy=result.accuracy if taken else None,
            standard_error=result.standard_error if taken and result.n else None,
            images=result.n,
            refused=result.refused,
        )


class Model(BaseModel):
    """The network that answers."""

    name: str
    model: str
    stem: str
    channels: list[Channel]
    classes: list[str]
    image_size: tuple[int, int] = Field(description="Height and width to which images are resized and cropped.")
    file_channels: list[str] = Field(
        description="What a file is taken to hold, in order, unless the request says otherwise; '-' is not used."
    )
    expected: list[Expected] = Field(description="Every subset that was evaluated; no other has a known accuracy.")
    expected_note: str = Field(description="Which subsets were evaluated where not all were; else empty.")
    max_upload_bytes: int

    @classmethod
    def of(cls, service: Service, max_upload_bytes: int) -> Model:
        """From a run."""
        test = service.run.test
        known = service.channels
        missing = "The run holds no evaluation on test images, so that no accuracy can be expected."
        return cls(
            name=service.run.name,
            model=service.config.model,
            stem=service.config.stem,
            channels=[
                Channel(name=name, mean=mean, std=std, wavelength_nm=wavelength, kind=kind)
                for name, mean, std, wavelength, kind in zip(
                    known.names, known.mean, known.std, known.wavelengths_nm, known.kinds, strict=True
                )
            ],
            classes=list(service.classes),
            image_size=service.shape,
            file_channels=list(service.file_channels),
            expected=[Expected.of(result) for result in test.subsets.values()] if test else [],
            expected_note=test.note if test else missing,
            max_upload_bytes=max_upload_bytes,
        )


class ChannelPicture(BaseModel):
    """One channel of an image."""

    name: str
    picture: str = Field(description="Grey PNG as a data URI.")
    black: float = Field(description="Value shown as black, in the file's own units.")
    white: float = Field(description="Value shown as white.")
    minimum: float
    maximum: float
    mean: float

    @classmethod
    def of(cls, plane: Plane) -> ChannelPicture:
        """From an opened image."""
        return cls(**vars(plane))


class Image(BaseModel):
    """An opened image. It can be classified by its id for as long as the service keeps it."""

    id: str
    name: str
    channels: list[ChannelPicture] = Field(description="The channels that it holds and the network knows.")
    overview: str = Field(description="The whole image as a PNG data URI.")
    width: int = Field(description="Of the file, in pixels.")
    height: int
    dtype: str
    image_size: tuple[int, int] = Field(description="Height and width in pixels that the network is given.")
    notes: list[str] = Field(description="What is odd about it, in sentences.")
    label: str | None = Field(description="The true class, where it is known.")

    @classmethod
    def of(cls, image: OpenedImage) -> Image:
        """From an opened image."""
        return cls(
            id=image.id,
            name=image.name,
            channels=[ChannelPicture.of(plane) for plane in image.planes],
            overview=image.overview,
            width=image.width,
            height=image.height,
            dtype=image.dtype,
            image_size=(image.pixels.shape[1], image.pixels.shape[2]),
            notes=list(image.notes),
            label=image.label,
        )


class Examples(BaseModel):
    """Test images to try, with their true classes."""

    images: list[Image]
    reason: str = Field(description="Why there are none, empty where there are.")


class Guess(BaseModel):
    """A class and its probability."""

    label: str = Field(alias="class")
    probability: float


class Prediction(BaseModel):
    """The network's answer."""

    image: str = Field(description="Id of the image, for further requests without the file.")
    channels: list[str] = Field(description="The channels that were shown to the network, in its order.")
    missing: list[str] = Field(description="The others.")
    top: list[Guess] = Field(description="Most probable first.")
    expected: Expected | None = Field(description="Accuracy on test images with these channels; null: not evaluated.")
    notes: list[str] = Field(description="What is odd about the image, in sentences; see /api/images.")
    label: str | None = Field(description="The true class, where it is known.")

    @classmethod
    def of(cls, image: OpenedImage, answer: Answer, expected: SubsetResult | None) -> Prediction:
        """From what the network said."""
        return cls(
            image=image.id,
            channels=list(answer.channels),
            missing=list(answer.missing),
            top=[Guess.model_validate({"class": name, "probability": probability}) for name, probability in answer.top],
            expected=None if expected is None else Expected.of(expected),
            notes=list(image.notes),
            label=image.label,
        )
