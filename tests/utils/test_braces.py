"""Braces in names expand as bash and webdataset expand them, and never to more names than asked for."""

from __future__ import annotations

import pytest
from braceexpand import braceexpand

from anychannel.utils.braces import expand_braces


@pytest.mark.parametrize(
    "text",
    ["a", "a-{000..009}.tar", "{a,b}{c,d}", "{a,{b,c}}x{3..1}", "{a..e}", "{0..10..2}", "{a}", "{}", "a{-2..2}b"],
)
def test_names_are_those_of_webdataset(text: str):
    names = list(braceexpand(text))
    assert expand_braces(text, len(names) + 8) == names


@pytest.mark.parametrize(
    "text",
    ["{0..999999999}", "{a,b}" * 40, "{{a,b},c}" * 25, "{a..z}" * 8, "{{a,b},c}{0..9}" * 9, "{1..99}{1..99}{1..99}"],
)
def test_more_names_than_asked_for_are_refused_at_once(text: str):
    with pytest.raises(ValueError, match="stands for more than 100,000 names; correct its braces"):
        expand_braces(text, 100_000)
