# SPDX-License-Identifier: Apache-2.0
"""What stands in folders, and the digests of bytes."""

import hashlib
import os
from pathlib import Path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names_under(folder: Path) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(base, name), folder)
        for base, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".scrigno")
    )
