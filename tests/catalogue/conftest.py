# SPDX-License-Identifier: Apache-2.0
"""A real index in a temporary folder and objects to put into it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from made_instances import make_instance
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import NewInstance
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters

Make = Callable[..., NewInstance]


@pytest.fixture
def index_path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


@pytest.fixture
async def catalogue(index_path: Path) -> AsyncIterator[Catalogue]:
    async with Catalogue(index_path, counters=Counters(), clock=SystemClock()) as opened:
        yield opened


@pytest.fixture
def make() -> Make:
    return make_instance
