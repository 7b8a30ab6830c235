# SPDX-License-Identifier: Apache-2.0
"""Reading on a temporary box."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # readingbox

from readingbox import ReadingBox


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[ReadingBox]:
    made = ReadingBox(tmp_path)
    await made.start()
    yield made
    await made.stop()
