from __future__ import annotations

from inspect import signature

import pytest

from anychannel.cli.common import parse_options
from anychannel.data import load_dataset
from anychannel.data.sources.registry import SOURCES
from anychannel.models.registry import MODELS
from anychannel.nn.channel_sampling import SAMPLERS
from anychannel.nn.stems.registry import STEMS
from anychannel.utils.options import coerce_options


def taker(flag: bool = False, number: int | None = None, rate: float | str = 0.0, shares: list[float] | None = None):
    """Something with annotations."""


def test_values_become_what_the_annotations_say_and_others_pass():
    given = {"flag": True, "number": 2.0, "rate": 1, "shares": "any", "unknown": object}
    assert coerce_options(taker, given) == given
    assert isinstance(coerce_options(taker, given)["number"], int)
    assert coerce_options(taker, {"number": None, "rate": "keep"}) == {"number": None, "rate": "keep"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flag": "False"}, "x.flag must be true or false, got 'False'"),
        ({"flag": 1}, "x.flag must be true or false, got 1"),
        ({"number": True}, "x.number must be a whole number or left out, got True"),
        ({"number": float("inf")}, "x.number must be a whole number or left out, got inf"),
        ({"rate": None}, "x.rate must be a number or text, got None"),
    ],
)
def test_another_type_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        coerce_options(taker, values, "x.")


def test_annotations_that_cannot_be_read_hold_nothing():
    def narrow(flag: Missing) -> None:  # noqa: F821
        """Annotated with a name that only a type checker knows."""

    assert coerce_options(narrow, {"flag": "False"}) == {"flag": "False"}


@pytest.mark.parametrize(
    "owner",
    [
        *SAMPLERS.values(),
        *STEMS.values(),
        *MODELS.values(),
        load_dataset,
        *(kind.open for kind in SOURCES.values() if "buffer" in kind.options),
    ],
)
def test_the_annotations_of_everything_that_takes_options_can_be_read(owner):
    numbers = {"num_channels", "in_chans", "seed", "buffer"} & set(signature(owner).parameters)
    assert numbers
    for name in numbers:
        with pytest.raises(ValueError, match=f"{name} must be a whole number, got 'no'"):
            coerce_options(owner, {name: "no"})


def test_true_and_false_are_booleans_however_they_are_written():
    given = parse_options(["a=False", "b=true", "c=TRUE", "d='false'", "e=falsehood", "f=0.5"])
    assert given == {"a": False, "b": True, "c": True, "d": "false", "e": "falsehood", "f": 0.5}
