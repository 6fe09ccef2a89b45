"""Which channels of one image its prediction rests on: ``anychannel.results.shapley`` for one image's probability.

    explanation = explain(predictor, predictor.open("tile.tif"))
    explanation.ranking.values["NIR"].shapley

The value v(S) of a subset S is the probability that the network gives, from S alone, to the class that it answers from
all of the image's channels. v of no channel is how frequent that class is. The values of all channels add up to
v(all) - v(none).
"""

from __future__ import annotations

from dataclasses import dataclass

from anychannel.channels import ChannelError
from anychannel.data.input_images import InputImage
from anychannel.evaluation import choose_subsets
from anychannel.results.shapley import Ranking, known_orders, rank
from anychannel.runs.predict import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an image is classified as it is.

    Args:
        answer: the prediction from all of the image's channels.
        ranking: contributions of the channels, or groups, to the probability of the class answered.
        members: the channels of each channel or group of ``ranking``.
        orders: number of random orders that the values rest on; 0 if they are exact.
        predictions: those from each subset by its name, larger subsets first.
    """

    answer: Prediction
    ranking: Ranking
    members: dict[str, tuple[str, ...]]
    orders: int
    predictions: dict[str, Prediction]


def explain(predictor: Predictor, image: InputImage, *, frequency: float | None = None) -> Explanation:
    """Classify an image from its subsets, and rank its channels or, if they have groups, its groups.

    Args:
        predictor: a trained network.
        image: an image that the predictor opened.
        frequency: share of images of the class answered; None takes one over the number of classes.

    Raises:
        ChannelError: the network refuses a subset, or there are too many channels for random orders.
    """
    channels = predictor.channels.select([name for name in predictor.channels.names if name in image.channels])
    units = list(channels.units)
    predictions = {
        subset: predictor.predict(image, [channels.names[i] for i in subset]) for subset in choose_subsets(channels)[0]
    }
    answer = predictions[channels.full]
    best = int(answer.probabilities.argmax())
    values = {frozenset[str](): 1 / len(answer.classes) if frequency is None else frequency}
    for subset, prediction in predictions.items():
        values[frozenset(channels.split(subset) or ())] = float(prediction.probabilities[best])
    exact = len(values) == 2 ** len(units)
    orders = [] if exact else known_orders(units, values)
    if not exact and not orders:
        raise ChannelError(f"{len(units)} channels are too many to rank; name groups of channels in training (--group)")
    members = {unit: tuple(channels.names[i] for i in positions) for unit, positions in channels.units.items()}
    ranking = rank(units, values, orders, "+" if channels.grouped else ",")
    named = {channels.name(subset): prediction for subset, prediction in predictions.items()}
    return Explanation(answer, ranking, members, len(orders), named)
