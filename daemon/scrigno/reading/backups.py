# SPDX-License-Identifier: Apache-2.0
"""Backups of `reading.db` on every volume, for what stands in no file: links, and where one was.

A backup is `reading-backups/<UTC time>-<digest>.db`; it is read back before it counts, and a file
whose digest is not the one in its name is never restored.
"""

import asyncio
import hashlib
import logging
import os
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.db import file as database_file
from scrigno.db.engine import Database
from scrigno.db.errors import DatabaseError
from scrigno.volumes.states import VolumeError
from scrigno.volumes.volume import Volume, Volumes

from .tables import SCHEMA

log = logging.getLogger(__name__)

PREFIX: Final = "reading-backups"
EVERY_S: Final = 6 * 3600.0
FIRST_S: Final = 600.0  # after the start: a box that is switched off each night has some too
KEPT: Final = 12
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_DIGITS: Final = 32


class ReadingBackups:
    """Makes, prunes and restores. Loop thread only; files are touched in threads."""

    def __init__(
        self,
        database: Database,
        *,
        volumes: Volumes,
        work_dir: Path,
        counters: Counters,
        clock: Clock,
    ) -> None:
        """`work_dir` is on the system disk."""
        self._database = database
        self._volumes = volumes
        self._work_dir = work_dir
        self._counters = counters
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self.last_made: datetime | None = None

    def start(self) -> None:
        """Make one from time to time; returns at once."""
        self._task = asyncio.create_task(self._run(), name="reading-backups")

    async def close(self) -> None:
        """Stop. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                await self.make()
            except (DatabaseError, OSError) as error:
                self._counters.add("reading_backup_failures")
                log.error("reading: no backup was made: %s", error)  # noqa: TRY400 - the reason says it all
            await asyncio.sleep(EVERY_S)

    async def make(self) -> int:
        """Make one backup on every healthy volume; return how many took it.

        Raises DatabaseError, OSError (the system disk).
        """
        async with self._one:
            path = self._work_dir / "reading-backup.tmp"
            try:
                await self._database.backup(path)
                return await self._spread(path)
            finally:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _spread(self, path: Path) -> int:
        now = self._clock.now()
        fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            digest, size = await asyncio.to_thread(_digest_of, path)
            stamp = now.astimezone(UTC).strftime(_STAMP)
            key = f"{PREFIX}/{stamp}-{digest[:_DIGITS]}.db"
            made = 0
            for volume in self._volumes.healthy():
                try:
                    await volume.put(key, fd=fd, size=size, digest=digest)
                    if await volume.digest(key) != (digest, size):
                        await volume.remove(key)
                        continue
                    made += 1
                    for old in (await _listed(volume))[KEPT:]:
                        await volume.remove(old)
                except VolumeError as error:
                    self._counters.add("reading_backup_failures")
                    log.warning("volume %s: no backup of reading: %s", volume.name, error.what)
        finally:
            os.close(fd)
        self.last_made = now if made else self.last_made
        return made

    async def fetch_newest(self, target: Path) -> str:
        """Put the newest sound backup at `target`, where nothing may stand; "" when there is none.

        Raises OSError. Volumes that cannot be read are passed over.
        """
        found: list[tuple[str, Volume]] = []
        for volume in self._volumes.ordered:
            if volume.readable:
                with suppress(VolumeError):
                    found += [(key, volume) for key in await _listed(volume)]
        for key, volume in sorted(found, key=lambda each: each[0], reverse=True):
            try:
                if await self._fetched(volume, key, target):
                    return key.removeprefix(f"{PREFIX}/")
            except VolumeError as error:
                log.warning("volume %s: a backup of reading: %s", volume.name, error.what)
        return ""

    async def _fetched(self, volume: Volume, key: str, target: Path) -> bool:
        fresh = target.with_name(f"{target.name}.restoring")
        await asyncio.to_thread(_discard, fresh)
        digest = hashlib.sha256()
        file = await asyncio.to_thread(fresh.open, "xb")
        try:
            chunks = volume.read(key)
            async with aclosing(chunks):
                async for chunk in chunks:
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(file.flush)
            await asyncio.to_thread(os.fsync, file.fileno())
        finally:
            await asyncio.to_thread(file.close)
        sound = key.endswith(f"-{digest.hexdigest()[:_DIGITS]}.db")
        if sound:
            report = await asyncio.to_thread(database_file.inspect, fresh, SCHEMA)
            sound = report.sound and report.compat <= SCHEMA.version
        if not sound:
            await asyncio.to_thread(_discard, fresh)
            return False
        await asyncio.to_thread(database_file.put_in_force, fresh, target)
        return True


async def _listed(volume: Volume) -> list[str]:
    """Return the keys of a volume's backups, the newest first: names begin with their time."""
    async with aclosing(volume.walk(PREFIX)) as walk:
        return sorted([key async for key, _ in walk if key.endswith(".db")], reverse=True)


def _digest_of(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _discard(path: Path) -> None:
    for rest in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
