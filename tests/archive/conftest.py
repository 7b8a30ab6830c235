# SPDX-License-Identifier: Apache-2.0
"""A whole archive on two folders."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # archivebox

from archivebox import Box


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    """An archive without replication, so that tests see what ingest itself left."""
    one = await Box(tmp_path).open()
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
async def live_box(tmp_path: Path) -> AsyncIterator[Box]:
    """An archive that replicates."""
    one = await Box(tmp_path, replicating=True).open()
    try:
        yield one
    finally:
        await one.close()
