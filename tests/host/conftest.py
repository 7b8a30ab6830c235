# SPDX-License-Identifier: Apache-2.0
"""Captured output of tools, and sysfs trees built again from captures."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "volumes"))  # loopfs

CAPTURES = Path(__file__).parent.parent / "captures"


@pytest.fixture(scope="session")
def capture() -> Callable[[str], str]:
    """Return the text of a capture."""
    return lambda name: (CAPTURES / name).read_text()


def build_tree(text: str, root: Path) -> Path:
    """Build the sysfs a capture holds under `root` and return it as the new /sys."""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        path, mark, content = line.partition(" = ")
        if mark:
            at = root / path.lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(content.encode().decode("unicode_escape").encode("latin-1"))
        else:
            path, _, target = line.partition(" -> ")
            at = root / path.lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.symlink_to(target)
    return root / "sys"


@pytest.fixture
def sysfs(tmp_path: Path) -> Callable[[str], Path]:
    """Return a builder of the sysfs of a capture."""

    def build(name: str) -> Path:
        text = (CAPTURES / f"sysfs-linux6.1-{name}.txt").read_text()
        return build_tree(text, tmp_path / name)

    return build
