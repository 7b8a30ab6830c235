# SPDX-License-Identifier: Apache-2.0
"""Files on their way from a browser: resumable, bounded, checked at their end, kept over a restart.

An upload is one file `<id>` and its note `<id>.json` in one folder on the SSD. How far it has come
is the size of the file. Names are kept for people and never become paths. Loop thread only; the
disk is touched in threads.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError
from scrigno.host.files import sync_directory

MOST_UPLOADS: Final = 50_000
MOST_OF_ONE: Final = 20_000
WRITE_BYTES: Final = 1 << 20
SPARE_BYTES: Final = 2 << 30  # of the disk: images on their way come first
_ID: Final = re.compile(r"[0-9a-f]{32}")


class UnknownUpload(ScrignoError):
    """There is no such upload, or it is not yours, or it has expired."""

    code: ClassVar[str] = "unknown-upload"


class UploadConflict(ScrignoError):
    """The bytes do not go on where the upload stands, or somebody else sends them now."""

    code: ClassVar[str] = "upload-conflict"


class UploadsFull(ScrignoError):
    """There is no room for it now."""

    code: ClassVar[str] = "uploads-full"


class UploadDamaged(ScrignoError):
    """What arrived is not what was announced; it was thrown away."""

    code: ClassVar[str] = "upload-damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One file on its way; `batch` holds those together that were chosen together."""

    id: str
    author: str
    name: str
    size: int
    sha256: str  # hex, "" when nobody said
    batch: str
    touched_at: float
    offset: int = 0

    @property
    def complete(self) -> bool:
        """Tell whether all of it is there."""
        return self.offset == self.size


class Uploads:
    """Every upload of the box."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        capacity_bytes: Callable[[], int],
        keep: Callable[[], timedelta],
    ) -> None:
        """Name the folder; `open` makes it."""
        self._folder = folder
        self._clock = clock
        self._capacity_bytes = capacity_bytes
        self._keep = keep
        self._uploads: dict[str, Upload] = {}
        self._sums: dict[str, tuple[int, Any]] = {}  # digest so far, and of how many bytes
        self._busy: set[str] = set()
        self.in_use: Callable[[str], bool] = lambda _: False  # by a job

    async def open(self) -> None:
        """Find what stands there. Raises OSError."""
        found = await asyncio.to_thread(_found, self._folder)
        self._uploads = {each.id: each for each in found}

    # asking --------------------------------------------------------------------------------------

    def get(self, upload_id: str, *, author: str) -> Upload:
        """Return an upload of somebody; raises UnknownUpload."""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.author != author or self._expired(upload):
            raise UnknownUpload(
                "There is no such upload, or it has expired.", next_step="Send the file again."
            )
        return upload

    def of(self, author: str, batch: str | None = None) -> list[Upload]:
        """Return somebody's uploads, by name."""
        mine = (each for each in self._uploads.values() if each.author == author)
        wanted = (each for each in mine if batch is None or each.batch == batch)
        return sorted(wanted, key=lambda each: (each.batch, each.name, each.id))

    def path(self, upload_id: str) -> Path:
        """Return where the bytes stand; raises UnknownUpload."""
        if upload_id not in self._uploads:
            raise UnknownUpload("The upload is gone.", next_step="Send the file again.")
        return self._folder / upload_id

    def name(self, upload_id: str) -> str:
        """Return what the file was called."""
        upload = self._uploads.get(upload_id)
        return upload.name if upload is not None else upload_id

    # changing ------------------------------------------------------------------------------------

    async def begin(
        self, *, author: str, name: str, size: int, sha256: str = "", batch: str = ""
    ) -> Upload:
        """Announce a file; raises UploadsFull."""
        await self._require_room(author, size)
        upload = Upload(
            id=secrets.token_hex(16),
            author=author,
            name=name,
            size=size,
            sha256=sha256.lower(),
            batch=batch,
            touched_at=self._now(),
        )
        self._uploads[upload.id] = upload
        try:
            await asyncio.to_thread(_make, self._folder, upload)
        except OSError as error:
            del self._uploads[upload.id]
            raise UploadsFull(f"The upload cannot be kept: {error.strerror}.") from error
        return upload

    async def _require_room(self, author: str, size: int) -> None:
        await self.purge()
        mine = sum(each.author == author for each in self._uploads.values())
        if len(self._uploads) >= MOST_UPLOADS or mine >= MOST_OF_ONE:
            raise UploadsFull("Too many files are on their way.", next_step="Import them first.")
        taken = sum(each.size for each in self._uploads.values())
        rest = sum(each.size - each.offset for each in self._uploads.values())
        free = await asyncio.to_thread(_free, self._folder)
        if taken + size > self._capacity_bytes() or rest + size + SPARE_BYTES > free:
            raise UploadsFull(
                f"There is no room for an upload of {size >> 20} MiB now.",
                next_step="Wait until other imports are done, or send less at once.",
            )

    async def append(
        self, upload_id: str, *, author: str, offset: int, chunks: AsyncIterator[bytes]
    ) -> Upload:
        """Write what comes next; what arrived before a broken connection is kept.

        Raises UnknownUpload, UploadConflict, UploadDamaged, UploadsFull.
        """
        upload = self.get(upload_id, author=author)
        if upload_id in self._busy:
            raise UploadConflict("Another request sends this file now.", next_step="Wait for it.")
        if offset != upload.offset:
            raise UploadConflict(
                f"The upload stands at byte {upload.offset}.", next_step="Go on from there."
            )
        self._busy.add(upload_id)
        try:
            await self._write(upload, chunks)
        finally:
            self._busy.discard(upload_id)
        return await self._checked(self._uploads[upload_id])

    async def _write(self, upload: Upload, chunks: AsyncIterator[bytes]) -> None:
        known, digest = self._sums.pop(upload.id, (0, hashlib.sha256()))
        fd = await asyncio.to_thread(os.open, self._folder / upload.id, os.O_WRONLY | os.O_CLOEXEC)
        at = upload.offset
        waiting = bytearray()

        async def flush() -> None:
            nonlocal at, known
            block = bytes(waiting)
            waiting.clear()
            await asyncio.to_thread(_put, fd, block, at, digest if known == at else None)
            known = known + len(block) if known == at else known
            at += len(block)
            self._uploads[upload.id] = replace(upload, offset=at, touched_at=self._now())

        try:
            async for chunk in chunks:
                waiting += chunk
                if at + len(waiting) > upload.size:
                    raise UploadConflict(f"The file was announced with {upload.size} bytes.")
                if len(waiting) >= WRITE_BYTES:
                    await flush()
            if waiting:
                await flush()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            if waiting:
                with contextlib.suppress(OSError):
                    await asyncio.shield(flush())
            raise
        except OSError as error:
            raise UploadsFull(f"The upload cannot be written: {error.strerror}.") from error
        finally:
            await asyncio.shield(asyncio.to_thread(_finish, fd, self._folder / upload.id))
            if known == at:
                self._sums[upload.id] = (known, digest)

    async def _checked(self, upload: Upload) -> Upload:
        """Compare a complete file with what was announced."""
        if not upload.complete:
            return upload
        known, digest = self._sums.pop(upload.id, (-1, hashlib.sha256()))
        if not upload.sha256:
            return upload
        if known == upload.size:
            found = digest.hexdigest()
        else:
            found = await asyncio.to_thread(_digest, self._folder / upload.id)
        if found != upload.sha256:
            await self.remove([upload.id])
            raise UploadDamaged("The file arrived damaged.", next_step="Send it again.")
        return upload

    async def remove(self, upload_ids: Sequence[str]) -> None:
        """Throw uploads away; idempotent."""
        gone = [each for each in upload_ids if self._uploads.pop(each, None) is not None]
        for each in gone:
            self._sums.pop(each, None)
        if gone:
            await asyncio.to_thread(_remove, self._folder, gone)

    async def purge(self) -> None:
        """Throw away what nobody has touched for long and no job uses."""
        await self.remove([each.id for each in self._uploads.values() if self._expired(each)])

    def _expired(self, upload: Upload) -> bool:
        age = self._now() - upload.touched_at
        idle = upload.id not in self._busy and not self.in_use(upload.id)
        return idle and age > self._keep().total_seconds()

    def _now(self) -> float:
        return self._clock.now().timestamp()


