# SPDX-License-Identifier: Apache-2.0
"""A staging directory and volumes on plain folders."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # loopfs

from scrigno.core.counters import Counters
from scrigno.volumes.staging import Sealed, Staging


@pytest.fixture
async def staging(tmp_path: Path) -> AsyncIterator[Staging]:
    made = Staging(tmp_path / "staging", capacity_bytes=1 << 30, counters=Counters())
    await made.open()
    yield made
    await made.close()


async def sealed_of(staging: Staging, content: bytes) -> Sealed:
    thing = staging.begin(b"", limit_bytes=1 << 30)
    thing.write(content)
    return await thing.seal()
