# SPDX-License-Identifier: Apache-2.0
"""A running node and DCMTK's receiver beside it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from running_node import Receiver, RunningNode, receiver_running, running_node


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    """Receives every syntax that DCMTK knows."""
    async with receiver_running(tmp_path / "received", "+xa") as running:
        yield running


@pytest.fixture
async def box(tmp_path: Path, receiver: Receiver) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "box", peers=[receiver.peer()]) as running:
        yield running