def expires_at(upload: Upload, keep: timedelta) -> datetime:
    """Return until when an upload is kept when nobody touches it."""
    return datetime.fromtimestamp(upload.touched_at, UTC) + keep


def _found(folder: Path) -> list[Upload]:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    found = []
    names = {each.name for each in folder.iterdir()}
    for name in sorted(names):
        if name.endswith(".json") and _ID.fullmatch(name[:-5]):
            upload = _noted(folder, name[:-5])
            if upload is not None:
                found.append(upload)
                names -= {name, upload.id}
    for name in names:
        (folder / name).unlink(missing_ok=True)
    return found


def _noted(folder: Path, upload_id: str) -> Upload | None:
    try:
        about = (folder / upload_id).stat()
        note = json.loads((folder / f"{upload_id}.json").read_bytes())
        upload = Upload(**{**note, "offset": about.st_size, "touched_at": about.st_mtime})
    except (OSError, ValueError, TypeError):
        return None
    return upload if upload.id == upload_id and upload.offset <= upload.size else None


def _make(folder: Path, upload: Upload) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    for name, content in (
        (upload.id, b""),
        (f"{upload.id}.json", json.dumps(asdict(upload)).encode()),
    ):
        fd = os.open(folder / name, flags, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_directory(folder)


def _put(fd: int, block: bytes, at: int, digest: Any | None) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(fd, view, at)
        at, view = at + written, view[written:]
    if digest is not None:
        digest.update(block)


def _finish(fd: int, path: Path) -> None:
    try:
        os.fsync(fd)
        os.utime(path)
    finally:
        os.close(fd)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path, gone: Sequence[str]) -> None:
    for each in gone:
        for name in (f"{each}.json", each):
            (folder / name).unlink(missing_ok=True)


def _free(folder: Path) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize
