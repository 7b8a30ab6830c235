# SPDX-License-Identifier: Apache-2.0
"""Where the pages stand and how much of the system disk staging may take."""

import os
from pathlib import Path
from typing import Final

from scrigno.core.errors import ConfigError

INSTALLED_PAGES: Final = Path("/opt/scrigno/webui")
CHECKOUT_PAGES: Final = Path(__file__).resolve().parents[3] / "webui/dist"
STAGING_SHARE: Final = 0.5  # of what is free at start: the system needs its disk too
STAGING_MOST_BYTES: Final = 200 << 30
STAGING_LEAST_BYTES: Final = 1 << 30


def pages_folder() -> Path:
    """Return the folder of the pages: beside the daemon in a checkout, else where they install."""
    return CHECKOUT_PAGES if (CHECKOUT_PAGES / "index.html").is_file() else INSTALLED_PAGES


def staging_capacity(folder: Path) -> int:
    """Make the staging folder and return the bytes it may hold; blocking.

    Raises ConfigError when it cannot be made or its disk has hardly any room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        space = os.statvfs(folder)
    except OSError as error:
        raise ConfigError(
            f"The staging directory {folder} cannot be used: {error.strerror}.",
            next_step="Make it, or name another one as staging_dir in the configuration.",
        ) from error
    free = space.f_bavail * space.f_frsize
    if free < STAGING_LEAST_BYTES:
        raise ConfigError(
            f"The disk of the staging directory {folder} has only {free >> 20} MiB free.",
            next_step="Make room: images cannot be taken in without it.",
        )
    return min(int(free * STAGING_SHARE), STAGING_MOST_BYTES)
