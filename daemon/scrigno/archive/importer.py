# SPDX-License-Identifier: Apache-2.0
"""Import of files and folders of this machine, with a reason for every file left out.

The data set of a file is kept byte for byte; preamble and file meta are written anew, so that the
same data set is the same object whichever way it came.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from scrigno.catalogue.records import Origin
from scrigno.imaging.errors import HeaderIncomplete, HeaderUnreadable, NotDicom
from scrigno.imaging.header import read_index_attributes
from scrigno.imaging.part10 import FileHead, split

from .errors import IngestError
from .import_trees import Readable
from .ingest import Ingest
from .receipts import Receipt, StoreOutcome
from .sources import HEAD_BYTES, MEDIA_STORAGE_DIRECTORY, Found, OpenFile, Walk

FILES_AT_ONCE: Final = 4
BATCH: Final = 200
CHUNK_BYTES: Final = 1 << 20
MAX_REASONS: Final = 10_000  # a disk full of other files must not fill the memory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refused:
    """One file that was not taken in."""

    path: str
    code: str
    reason: str


@dataclass(slots=True)
class ImportReport:
    """What an import did so far."""

    found: int = 0
    new: int = 0
    same: int = 0
    conflict: int = 0
    unreadable_kept: int = 0
    directories: int = 0  # DICOMDIR files, which are no objects
    refused_files: int = 0
    cancelled: bool = False
    refused: list[Refused] = field(default_factory=list)  # the first 10,000

    @property
    def done(self) -> int:
        """How many files are dealt with."""
        kept = self.new + self.same + self.conflict + self.unreadable_kept
        return kept + self.directories + self.refused_files

    def refuse(self, path: Path, code: str, reason: str) -> None:
        """Note a file that was not taken in."""
        self.refused_files += 1
        if len(self.refused) < MAX_REASONS:
            self.refused.append(Refused(str(path), code, reason))


class Importer:
    """Takes files in through the same way as every other door."""

    def __init__(self, ingest: Ingest) -> None:
        """Use the one way into the archive."""
        self._ingest = ingest

    async def import_paths(
        self,
        paths: Sequence[Path],
        *,
        recursive: bool = True,
        user: str = "",
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ImportReport:
        """Import files and folders; `progress(done, found)` is called on the loop.

        A file that is no DICOM object or is refused is named in the report and stops nothing.
        Cancelling the task or `cancelled` ends it between two files; what is in stays in.
        """
        with Threads() as threads:
            run = _Run(self._ingest, threads, user, progress, cancelled)
            await run.all(Walk(paths, recursive))
            return run.report


class Threads:
    """A few threads for reading slow media, gone at the end."""

    def __init__(self) -> None:
        """Start none yet."""
        self._executor = ThreadPoolExecutor(FILES_AT_ONCE + 1, "import")

    def __enter__(self) -> "Threads":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work in one of them."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)


class _Run:
    """One import."""

    def __init__(
        self,
        ingest: Ingest,
        threads: Threads,
        user: str,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool],
    ) -> None:
        self.report = ImportReport()
        self._taker = FileTaker(ingest, threads, user)
        self._threads = threads
        self._progress = progress
        self._cancelled = cancelled

    async def all(self, walk: Walk) -> None:
        """Walk and import side by side: the next batch is looked for while this one is read."""
        batch = await self._threads.run(walk.batch, BATCH)
        while batch and not self.report.cancelled:
            self.report.found += len(batch)
            files = iter(batch)
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._threads.run(walk.batch, BATCH))
                for _ in range(FILES_AT_ONCE):
                    group.create_task(self._some(files))
            batch = following.result()

    async def _some(self, files: Iterator[Found]) -> None:
        for found in files:
            if self._cancelled():
                self.report.cancelled = True
                return
            await self._one(found)
            if self._progress is not None:
                self._progress(self.report.done, self.report.found)

    async def _one(self, found: Found) -> None:
        if found.problem:
            self.report.refuse(found.path, found.code, found.problem)
            return
        try:
            receipt = await self._file(found.path)
        except (IngestError, NotDicom) as error:
            self.report.refuse(found.path, error.code, error.reason)
        except OSError as error:
            self.report.refuse(found.path, "not-readable", error.strerror or "It cannot be read.")
        else:
            self._count(receipt)

    def _count(self, receipt: Receipt | None) -> None:
        report = self.report
        match receipt.outcome if receipt is not None else None:
            case None:
                report.directories += 1
            case StoreOutcome.NEW:
                report.new += 1
            case StoreOutcome.SAME:
                report.same += 1
            case StoreOutcome.CONFLICT_KEPT:
                report.conflict += 1
            case StoreOutcome.UNREADABLE_KEPT | StoreOutcome.HELD:
                report.unreadable_kept += 1

    async def _file(self, path: Path) -> Receipt | None:
        """Take one file in; None for a DICOMDIR. Raises NotDicom, OSError, IngestError."""
        file = await self._threads.run(OpenFile, path)
        try:
            return await self._taker.take(file)
        finally:
            await asyncio.shield(self._threads.run(file.close))


class FileTaker:
    """Takes open files in, one way for all imports. Loop thread only; files are read in threads."""

    def __init__(self, ingest: Ingest, threads: "Threads", user: str) -> None:
        """Read in `threads`, for the account `user`."""
        self._ingest = ingest
        self._threads = threads
        self._origin = Origin(door="import", user=user)

    async def take(self, file: Readable, received_at: datetime | None = None) -> Receipt | None:
        """Take one file in; None for a DICOMDIR. Raises NotDicom, OSError, IngestError.

        What reading the file raises comes out too, and then nothing of it is left.
        """
        start = await self._threads.run(file.read, 0, HEAD_BYTES)
        while len(start) < min(HEAD_BYTES, file.size):
            more = await self._threads.run(file.read, len(start), HEAD_BYTES - len(start))
            if not more:
                break
            start += more
        head = split(start)
        if head.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
            return None
        sop_class_uid, sop_instance_uid = _uids(start, head, file.size)
        reception = self._ingest.begin(
            origin=self._origin,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=head.transfer_syntax_uid,
            received_at=received_at,
        )
        try:
            await reception.pour(self._data_set(file, start, head.data_offset))
        except BaseException:
            reception.discard("the import ended inside the file")
            raise
        return await reception.commit()

    async def _data_set(self, file: Readable, start: bytes, offset: int) -> AsyncIterator[bytes]:
        chunk = start[offset:]
        offset = len(start)
        while chunk or offset < file.size:
            yield chunk
            chunk = await self._threads.run(file.read, offset, CHUNK_BYTES)
            if not chunk:
                return
            offset += len(chunk)


def _uids(start: bytes, head: FileHead, size: int) -> tuple[str, str]:
    """Return SOP Class and Instance UID: the data set's own, where it can be read.

    Nobody announced these files, so a file meta that is about another object is just wrong.
    """
    try:
        said = read_index_attributes(
            memoryview(start)[head.data_offset :],
            transfer_syntax_uid=head.transfer_syntax_uid,
            sop_class_uid=head.sop_class_uid,
            sop_instance_uid=head.sop_instance_uid,
            size=size - head.data_offset,
        ).instance
    except (HeaderUnreadable, HeaderIncomplete):
        return head.sop_class_uid, head.sop_instance_uid
    return said.sop_class_uid, said.sop_instance_uid
