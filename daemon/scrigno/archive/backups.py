# SPDX-License-Identifier: Apache-2.0
"""Online backups of the index on every volume, and getting one back (DB-3).

A backup is `index-backups/<UTC time>-<digest>.db`: the beginning of its SHA-256 is in its name, so
that a damaged one is never restored. The note beside it is written when it was read back from the
volume and found right, and says what is in it. A backup only spares time, and keeps what no image
tells (decisions, protection); the rest can be rebuilt from a volume.
"""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import Totals
from scrigno.catalogue.schema import INDEX_SCHEMA
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.db import file as database_file
from scrigno.db.errors import DatabaseDamaged, DatabaseError
from scrigno.volumes.states import ErrorKind, VolumeError
from scrigno.volumes.volume import Volume, Volumes

log = logging.getLogger(__name__)

PREFIX: Final = "index-backups"
INTERVAL_S: Final = 6 * 3600.0  # what is newer is found again by reconciling
RETRY_S: Final = 600.0
NOTE_BYTES: Final = 16 << 10
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_DIGEST_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRules:
    """How many backups each volume keeps: the newest, and then one a day and one a week."""

    last: int = 8  # two days
    daily: int = 7
    weekly: int = 4


@dataclass(frozen=True, slots=True)
class IndexBackup:
    """One backup on one volume. What the note does not say is None."""

    volume: str
    key: str
    made_at: datetime
    size: int
    verified_at: datetime | None = None  # read back from the volume and found right
    schema_version: int | None = None
    compat: int | None = None
    studies: int | None = None
    instances: int | None = None

    @property
    def name(self) -> str:
        """What an operator calls it."""
        return self.key.removeprefix(f"{PREFIX}/")


