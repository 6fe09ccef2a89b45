"""What a sweep may vary."""

from __future__ import annotations

import tomllib

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from anychannel.sweeps.space import SweepError, check_space, parse_space

RECIPE = {"data": "bands:3", "training": {"epochs": 4}}


def test_dotted_keys_and_tables_mean_the_same():
    dotted = tomllib.loads(
        '"training.lr" = { low = 1e-3, high = 1, log = true }\nstem = { choices = ["static", "grey"] }'
    )
    tables = tomllib.loads('stem.choices = ["static", "grey"]\n[training.lr]\nlow = 1e-3\nhigh = 1\nlog = true')
    for space in (parse_space(dotted), parse_space(tables)):
        assert space["training.lr"] == FloatDistribution(1e-3, 1.0, log=True)
        assert space["stem"] == CategoricalDistribution(("static", "grey"))


def test_ranges_and_choices_become_optunas():
    space = parse_space(
        {
            "a": {"low": 1, "high": 9, "step": 2},
            "b": {"low": 0.0, "high": 1, "step": 0.25},
            "c": {"low": 0.1, "high": 10, "log": True},
            "d": {"choices": [True, 2, "x"]},
        }
    )
    assert space == {
        "a": IntDistribution(1, 9, step=2),
        "b": FloatDistribution(0.0, 1.0, step=0.25),
        "c": FloatDistribution(0.1, 10.0, log=True),
        "d": CategoricalDistribution((True, 2, "x")),
    }


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "the space is empty"),
        ({"training": {"lr": 0.1}}, r"training\.lr in the space is 0\.1; give \{ low"),
        ({"a": {"low": 1}}, "a in the space is .*; give"),
        (
            {"a": {"low": 1, "high": 2, "scale": 3}},
            "a in the space is .*; unknown setting 'scale'; .* low, high, log, step",
        ),
        ({"a": {"low": True, "high": 2}}, "a in the space is .*; low must be a whole number, got True"),
        ({"a": {"low": "x", "high": 2}}, "a in the space is .*; low must be a number, got 'x'"),
        ({"a": {"low": 1, "high": 2, "log": 1}}, "a in the space is .*; log must be true or false, got 1"),
        ({"a": {"low": 3, "high": 2}}, "a in the space is .*; `low <= high` must hold"),
        ({"a": {"low": 0, "high": 2, "log": True}}, "a in the space is .*; `low >= 1` must hold for `log=True`"),
        ({"a": {"low": 1, "high": 3, "step": 0.5}}, r"a in the space is .*; step must be a whole number, got 0\.5"),
        ({"a": {"low": 1.0, "high": 3.0, "step": -1}}, "a in the space is .*; `step > 0` must hold"),
        ({"a": {"choices": []}}, "choices are different texts"),
        ({"a": {"choices": ["x", "x"]}}, "choices are different texts"),
        ({"a": {"choices": [["R"], ["G"]]}}, "choices are different texts"),
        ({"a": {"choices": ["x"], "low": 1}}, "choices are different texts"),
    ],
)
def test_an_impossible_entry_is_refused_with_what_to_give(space, message):
    with pytest.raises(SweepError, match=message):
        parse_space(space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"training.lrr": {"low": 1, "high": 2}}, r"unknown setting 'training\.lrr' \(did you mean 'training\.lr'\?\)"),
        ({"stems": {"choices": ["static"]}}, r"unknown setting 'stems' \(did you mean 'stem'\?\)"),
        ({"training.epochs": {"low": 1, "high": 999_999}}, "epochs must be between 1 and 100000, got 999999"),
        ({"training.optimizer": {"choices": ["sgd", "magic"]}}, "unknown optimizer 'magic'"),
        ({"training.seed": {"low": 0.5, "high": 1.5}}, r"training\.seed must be a whole number, got 0\.5"),
        ({"training.seed": {"low": 1.0, "high": 3.0}}, r"training\.seed must be a whole number, got 1\.6"),
        ({"training.lr": {"choices": [0.1, "high"]}}, r"training\.lr must be a number or left out, got 'high'"),
        ({"training": {"low": 1, "high": 2}}, "training must be a table, got 1"),
    ],
)
def test_keys_and_values_that_no_recipe_has_are_refused_before_the_first_trial(space, message):
    with pytest.raises(SweepError, match=message):
        check_space(RECIPE, parse_space(space))
