from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.team import Team


@pytest.fixture(scope="session")
def pair() -> Iterator[Team]:
    team = Team(2)
    yield team
    team.close()


@pytest.fixture(scope="session")
def trio() -> Iterator[Team]:
    team = Team(3)
    yield team
    team.close()
