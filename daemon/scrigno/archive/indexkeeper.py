# SPDX-License-Identifier: Apache-2.0
"""Keeping the index: it is opened, watched, and brought back when it is damaged or gone (DB-3).

Everything in the index but decisions and flags stands on the volumes too, so the way back is the
newest good backup and then what happened since: the entries of the staging journal, and a
comparison of every volume with the index, which takes in files of no row. That comparison reads
names and sizes only (measured: docs/decisions/0005) and, unlike file times, is right after clock
steps and replaced disks. Without a backup the index is made anew from the volumes.

An index is never thrown away because a query found it malformed: a disk that reads badly looks the
same. The disk must pass a canary, a fresh connection must find the file unsound past the cache, and
then the file is set aside with the time in its name. It is never deleted.

While it is not open every question raises DatabaseClosed, and images are taken in to volumes and
journal; their rows come with the replay.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.schema import INDEX_SCHEMA
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError, ScrignoError
from scrigno.core.events import EventBus, IndexRebuilt, VolumeChanged
from scrigno.db import file as database_file
from scrigno.db.errors import (
    DatabaseDamaged,
    DatabaseError,
    DatabaseFull,
    DatabaseUnavailable,
    EngineTooOld,
    SchemaTooNew,
)
from scrigno.volumes.staging import Staging
from scrigno.volumes.states import VolumeError, VolumeState
from scrigno.volumes.volume import Volumes

from .backups import IndexBackup, IndexBackups
from .index_state import (
    Due,
    IndexFacts,
    IndexState,
    KeeperTiming,
    RestoreReport,
    read_due,
    write_due,
)
from .rebuild import Rebuilder
from .reconcile import Reconciler
from .recovery import Recovery

log = logging.getLogger(__name__)

STARTING_POLL_S: Final = 0.1
LEAST_BYTES: Final = 32 << 10  # the tables alone are larger, so a file below was emptied


class IndexKeeper:
    """Owns opening and closing of the index. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        path: Path,
        volumes: Volumes,
        staging: Staging,
        backups: IndexBackups,
        rebuilder: Rebuilder,
        reconciler: Reconciler,
        recovery: Recovery,
        counters: Counters,
        clock: Clock,
        bus: EventBus,
        replaced: Sequence[Callable[[], None]] = (),
        timing: KeeperTiming | None = None,
    ) -> None:
        """`path` is the file of `catalogue`; `replaced` are told when another one is in force."""
        self._catalogue = catalogue
        self._engine = catalogue.engine
        self._path = path
        self._volumes = volumes
        self._staging = staging
        self._backups = backups
        self._rebuilder = rebuilder
        self._reconciler = reconciler
        self._recovery = recovery
        self._counters = counters
        self._clock = clock
        self._bus = bus
        self._replaced = tuple(replaced)
        self._timing = timing or KeeperTiming()
        self._facts = IndexFacts(state=IndexState.CLOSED, reason="", since=clock.now())
        self._due: Due | None = None
        self._trouble: DatabaseError | None = None
        self._warned = ""  # the last warning: one that comes again is not news
        self._inodes: tuple[int, int] | None = None  # of the file and its log, while it is open
        self._device = 0  # of the state directory at the start
        self._canary: asyncio.Task[None] | None = None
        self._check_at_s = 0.0
        self._one = asyncio.Lock()  # one at a time opens, closes or replaces
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._engine.on_trouble = self._heard

    @property
    def facts(self) -> IndexFacts:
        """Return how the index is now."""
        return self._facts

    # life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the index when that works at once; what is wrong is mended after `start`.

        Raises SchemaTooNew and EngineTooOld, which only an operator can mend.
        """
        self._device = await asyncio.to_thread(_device_of, self._path.parent)
        self._due = await asyncio.to_thread(read_due, self._due_path)
        await self._note_set_aside()
        lost = await asyncio.to_thread(self._is_lost)
        if lost:
            self._become(IndexState.RESTORING, "its file is gone")
        else:
            try:
                await self._opened()
            except (SchemaTooNew, EngineTooOld):
                raise
            except DatabaseError as error:
                log.error("index: %s", error.reason)  # noqa: TRY400 - the reason says it all
                self._become(IndexState.WAITING, error.reason)
        await self._remind_volumes()

    async def _remind_volumes(self) -> None:
        """Tell a box that has lost its memory of its volumes which disks are recorded here.

        Their generations are lost for good, and an old copy of a disk may have come in: what
        stands on them is compared with the index. (A restored index is compared anyway.)
        """
        forgotten = self._volumes.forgotten
        if not forgotten:
            return
        uuids: dict[str, str] = {}
        try:
            uuids = await self._catalogue.volume_uuids()
            before = (
                Due(rebuild=False, restored_from="", volumes=()) if not self._due else self._due
            )
            names = tuple(sorted(forgotten.union(before.volumes)))
            await self._keep_due(replace(before, volumes=names))
        except DatabaseError as error:
            log.warning("index: it cannot say which disks the volumes were: %s", error.reason)
        self._volumes.remind(uuids)

    def start(self) -> None:
        """Begin to watch and mend; returns at once. Volumes and staging must have been started."""
        self._unsubscribe = self._bus.subscribe(VolumeChanged, self._volume_changed)
        self._check_at_s = asyncio.get_running_loop().time() + self._timing.first_check_s
        self._task = asyncio.create_task(self._run(), name="index-keeper")

    async def close(self) -> None:
        """Stop and close the index. Idempotent."""
        self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._catalogue.close()
        self._become(IndexState.CLOSED, "")

    def _heard(self, error: DatabaseError) -> None:
        """A query or a change failed because of the file: look at it soon."""
        self._trouble = error
        self._wake.set()

    def _volume_changed(self, event: VolumeChanged) -> None:
        if event.after == VolumeState.ONLINE and (self._due or not self._engine.is_open):
            self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                async with self._one:
                    await self._look_after()
            except (ScrignoError, OSError) as error:
                if str(error) != self._warned:
                    log.warning("index: %s", error)
                self._warned = str(error)
                if not self._engine.is_open:
                    self._become(IndexState.WAITING, str(error))
            except Exception:  # a fault of ours must not leave the index unwatched
                log.exception("index: looking after it failed and goes on")
            else:
                self._warned = ""
            self._wake.clear()
            try:
                async with asyncio.timeout(self._timing.poll_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look_after(self) -> None:
        if not self._engine.is_open:
            await self._bring_back()
        elif await self._was_taken_away():
            await self._rescue()
        elif self._trouble is not None:
            await self._diagnose(self._trouble)
        elif asyncio.get_running_loop().time() >= self._check_at_s:
            await self._check()
        if self._engine.is_open and self._due is not None and self._can_replay(self._due):
            await self._replay(self._due)

    async def _was_taken_away(self) -> bool:
        """Tell whether another file, or none, stands in the place of the one that is open."""
        try:
            return await asyncio.to_thread(self._file_inodes) != self._inodes
        except OSError as error:  # the disk does not even say what is there
            self._trouble = self._trouble or DatabaseUnavailable(str(error))
            return False

    # opening -----------------------------------------------------------------------------------

    async def _opened(self) -> None:
        """Open the file that is there, or a new one; raises DatabaseError."""
        await self._catalogue.open()
        self._engine.why_closed = ""
        self._trouble = None
        self._inodes = await asyncio.to_thread(self._after_opening)
        if self._facts.state is not IndexState.CLOSED:
            self._recovery.look_again()  # while it was away the journal could not be listed
        if self._due is None:
            self._become(IndexState.OPEN, "")
        else:
            state = IndexState.REBUILDING if self._due.rebuild else IndexState.REPLAYING
            self._become(state, "what is newer is being taken in")

    def _after_opening(self) -> tuple[int, int] | None:
        self._mark_path.touch()
        return self._file_inodes()

    def _is_lost(self) -> bool:
        """Tell whether there was an index and there is none, or an empty file; blocking."""
        if not self._mark_path.exists() and not self._volumes.used_before:
            return False
        try:
            return self._path.stat().st_size < LEAST_BYTES
        except FileNotFoundError:
            return True

    def _require_home(self) -> None:
        """Raise DatabaseUnavailable when the state directory is a bare mount point; blocking.

        Nothing may be made there: it would be hidden as soon as the disk is mounted again.
        """
        other = _device_of(self._path.parent) != self._device
        if other and not self._mark_path.exists():
            raise DatabaseUnavailable(
                "The state directory is another disk than before, and there is no index on it.",
                next_step="Mount its disk again.",
            )

    def _file_inodes(self) -> tuple[int, int] | None:
        """Return what stands under the names of file and log; None when one is gone; blocking."""
        try:
            log_path = self._path.with_name(f"{self._path.name}-wal")
            return self._path.stat().st_ino, log_path.stat().st_ino
        except FileNotFoundError:
            return None

    @property
    def _mark_path(self) -> Path:
        """A file that says that there is an index: without it and volumes this is a new box."""
        return self._path.with_name(f"{self._path.name}.made")

    @property
    def _due_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.replay")

    @property
    def _fresh_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.restoring")

    # what is wrong -----------------------------------------------------------------------------

    async def _diagnose(self, trouble: DatabaseError) -> None:
        """Find out whether disk or file is at fault after a failure; raises DatabaseUnavailable."""
        try:
            await self._sound_disk()
        except DatabaseUnavailable as error:
            # A full or read-only disk still answers queries; a dead one is let go, so that it can
            # be unmounted and replaced.
            if self._is_hung() or await self._engine.can_be_read():
                self._become(IndexState.WAITING, error.reason)
            else:
                await self._shut(f"the system disk cannot be read: {error.reason}")
            raise
        self._trouble = None
        if isinstance(trouble, DatabaseFull):
            self._become(IndexState.OPEN, "")
            return
        problems = await self._engine.check()
        if problems:
            log.error("index: it is damaged: %s", problems[0])
            await self._shut("it is damaged and is being restored")
            await self._bring_back()
        elif self._engine.failed:
            # What the failed sync lost is unknown; the journal and the volumes have it all.
            await self._shut("its log could not be written and it is opened anew")
            await self._set_due(rebuild=False, restored_from=self._facts.restored_from)
            await self._bring_back()
            self._counters.add("index_reopenings")
        else:
            self._counters.add("index_false_alarms")
            log.warning("index: it is sound after all, the disk failed for a moment")
            self._become(IndexState.OPEN, "")

    async def _shut(self, why: str) -> None:
        self._engine.why_closed = why
        self._become(IndexState.RESTORING, why)
        await self._catalogue.close()

    async def _bring_back(self) -> None:
        """Open the file when it is sound, else put a backup in its place."""
        await asyncio.to_thread(self._require_home)
        if await asyncio.to_thread(self._path.exists):
            await self._sound_disk()
            report = await asyncio.to_thread(database_file.inspect, self._path, INDEX_SCHEMA)
            if not report.sound:  # once more: a disk that recovers now must cost nothing
                await self._sound_disk()
                report = await asyncio.to_thread(database_file.inspect, self._path, INDEX_SCHEMA)
            if report.sound and not await asyncio.to_thread(self._is_lost):
                await self._opened()
                return
            what = report.problems[0][:200] if report.problems else "it was empty"
            await self._restore_newest(f"it was damaged ({what})")
        else:
            await self._restore_newest("its file was gone")

    async def _sound_disk(self) -> None:
        """Raise DatabaseUnavailable when the system disk does not write and read."""
        if self._is_hung():
            raise DatabaseUnavailable("The system disk does not answer.")  # no second thread hangs
        self._canary = asyncio.create_task(
            asyncio.to_thread(database_file.canary, self._path.parent), name="index-canary"
        )
        done, _ = await asyncio.wait([self._canary], timeout=self._timing.canary_s)
        if not done:
            raise DatabaseUnavailable("The system disk does not answer.")
        self._canary.result()

    def _is_hung(self) -> bool:
        """Tell whether the last canary has not come back."""
        return self._canary is not None and not self._canary.done()

    async def _check(self) -> None:
        """Read every page of the open index, gently; what is found is looked into."""
        loop = asyncio.get_running_loop()
        self._check_at_s = loop.time() + self._timing.check_every_s
        problems = await self._engine.check_gently(self._timing.check_pause_s)
        self._counters.add("index_checks")
        if problems:
            self._trouble = DatabaseDamaged(f"The index is damaged ({problems[0]}).")
            await self._diagnose(self._trouble)
        else:
            self._facts = replace(self._facts, checked_at=self._clock.now())

    async def _rescue(self) -> None:
        """The file was deleted or replaced under us: only our open connections have it still."""
        await asyncio.to_thread(self._require_home)
        why = "its file was taken away while it was in use"
        log.error("index: %s", why)
        self._engine.why_closed = why
        self._become(IndexState.RESTORING, why)
        await asyncio.to_thread(_discard, self._fresh_path)
        try:
            await self._engine.rescue(self._fresh_path)
        except (DatabaseError, OSError) as error:
            log.warning("index: no copy could be made of it: %s", error)
            await self._restore_newest(why)
            return
        self._counters.add("index_rescues")
        await self._swap(self._fresh_path, rebuild=False, restored_from="")

    # restoring ---------------------------------------------------------------------------------

    async def restore(self, volume: str, name: str) -> RestoreReport:
        """Put a chosen backup into force and take in what happened since.

        The daemon goes on: images that come in the moment in between stand in the journal. Raises
        CommandError, VolumeError, DatabaseError; until the backup is proven sound nothing changes.
        """
        async with self._one:
            backup = await self._backups.named(volume, name)
            await self._sound_disk()
            await asyncio.to_thread(_discard, self._fresh_path)
            await self._backups.fetch(backup, self._fresh_path)
            await self._shut("an operator is restoring a backup")
            kept = await self._swap(self._fresh_path, rebuild=False, restored_from=_words(backup))
            due = self._due
            assert due is not None  # noqa: S101 - the swap has set it
            taken_in, from_journal = await self._replay(due)
            return RestoreReport(
                backup=backup,
                set_aside=kept,
                taken_in=taken_in,
                from_journal=from_journal,
                skipped=self._facts.pending_volumes,
            )

    async def _restore_newest(self, why: str) -> None:
        """Put the newest good backup in place, or an empty index when there is none."""
        self._engine.why_closed = f"{why}, and a backup is being put in its place"
        self._become(IndexState.RESTORING, why)
        await self._volumes_shown()
        for backup in await self._backups.listed():
            await asyncio.to_thread(_discard, self._fresh_path)
            try:
                await self._backups.fetch(backup, self._fresh_path)
            except (CommandError, VolumeError) as error:
                log.warning("index: a backup cannot be used: %s", error.reason)
                continue
            log.warning("index: %s; the backup %s is put in its place", why, _words(backup))
            await self._swap(self._fresh_path, rebuild=False, restored_from=_words(backup))
            return
        if not any(volume.readable for volume in self._volumes.ordered):
            raise DatabaseUnavailable(f"{why}, and no volume with a backup can be read yet")
        log.warning("index: %s; there is no backup, it is made anew from the volumes", why)
        await self._swap(None, rebuild=True, restored_from="")

    async def _volumes_shown(self) -> None:
        """Wait until volumes that are just starting can be read, for a while."""
        for _ in range(int(self._timing.volumes_s / STARTING_POLL_S)):
            if all(v.state is not VolumeState.STARTING for v in self._volumes.ordered):
                return
            await asyncio.sleep(STARTING_POLL_S)

    async def _swap(self, fresh: Path | None, *, rebuild: bool, restored_from: str) -> str:
        """Set the old index aside and put another one in force; returns the name of the old one."""
        await self._catalogue.close()
        # Known before anything moves: a crash in between only repeats the rest.
        await self._set_due(rebuild=rebuild, restored_from=restored_from)
        kept = await asyncio.to_thread(database_file.set_aside, self._path, self._clock.now())
        if fresh is not None:
            await asyncio.to_thread(database_file.put_in_force, fresh, self._path)
        await self._opened()
        self._facts = replace(self._facts, restored_from=restored_from)
        await self._note_set_aside()
        self._counters.add("index_replacements")
        for tell in self._replaced:
            tell()
        return "" if kept is None else kept.name

    async def _note_set_aside(self) -> None:
        files = await asyncio.to_thread(database_file.aside, self._path)
        self._facts = replace(self._facts, set_aside=tuple(each.name for each in files))

    async def _set_due(self, *, rebuild: bool, restored_from: str) -> None:
        names = tuple(volume.name for volume in self._volumes.ordered)
        await self._keep_due(Due(rebuild, restored_from, names))

    async def _keep_due(self, due: Due | None) -> None:
        self._due = due
        pending = () if due is None else due.volumes
        self._facts = replace(self._facts, pending_volumes=pending)
        await asyncio.to_thread(write_due, self._due_path, due)

    # what happened since -----------------------------------------------------------------------

    def _can_replay(self, due: Due) -> bool:
        """Tell whether a volume that was not compared yet can be read now."""
        return not due.volumes or any(
            v.readable for v in self._volumes.ordered if v.name in due.volumes
        )

    async def _replay(self, due: Due) -> tuple[int, int]:
        """Take in what the index in force does not know; returns how much, and from the journal.

        Raises DatabaseError, StagingFailed, VolumeError: then it is done again.
        """
        state = IndexState.REBUILDING if due.rebuild else IndexState.REPLAYING
        self._become(state, "what is newer is being taken in")
        before = (await self._catalogue.totals()).instances
        from_journal = await self._journal()
        if due.rebuild:
            await self._rebuilder.rebuild(progress=self._progressed)
            await self._keep_due(replace(due, rebuild=False))
            instances = (await self._catalogue.totals()).instances
            self._bus.publish(IndexRebuilt(instances=instances))
        report = await self._reconciler.reconcile(fix=True, progress=self._progressed)
        skipped = set(report.skipped)
        kept = 0
        for volume in self._volumes.ordered:
            if volume.name not in skipped:
                try:
                    kept += await self._rebuilder.take_in_kept(volume)
                except VolumeError as error:
                    log.warning("index: the inbox of a volume is not read: %s", error.reason)
                    skipped.add(volume.name)
        await self._catalogue.sync()
        taken_in = (await self._catalogue.totals()).instances - before + kept
        names = [volume.name for volume in self._volumes.ordered if volume.name in skipped]
        await self._keep_due(
            Due(rebuild=False, restored_from=due.restored_from, volumes=tuple(names))
            if names
            else None
        )
        reason = f"not compared yet: {', '.join(names)}" if names else ""
        self._become(IndexState.OPEN, reason)
        log.info(
            "index: %d objects taken in that it did not know, %d entries of the journal again",
            taken_in,
            from_journal,
        )
        return taken_in, from_journal

    async def _journal(self) -> int:
        """Have every entry of the staging journal without a row taken in again."""
        known = {row.staged_as for row in await self._catalogue.staged()}
        entries = [each for each in await self._staging.journal() if each.name not in known]
        for entry in entries:
            self._recovery.add(entry.name, entry.note)
        self._recovery.look_again()  # an older index names entries that are gone
        return len(entries)

    def _progressed(self, done: int, total: int) -> None:
        self._facts = replace(self._facts, done=done, total=total)

    def _become(self, state: IndexState, reason: str) -> None:
        if (state, reason) == (self._facts.state, self._facts.reason):
            return
        if state is not self._facts.state:
            log.info("index: %s, was %s: %s", state.value, self._facts.state.value, reason)
        self._facts = replace(
            self._facts, state=state, reason=reason, since=self._clock.now(), done=0, total=0
        )


def _words(backup: IndexBackup) -> str:
    return f"{backup.name} of volume {backup.volume}"


def _device_of(folder: Path) -> int:
    return folder.stat().st_dev


def _discard(path: Path) -> None:
    """Remove a copy that was never in force."""
    for rest in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
