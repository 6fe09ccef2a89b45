"""The JSON that the endpoints return, as the published schema describes it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The service is up."""

    status: Literal["ok"] = "ok"
    version: str = Field(description="Version of anychannel.")


class Problem(BaseModel):
    """Why a request failed: what was given, what was expected, what to do."""

    error: str


class Channel(BaseModel):
    """A channel that the network knows, with its statistics over the training images in the files' units."""

    name: str
    mean: float
    std: float
    wavelength_nm: float | None = Field(description="Centre wavelength in nanometres; null if unknown.")
    kind: str | None = Field(description="What the channel shows; null if unknown.")
    group: str | None = Field(description="The sensor or group that it belongs to; null if it has none.")


class Expected(BaseModel):
    """Test result of the run for one subset of the channels."""

    channels: list[str]
    name: str = Field(description="The subset's groups, as camera+lidar; if it has none, its channels, as R,G.")
    accuracy: float | None = Field(
        description="Fraction of correct test images; null if the subset is refused, or if images may have several "
        "labels."
    )
    balanced_accuracy: float | None = Field(
        description="Mean over the classes of the fraction of their test images that are correct; null likewise."
    )
    macro_f1: float | None = Field(description="Mean F1 of the classes; null if the subset is refused.")
    mean_average_precision: float | None = Field(
        description="Of several labels an image, in place of accuracy; else null."
    )
    micro_f1: float | None = Field(description="Of several labels an image; else null.")
    split: str = Field(description="The images measured: test, or validation if the run's data have no test split.")
    standard_error: float | None = Field(
        description="Binomial standard error of the accuracy, never 0; null if the subset is refused."
    )
    images: int = Field(description="Number of test images; 0 if the subset is refused.")
    refused: str | None = Field(description="Why the network refuses this subset; null if it accepts it.")


class Model(BaseModel):
    """The network that answers."""

    name: str
    model: str
    stem: str
    channels: list[Channel]
    classes: list[str]
    thresholds: list[float] | None = Field(
        description="Of several labels an image, one for each class; null if an image has one class."
    )
    image_size: tuple[int, int] = Field(description="Height and width to which images are resized and cropped.")
    file_channels: list[str] = Field(
        description="Channels of a file in order, unless the request names others; '-' is unused."
    )
    expected: list[Expected] = Field(description="Test results of all evaluated subsets.")
    expected_note: str = Field(description="Which subsets were evaluated, if not all were; else empty.")
    max_upload_bytes: int


class ChannelPicture(BaseModel):
    """One channel of an image."""

    name: str
    picture: str = Field(description="Grey PNG as a data URI.")
    black: float = Field(description="Value drawn as black, in the file's units.")
    white: float = Field(description="Value drawn as white.")
    minimum: float
    maximum: float
    mean: float


class Image(BaseModel):
    """An opened image. Requests can refer to it by its id while the service keeps it."""

    id: str
    name: str
    channels: list[ChannelPicture] = Field(description="The image's channels that the network knows.")
    overview: str = Field(description="The whole image as a PNG data URI: in colour if it has R, G and B, else grey.")
    width: int = Field(description="Width of the file in pixels.")
    height: int
    dtype: str
    image_size: tuple[int, int] = Field(description="Height and width in pixels that the network receives.")
    dead: dict[str, str] = Field(
        description="Channels that may be dead or saturated, and what each looks like; better left out."
    )
    notes: list[str] = Field(description="Differences from the training images, in sentences.")
    label: str | None = Field(description="The true class; null if unknown.")


class Examples(BaseModel):
    """Test images to try, with their true classes."""

    images: list[Image]
    reason: str = Field(description="Why there are no images; empty if there are.")


class Guess(BaseModel):
    """A class and its probability."""

    label: str = Field(alias="class")
    probability: float
    threshold: float | None = Field(
        description="Of several labels an image: the image has the label from this probability."
    )


class Prediction(BaseModel):
    """The network's answer."""

    image: str = Field(description="Id of the image, for further requests without the file.")
    channels: list[str] = Field(description="Channels that the network used, in its order.")
    missing: list[str] = Field(description="The network's other channels.")
    top: list[Guess] = Field(description="Most probable class first.")
    labels: list[str] | None = Field(
        description="Of several labels an image, those that pass their thresholds; else null."
    )
    expected: Expected | None = Field(
        description="Test result for these channels; null if not evaluated, or if it does not apply, see unlike."
    )
    unlike: str | None = Field(
        description="How the image is unlike the training images in these channels, so that nobody can rely on the "
        "answer; null if it is like them."
    )
    dead: dict[str, str] = Field(description="Those of the channels used that may be dead or saturated; see the image.")
    notes: list[str] = Field(description="Differences from the training images in these channels, in sentences.")
    label: str | None = Field(description="The true class; null if unknown.")


class Contribution(BaseModel):
    """What a channel or a group contributes to the probability of the class answered."""

    name: str
    channels: list[str]
    shapley: float = Field(description="Shapley value: what it adds on average, over all orders of arrival.")
    standard_error: float | None = Field(description="Standard error over random orders; null if the value is exact.")
    adds: float | None = Field(description="What it adds to all others; null if not computed.")
    alone: float | None = Field(description="The class's probability from it alone; null if not computed.")


class SubsetAnswer(BaseModel):
    """The network's answer from one subset of the image's channels."""

    name: str = Field(description="The subset's groups, as camera+lidar; if it has none, its channels, as R,G.")
    channels: list[str]
    label: str = Field(alias="class")
    probability: float = Field(description="Probability of that class.")
    labels: list[str] | None = Field(
        description="Of several labels an image, those that pass their thresholds; else null."
    )
    probabilities: list[float] | None = Field(description="Those of the labels that pass, in their order; else null.")


class Importance(BaseModel):
    """Which channels the answer rests on."""

    image: str = Field(description="Id of the image, for further requests without the file.")
    label: str = Field(alias="class", description="The class answered from all of the image's channels.")
    probability: float = Field(description="Its probability from all channels.")
    frequency: float = Field(description="Its share of the test images: the value of no channel.")
    orders: int = Field(description="Number of random orders that the Shapley values rest on; 0 if they are exact.")
    contributions: list[Contribution] = Field(description="The largest Shapley value first.")
    subsets: list[SubsetAnswer] = Field(description="Answers from subsets, larger ones first.")
