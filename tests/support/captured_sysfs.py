# SPDX-License-Identifier: Apache-2.0
"""The sysfs of a captured machine, built again as files."""

from pathlib import Path

CAPTURES = Path(__file__).parent.parent / "captures"


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


def build_captured(name: str, root: Path) -> Path:
    """Build the machine of `sysfs-linux6.1-NAME.txt` under `root` and return its /sys."""
    return build_tree((CAPTURES / f"sysfs-linux6.1-{name}.txt").read_text(), root)
