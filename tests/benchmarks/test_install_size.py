"""docs/install.md shows the measured size of the package and of every extra."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.measure import install_size

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result():
    return json.loads(install_size.RESULT.read_text(encoding="utf-8"))


def test_every_extra_was_measured(result):
    assert list(result["extras"]) == list(install_size.read_extras())


def test_the_install_page_holds_the_measured_table(result):
    assert install_size.render(result) in (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


def test_extras_that_an_extra_is_made_of_are_written_out():
    extras = install_size.read_extras()
    assert not [requirement for found in extras.values() for requirement in found if "anychannel[" in requirement]
    assert set(extras["geo"]) <= set(extras["test"])


def test_packages_and_sizes_are_counted_from_what_is_there(tmp_path):
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "code.py").write_bytes(bytes(1234))
    (tmp_path / "thing-1.0.dist-info").mkdir()
    (tmp_path / "thing-1.0.dist-info" / "METADATA").write_bytes(bytes(66))
    (tmp_path / "link").symlink_to(tmp_path / "thing" / "code.py")
    assert install_size.count_bytes(tmp_path) == 1300
    assert install_size.count_packages(tmp_path) == 1
    assert install_size.largest(tmp_path, 1) == {"thing": 0.0}
