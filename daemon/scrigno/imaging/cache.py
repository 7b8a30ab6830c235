# SPDX-License-Identifier: Apache-2.0
"""Rendered frames and thumbnails kept on the SSD, least recently used ones leaving first."""

from pathlib import Path

from scrigno.core.counters import Counters


class FrameCache:
    """Pictures by object digest and variant; losing any or all of them costs only time."""

    def __init__(self, root: Path, *, capacity_bytes: int, counters: Counters) -> None:
        """Keep at most `capacity_bytes` under `root`, which is ours alone."""

    async def open(self) -> None:
        """Make the folder and count what stands there."""
        raise NotImplementedError

    async def close(self) -> None:
        """Wait for writes under way; idempotent."""
        raise NotImplementedError

    async def get(self, digest: str, variant: str) -> bytes | None:
        """Return what was kept, or None; never raises for anything the disk does."""
        raise NotImplementedError

    async def put(self, digest: str, variant: str, content: bytes) -> None:
        """Keep `content`, making room first; never raises for anything the disk does."""
        raise NotImplementedError

    async def forget(self, digest: str) -> None:
        """Remove every variant of one object."""
        raise NotImplementedError
