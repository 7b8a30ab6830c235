# SPDX-License-Identifier: Apache-2.0
"""Online backups of the index on every volume, and getting one back (DB-3).

A backup is `index-backups/<UTC time>-<digest>.db`: the beginning of its SHA-256 is in its name, so
that a damaged one is never restored. It only spares time: the index can be rebuilt from a volume.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.db.errors import DatabaseError
from scrigno.volumes.states import VolumeError
from scrigno.volumes.volume import Volume, Volumes

log = logging.getLogger(__name__)

PREFIX: Final = "index-backups"
INTERVAL_S: Final = 6 * 3600.0  # what is newer is found again by reconciling
RETRY_S: Final = 600.0
KEEP: Final = 8  # two days
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_DIGEST_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True)
class IndexBackup:
    """One backup on one volume."""

    volume: str
    key: str
    made_at: datetime
    size: int


class IndexBackups:
    """Makes, lists, prunes and restores. Loop thread only; files are touched in threads."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        work_dir: Path,
        counters: Counters,
        clock: Clock,
        interval_s: float = INTERVAL_S,
        keep: int = KEEP,
    ) -> None:
        """`work_dir` is on the system disk and has room for one copy of the index."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._work_dir = work_dir
        self._counters = counters
        self._clock = clock
        self._interval_s = interval_s
        self._keep = keep
        self._one = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.last_made: datetime | None = None

    def start(self) -> None:
        """Make a backup whenever the newest is older than the interval; returns at once."""
        self._task = asyncio.create_task(self._run(), name="index-backups")

    async def close(self) -> None:
        """Stop. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        made = [backup.made_at for backup in await self.listed()]
        self.last_made = max(made, default=None)
        while True:
            age_s = (
                (self._clock.now() - self.last_made).total_seconds()
                if self.last_made is not None
                else self._interval_s
            )
            await asyncio.sleep(max(0.0, min(self._interval_s - age_s, self._interval_s)))
            try:
                await self.make()
            except (DatabaseError, CommandError, OSError) as error:
                self._counters.add("index_backup_failures")
                log.error("index: no backup was made: %s", error)  # noqa: TRY400 - the reason says it all
                await asyncio.sleep(min(RETRY_S, self._interval_s))

    async def make(self) -> list[IndexBackup]:
        """Make one backup now on every volume that takes it; prune what is over the number kept.

        Raises DatabaseError, OSError (system disk), CommandError (no volume took it).
        """
        async with self._one:
            now = self._clock.now()
            path = self._work_dir / "index-backup.tmp"
            try:
                await self._catalogue.backup(path)
                return await self._spread(path, now)
            finally:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _spread(self, path: Path, now: datetime) -> list[IndexBackup]:
        fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            digest, size = await asyncio.to_thread(_digest_of, fd)
            key = (
                f"{PREFIX}/{now.astimezone(UTC).strftime(_STAMP)}-{digest[:_DIGEST_CHARACTERS]}.db"
            )
            made: list[IndexBackup] = []
            for volume in self._volumes.healthy():
                try:
                    await volume.put(key, fd=fd, size=size, digest=digest)
                    await self._prune(volume)
                except VolumeError as error:
                    log.warning("volume %s: no index backup: %s", volume.spec.name, error.reason)
                    continue
                made.append(IndexBackup(volume.spec.name, key, now, size))
        finally:
            os.close(fd)
        if not made:
            raise CommandError("No volume took a backup of the index.")
        self.last_made = now
        self._counters.add("index_backups")
        return made

    async def listed(self) -> list[IndexBackup]:
        """Return the backups of all volumes that can be read, newest first."""
        found: list[IndexBackup] = []
        for volume in self._volumes.ordered:
            if volume.readable:
                with suppress(VolumeError):
                    found.extend(await self._on(volume))
        return sorted(found, key=lambda backup: backup.made_at, reverse=True)

    async def _on(self, volume: Volume) -> list[IndexBackup]:
        found: list[IndexBackup] = []
        async with aclosing(volume.walk(PREFIX)) as walk:
            async for key, size in walk:
                made_at = _made_at(key)
                if made_at is not None:
                    found.append(IndexBackup(volume.spec.name, key, made_at, size))
        return sorted(found, key=lambda backup: backup.made_at, reverse=True)

    async def _prune(self, volume: Volume) -> None:
        for backup in (await self._on(volume))[self._keep :]:
            await volume.remove(backup.key)

    async def fetch(self, backup: IndexBackup, target: Path) -> None:
        """Write a backup to `target`, whole and checked, or raise CommandError or VolumeError.

        The daemon that uses `target` must not run on it: restoring is done before it opens.
        """
        temporary = target.with_name(target.name + ".restoring")
        digest = hashlib.sha256()
        file = await asyncio.to_thread(temporary.open, "wb")
        try:
            try:
                chunks = self._volumes.by_name(backup.volume).read(backup.key)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        digest.update(chunk)
                        await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(_settle, file.fileno(), file.flush)
            finally:
                await asyncio.to_thread(file.close)
            if not backup.key.endswith(f"-{digest.hexdigest()[:_DIGEST_CHARACTERS]}.db"):
                raise CommandError(
                    f"The backup {backup.key} on volume {backup.volume} is damaged.",
                    next_step="Take another one.",
                )
            await asyncio.to_thread(_put_in_place, temporary, target)
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)


def _digest_of(fd: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := os.pread(fd, 1 << 20, size):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _made_at(key: str) -> datetime | None:
    stamp = key.removeprefix(f"{PREFIX}/").partition("-")[0]
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def _settle(fd: int, flush: Callable[[], None]) -> None:
    flush()
    os.fsync(fd)


def _put_in_place(temporary: Path, target: Path) -> None:
    """Rename durably; the write-ahead log of the file that was there belongs to nobody now."""
    for rest in ("-wal", "-shm"):
        target.with_name(target.name + rest).unlink(missing_ok=True)
    temporary.rename(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
