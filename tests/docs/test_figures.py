"""The counts, names and versions on the pages are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import anychannel as ac

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)`(?:, stem `(\w+)`)?(, no max-pool)? \| ([\d,]+) \|", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "building-blocks.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("model", "stem", "no_pool", "parameters"), ROWS, ids=lambda value: value)
def test_a_network_has_as_many_parameters_as_its_page_says(model, stem, no_pool, parameters):
    options = {"max_pool": False} if no_pool else {}
    network = ac.create_model(
        model, channels="R,G,B", num_classes=50, stem=stem or "static", model_options=options, norm="shared"
    )
    assert f"{sum(parameter.numel() for parameter in network.parameters()):,}" == parameters


def test_every_built_in_name_is_on_the_page_of_built_in_parts():
    page = (ROOT / "docs" / "building-blocks.md").read_text(encoding="utf-8")
    names = [*ac.list_models(), *ac.list_stems(), *ac.list_samplers()]
    assert not [name for name in names if f"| `{name}`" not in page]


def test_the_citation_names_this_version():
    version = ac.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{version}}}" in (ROOT / "README.md").read_text(encoding="utf-8")