def superfluous(backups: Sequence[IndexBackup], rules: BackupRules) -> list[IndexBackup]:
    """Return those of one volume's backups that need not be kept.

    Kept are the newest, the newest of each of the last days and weeks that have one, and always
    the newest that was verified.
    """
    newest_first = sorted(backups, key=lambda backup: backup.made_at, reverse=True)
    kept = {backup.key for backup in newest_first[: rules.last]}
    days: dict[object, str] = {}
    weeks: dict[object, str] = {}
    for backup in newest_first:
        days.setdefault(backup.made_at.date(), backup.key)
        weeks.setdefault(backup.made_at.isocalendar()[:2], backup.key)
    kept.update(list(days.values())[: rules.daily])
    kept.update(list(weeks.values())[: rules.weekly])
    verified = [backup.key for backup in newest_first if backup.verified_at is not None]
    kept.update(verified[:1])
    return [backup for backup in newest_first if backup.key not in kept]


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
        rules: Callable[[], BackupRules] = BackupRules,
    ) -> None:
        """`work_dir` is on the system disk and has room for one copy of the index."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._work_dir = work_dir
        self._counters = counters
        self._clock = clock
        self._interval_s = interval_s
        self._rules = rules
        self._one = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._notes: dict[tuple[str, str], IndexBackup] = {}  # (volume, key); they never change
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

        Raises DatabaseError (also when the copy is not sound), OSError (system disk), CommandError
        (no volume took it).
        """
        async with self._one:
            now = self._clock.now()
            path = self._work_dir / "index-backup.tmp"
            try:
                totals = await self._catalogue.totals()
                await self._catalogue.backup(path)
                report = await asyncio.to_thread(database_file.inspect, path, INDEX_SCHEMA)
                if not report.sound:
                    raise DatabaseDamaged(
                        f"The copy of the index is not sound ({report.problems[0]}).",
                        next_step="Check the system disk.",
                    )
                return await self._spread(path, now, report, totals)
            finally:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _spread(
        self, path: Path, now: datetime, report: database_file.FileReport, totals: Totals
    ) -> list[IndexBackup]:
        fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            digest, size = await asyncio.to_thread(_digest_of, fd)
            key = (
                f"{PREFIX}/{now.astimezone(UTC).strftime(_STAMP)}-{digest[:_DIGEST_CHARACTERS]}.db"
            )
            made: list[IndexBackup] = []
            for volume in self._volumes.healthy():
                backup = IndexBackup(
                    volume=volume.name,
                    key=key,
                    made_at=now,
                    size=size,
                    schema_version=report.version,
                    compat=report.compat,
                    studies=totals.studies,
                    instances=totals.instances,
                )
                try:
                    made.append(await self._put(volume, backup, fd, digest))
                    await self._prune(volume)
                except VolumeError as error:
                    self._counters.add("index_backup_failures", volume=volume.name)
                    log.warning("volume %s: no index backup: %s", volume.spec.name, error.reason)
        finally:
            os.close(fd)
        if not made:
            raise CommandError("No volume took a backup of the index.")
        self.last_made = now
        self._counters.add("index_backups")
        return made

    async def _put(self, volume: Volume, backup: IndexBackup, fd: int, digest: str) -> IndexBackup:
        """Write one backup, read it back from the disk, and only then say that it is good."""
        await volume.put(backup.key, fd=fd, size=backup.size, digest=digest)
        if await volume.digest(backup.key) != (digest, backup.size):
            await volume.remove(backup.key)
            raise VolumeError(volume.name, ErrorKind.IO, "it does not give the backup back")
        backup = replace(backup, verified_at=self._clock.now())
        await volume.put_bytes(note_key(backup.key), _to_note(backup, digest))
        return backup

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
        notes: set[str] = set()
        async with aclosing(volume.walk(PREFIX)) as walk:
            async for key, size in walk:
                made_at = _made_at(key)
                if made_at is not None and key.endswith(".db"):
                    found.append(IndexBackup(volume.spec.name, key, made_at, size))
                elif key.endswith(".json"):
                    notes.add(key)
        described = [
            await self._described(volume, backup) if note_key(backup.key) in notes else backup
            for backup in found
        ]
        return sorted(described, key=lambda backup: backup.made_at, reverse=True)

    async def _described(self, volume: Volume, backup: IndexBackup) -> IndexBackup:
        known = self._notes.get((volume.name, backup.key))
        if known is None:
            note = await volume.head(note_key(backup.key), NOTE_BYTES)
            known = self._notes[volume.name, backup.key] = _from_note(backup, note)
        return known

    async def _prune(self, volume: Volume) -> None:
        for backup in superfluous(await self._on(volume), self._rules()):
            await volume.remove(backup.key)
            await volume.remove(note_key(backup.key))
            self._notes.pop((volume.name, backup.key), None)

    async def named(self, volume: str, name: str) -> IndexBackup:
        """Return the backup that an operator names; raises CommandError."""
        for backup in await self.listed():
            if backup.volume == volume and name in (backup.name, backup.key):
                return backup
        raise CommandError(
            f"There is no backup {name} on volume {volume}, or the volume cannot be read.",
            next_step="List the backups.",
        )

    async def fetch(self, backup: IndexBackup, target: Path) -> None:
        """Write a backup to `target`, whole and checked; nothing may stand there.

        Raises CommandError (it is damaged, or of a newer release), VolumeError, OSError,
        DatabaseError (the system disk).
        """
        digest = hashlib.sha256()
        file = await asyncio.to_thread(target.open, "xb")
        try:
            # A log that is left of another file of this name would be taken for its own.
            await asyncio.to_thread(_remove_logs, target)
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
                raise _unusable(backup, "it is damaged")
            report = await asyncio.to_thread(database_file.inspect, target, INDEX_SCHEMA)
            if not report.sound:
                raise _unusable(backup, "it is not sound")
            if report.compat > INDEX_SCHEMA.version:
                raise _unusable(backup, "a newer release wrote it")
        except BaseException:
            await asyncio.to_thread(_remove, target)
            raise


def note_key(key: str) -> str:
    """Return where the note about the backup `key` stands."""
    return key.removesuffix(".db") + ".json"


def _unusable(backup: IndexBackup, why: str) -> CommandError:
    return CommandError(
        f"The backup {backup.key} on volume {backup.volume} cannot be used: {why}.",
        next_step="Take another one.",
    )


def _to_note(backup: IndexBackup, digest: str) -> bytes:
    assert backup.verified_at is not None  # noqa: S101 - the caller has just verified it
    fields = {
        "digest": digest,
        "size": backup.size,
        "verified_at": backup.verified_at.isoformat(),
        "schema_version": backup.schema_version,
        "compat": backup.compat,
        "studies": backup.studies,
        "instances": backup.instances,
    }
    return json.dumps(fields, indent=1).encode()


def _from_note(backup: IndexBackup, note: bytes) -> IndexBackup:
    """Return what the note says; a note that is nonsense says nothing."""
    try:
        fields: Any = json.loads(note)
        if int(fields["size"]) != backup.size:
            return backup
        return replace(
            backup,
            verified_at=datetime.fromisoformat(fields["verified_at"]),
            schema_version=int(fields["schema_version"]),
            compat=int(fields["compat"]),
            studies=int(fields["studies"]),
            instances=int(fields["instances"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return backup


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


def _remove(path: Path) -> None:
    """Remove a file that was never in force, and what the engine left beside it."""
    path.unlink(missing_ok=True)
    _remove_logs(path)


def _remove_logs(path: Path) -> None:
    for rest in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
