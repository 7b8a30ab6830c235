# SPDX-License-Identifier: Apache-2.0
"""Captured output of tools, and sysfs trees built again from captures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from captured_sysfs import CAPTURES, build_captured


@pytest.fixture(scope="session")
def capture() -> Callable[[str], str]:
    """Return the text of a capture."""
    return lambda name: (CAPTURES / name).read_text()


@pytest.fixture
def sysfs(tmp_path: Path) -> Callable[[str], Path]:
    """Return a builder of the sysfs of a capture."""
    return lambda name: build_captured(name, tmp_path / name)
