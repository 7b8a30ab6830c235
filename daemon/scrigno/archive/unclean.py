# SPDX-License-Identifier: Apache-2.0
"""After a stop that was not clean: what may have been cut short is put right, and nothing else.

While the box runs a file in the state directory names the folders (series) that took images last.
A clean stop removes it. Where it stands at the start, the last run was cut short, and an object may
have reached a volume without reaching staging's journal or the index: it was never acknowledged,
but its file is whole. Those folders, at most FOLDERS, are compared with the index in the
background, once what stands in the journal has been taken in. A folder is named durably before its
first image is put anywhere, so none is missed however the box went down.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from scrigno.core.counters import Counters
from scrigno.db.errors import DatabaseError

from .reconcile import Reconciler
from .recovery import Recovery
from .taking import Taking

log = logging.getLogger(__name__)

FILE_NAME: Final = "recent-folders"
FOLDERS: Final = 256  # an image is on its way for seconds, and so many series come in minutes
NAMED_S: Final = 1.0  # a state disk that is slower does not hold images up
RETRY_S: Final = 5.0


class CleanStop:
    """Keeps the mark, and cleans up after a stop without one. Loop thread only."""

    def __init__(
        self,
        *,
        state_dir: Path,
        taking: Taking,
        recovery: Recovery,
        reconciler: Reconciler,
        counters: Counters,
    ) -> None:
        """Touch nothing yet."""
        self._path = state_dir / FILE_NAME
        self._taking = taking
        self._recovery = recovery
        self._reconciler = reconciler
        self._counters = counters
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._left: list[str] = []  # of the last run, not yet looked into
        self._lines = 0
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> bool:
        """Tell whether folders of a run that was cut short are still to be looked into."""
        return bool(self._left)

    async def open(self) -> None:
        """Read what the last run left and begin to keep the mark; before the first image.

        A state directory that cannot be written is said, and stops nothing.
        """
        try:
            self._left = await asyncio.to_thread(self._read)
            if self._left:
                log.warning(
                    "the last run was cut short: %d folders are looked into", len(self._left)
                )
            await asyncio.to_thread(self._rewrite)
        except OSError as error:
            log.error("state: %s cannot be kept: %s", self._path.name, error.strerror)  # noqa: TRY400 - the reason says it all
        self._taking.on_folder = self._named

    def start(self) -> None:
        """Begin to look into what the last run left; returns at once."""
        if self._left:
            self._task = asyncio.create_task(self._look(), name="after an unclean stop")

    async def close(self) -> None:
        """Note that this stop is clean; after ingest has been closed. Idempotent."""
        self._taking.on_folder = lambda folder: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if not self._left:
            try:
                await asyncio.to_thread(self._remove)
            except OSError as error:  # the next start looks into folders for nothing
                log.warning("state: %s cannot be removed: %s", self._path.name, error.strerror)

    async def _look(self) -> None:
        """Look into the folders as soon as the journal has been taken in."""
        while self._left:
            await asyncio.sleep(min(RETRY_S, 1.0))
            if not self._recovery.listed or self._recovery.waiting:
                continue
            try:
                report = await self._reconciler.reconcile_folders(self._left)
            except DatabaseError as error:
                log.warning("after an unclean stop: the index fails: %s", error.reason)
                await asyncio.sleep(RETRY_S)
                continue
            if not report.volumes:
                await asyncio.sleep(RETRY_S)
                continue  # none can be read yet; one that is away is caught up when it returns
            self._counters.add("unclean_stop_fixed_objects", report.fixed)
            log.info(
                "after an unclean stop: %d differences, %d put right", report.found, report.fixed
            )
            self._left = []

    def _named(self, folder: str) -> Awaitable[None] | None:
        """Name the folder durably before its first image is put; None when it is named already."""
        if folder in self._recent:
            self._recent.move_to_end(folder)
            return None
        return self._name(folder)

    async def _name(self, folder: str) -> None:
        async with self._one_at_a_time:
            if folder in self._recent:
                return
            self._recent[folder] = None
            while len(self._recent) > FOLDERS:
                self._recent.popitem(last=False)
            write = self._rewrite if self._lines >= 2 * FOLDERS else self._append
            try:
                async with asyncio.timeout(NAMED_S):
                    await asyncio.to_thread(write)
            except OSError as error:  # TimeoutError is one
                log.warning("state: %s is not kept now: %r", self._path.name, error)

    # in a thread -------------------------------------------------------------------------------

    def _read(self) -> list[str]:
        try:
            lines = self._path.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        folders = list(dict.fromkeys(line for line in reversed(lines) if line.count("/") == 2))
        return folders[:FOLDERS]

    def _append(self) -> None:
        self._write(os.O_APPEND, [next(reversed(self._recent))])

    def _rewrite(self) -> None:
        self._lines = 0
        self._write(os.O_TRUNC, [*reversed(self._left), *self._recent])

    def _write(self, how: int, folders: list[str]) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o640)
        try:
            os.write(fd, "".join(f"{folder}\n" for folder in folders).encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        self._lines += len(folders)

    def _remove(self) -> None:
        self._path.unlink(missing_ok=True)
