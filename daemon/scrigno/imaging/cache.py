# SPDX-License-Identifier: Apache-2.0
"""Rendered frames and thumbnails kept on the SSD, least recently used ones leaving first."""

import asyncio
import hashlib
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from scrigno.core.counters import Counters

# a kept picture begins with this and 16 bytes of BLAKE2b over the rest: what a crash left half
# written, or a bad SSD changed, is no picture and is made again
_MAGIC: Final = b"SCRC1\0\0\0"
_HEADER_BYTES: Final = len(_MAGIC) + 16
_DIGEST: Final = re.compile(r"[0-9a-f]{16,128}")
_TEMPORARY: Final = ".new-"
MAX_SHARE: Final = 8  # one picture may take this part of the capacity
BLOCK_BYTES: Final = 4096  # what a file of one byte takes
MAX_WAITING: Final = 64  # writes; more are not kept, the pictures can be made again

T = TypeVar("T")


class FrameCache:
    """Pictures by object digest and variant; losing any or all of them costs only time.

    Loop thread only; the disk is touched in one thread of its own. `digest` is the hex digest of
    the object's bytes, so a picture can never belong to other bytes than it was made of. `variant`
    is any text that names what was made of it.
    """

    def __init__(self, root: Path, *, capacity_bytes: int, counters: Counters) -> None:
        """Keep at most `capacity_bytes` under `root`, which is ours alone."""
        self._root = root
        self._capacity_bytes = capacity_bytes
        self._counters = counters
        self._entries: OrderedDict[tuple[str, str], int] = OrderedDict()  # oldest first -> bytes
        self._used_bytes = 0
        self._waiting = 0
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frame-cache")
        self._closed = False

    @property
    def used_bytes(self) -> int:
        """Return what the pictures take on the disk, in whole blocks."""
        return self._used_bytes

    async def open(self) -> None:
        """Make the folder and take in what stands there, by age; what is half written goes."""
        found = await self._on_disk(lambda: _scan(self._root))
        for key, size in found:
            self._entries[key] = size
            self._used_bytes += size
        await self._make_room(0)

    async def close(self) -> None:
        """Wait for what is under way; idempotent."""
        if not self._closed:
            self._closed = True
            await self._on_disk(lambda: None)  # behind everything that was asked for before
            self._disk.shutdown(wait=False)  # its thread is idle

    async def get(self, digest: str, variant: str) -> bytes | None:
        """Return what was kept, or None; never raises for anything the disk does."""
        key = _key(digest, variant)
        if self._closed or key not in self._entries:
            self._counters.add("frame_cache_reads", outcome="miss")
            return None
        self._entries.move_to_end(key)
        content = await self._on_disk(lambda: _read(self._path(key)))
        if content is None:
            self._drop(key)
            self._counters.add("frame_cache_reads", outcome="lost")
            await self._on_disk(lambda: _unlink(self._path(key)))
            return None
        self._counters.add("frame_cache_reads", outcome="hit")
        return content

    async def put(self, digest: str, variant: str, content: bytes) -> None:
        """Keep `content`, making room first; never raises for anything the disk does.

        Not kept are pictures larger than an eighth of the cache, and any while too many wait.
        """
        size = _on_disk_bytes(len(content))
        if self._closed or size > self._capacity_bytes // MAX_SHARE or self._waiting >= MAX_WAITING:
            self._counters.add("frame_cache_writes", outcome="refused")
            return
        key = _key(digest, variant)
        self._waiting += 1
        try:
            await self._make_room(size)
            kept = await self._on_disk(lambda: _write(self._path(key), content))
        finally:
            self._waiting -= 1
        self._counters.add("frame_cache_writes", outcome="kept" if kept else "failed")
        self._drop(key)
        if kept:
            self._entries[key] = size
            self._used_bytes += size

    async def forget(self, digest: str) -> None:
        """Remove every variant of one object."""
        for key in [key for key in self._entries if key[0] == digest]:
            self._drop(key)
        await self._on_disk(lambda: _remove_folder(self._folder(digest)))

    async def _make_room(self, size: int) -> None:
        leaving = []
        while self._entries and self._used_bytes + size > self._capacity_bytes:
            key, freed = self._entries.popitem(last=False)
            self._used_bytes -= freed
            leaving.append(self._path(key))
        if leaving:
            self._counters.add("frame_cache_evictions", len(leaving))
            await self._on_disk(lambda: _unlink_all(leaving))

    def _drop(self, key: tuple[str, str]) -> None:
        self._used_bytes -= self._entries.pop(key, 0)

    def _folder(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def _path(self, key: tuple[str, str]) -> Path:
        return self._folder(key[0]) / key[1]

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _key(digest: str, variant: str) -> tuple[str, str]:
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a digest is written in lower-case hex")
    return digest, hashlib.blake2b(variant.encode(), digest_size=16).hexdigest()


def _on_disk_bytes(length: int) -> int:
    return -(-(length + _HEADER_BYTES) // BLOCK_BYTES) * BLOCK_BYTES


def _seal(content: bytes) -> bytes:
    return _MAGIC + hashlib.blake2b(content, digest_size=16).digest()


def _scan(root: Path) -> list[tuple[tuple[str, str], int]]:
    """Return the pictures that stand there, least recently used first."""
    found = []
    with suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if name.startswith(_TEMPORARY):
                _unlink(path)
                continue
            with suppress(OSError):
                status = path.stat()
                size = _on_disk_bytes(status.st_size - _HEADER_BYTES)
                found.append((status.st_mtime_ns, (path.parent.name, name), size))
    return [(key, size) for _, key, size in sorted(found)]


def _read(path: Path) -> bytes | None:
    try:
        stored = path.read_bytes()
        os.utime(path)  # the time of use, for the order after a restart
    except OSError:
        return None
    content = stored[_HEADER_BYTES:]
    return content if stored[:_HEADER_BYTES] == _seal(content) else None


def _write(path: Path, content: bytes) -> bool:
    """Write and rename, without fsync: a picture that a crash takes away is made again."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        with os.fdopen(fd, "wb") as file:
            file.write(_seal(content) + content)
        Path(temporary).replace(path)
    except OSError:
        if temporary:
            _unlink(Path(temporary))
        return False
    return True


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # goes only when it is empty


def _unlink_all(paths: list[Path]) -> None:
    for path in paths:
        _unlink(path)


def _remove_folder(folder: Path) -> None:
    with suppress(OSError):
        for path in list(folder.iterdir()):
            path.unlink()
        folder.rmdir()
