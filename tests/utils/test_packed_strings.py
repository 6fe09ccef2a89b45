"""Packed strings are what a tuple of them is."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anychannel.utils.packed_strings import PackedStrings

TEXTS = st.lists(st.text(st.characters(), max_size=5), max_size=6)


@given(TEXTS, st.integers(-8, 8), st.integers(-8, 8))
def test_they_are_what_a_tuple_of_them_is(texts: list[str], start: int, stop: int) -> None:
    packed, plain = PackedStrings(texts), tuple(texts)
    assert packed == plain == packed == texts
    assert (tuple(packed), len(packed), bool(packed), hash(packed)) == (plain, len(plain), bool(plain), hash(plain))
    assert packed[start:stop] == plain[start:stop]
    assert repr(pickle.loads(pickle.dumps(packed))) == repr(plain)  # a DataLoader's workers get them so
    assert packed != [*texts, "more"]
    assert packed != PackedStrings([*texts[:-1], "another"])
    for row in range(-len(plain), len(plain)):
        assert packed[row] == plain[row]
    for row in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            packed[row]


def test_names_that_are_no_utf8_stay_what_they_are() -> None:
    assert PackedStrings(["\udce9.png", "b"])[0] == "\udce9.png"
    assert PackedStrings("ab") != "ab"
