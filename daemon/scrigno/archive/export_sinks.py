# SPDX-License-Identifier: Apache-2.0
"""Where an export goes: an archive being written or sent, a folder, a disc image.

A file that breaks off is taken back by `abort`, so what a sink holds at its end is whole.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from scrigno.core.errors import ScrignoError
from scrigno.host.files import sync_directory

from .export_zip import ZipWriter

FLUSH_BYTES: Final = 1 << 20


class ExportFailed(ScrignoError):
    """The export cannot be written where it is to go."""

    code = "export-failed"


class Sink(Protocol):
    """Takes files one after the other. Every method raises ExportFailed."""

    async def begin(self, parts: Sequence[str], size: int | None) -> None:
        """Begin a file; its name is of our own making."""

    async def write(self, content: bytes) -> None:
        """Add to it."""

    async def end(self) -> None:
        """End it."""

    async def abort(self) -> None:
        """Take back what has come of it; idempotent."""

    async def finish(self) -> None:
        """End the whole; durable on return where that means anything."""


class ZipSink:
    """An archive whose bytes `send` takes on their way."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Begin one."""
        self._zip = ZipWriter()
        self._send = send
        self._waiting = 0

    async def begin(self, parts: Sequence[str], size: int | None) -> None:
        """Begin a file."""
        self._zip.begin("/".join(parts), size)

    async def write(self, content: bytes) -> None:
        """Add to it."""
        self._zip.write(content)
        self._waiting += len(content)
        if self._waiting >= FLUSH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        self._waiting = 0
        await self._send(self._zip.take())

    async def end(self) -> None:
        """End it."""
        self._zip.end()

    async def abort(self) -> None:
        """Leave the file out of the directory; its bytes stay between the others, unread."""
        self._zip.abort()

    async def finish(self) -> None:
        """Write the directory."""
        self._zip.close()
        await self._flush()


class FileWriter:
    """A file being written by `ZipSink`; blocking work in threads."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is made anew."""
        self.path = path
        self._fd = -1

    async def __aenter__(self) -> "FileWriter":
        """Open it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            self._fd = await asyncio.to_thread(os.open, self.path, flags, 0o600)
        except OSError as error:
            raise _failed(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        if self._fd >= 0:
            await asyncio.shield(asyncio.to_thread(os.close, self._fd))
            self._fd = -1

    async def send(self, content: bytes) -> None:
        """Write the next bytes."""
        try:
            await asyncio.to_thread(_write_all, self._fd, content)
        except OSError as error:
            raise _failed(error) from error


class FolderSink:
    """A folder of the box; no file of somebody else is ever overwritten."""

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        """Write below `folder`; `again` when an earlier run of the same job began there."""
        self._folder = folder
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._flags |= os.O_TRUNC if again else os.O_EXCL
        self._fd = -1
        self._path: Path | None = None
        self._touched: set[Path] = set()

    async def begin(self, parts: Sequence[str], size: int | None) -> None:
        """Begin a file."""
        self._path = self._folder.joinpath(*parts)
        try:
            self._fd = await asyncio.to_thread(_create, self._folder, parts, self._flags)
        except OSError as error:
            raise _failed(error) from error
        self._touched.add(self._path.parent)

    async def write(self, content: bytes) -> None:
        """Add to it."""
        try:
            await asyncio.to_thread(_write_all, self._fd, content)
        except OSError as error:
            raise _failed(error) from error

    async def end(self) -> None:
        """Make the file durable."""
        fd, self._fd = self._fd, -1
        self._path = None
        try:
            await asyncio.to_thread(_sync_and_close, fd)
        except OSError as error:
            raise _failed(error) from error

    async def abort(self) -> None:
        """Remove the file."""
        fd, self._fd = self._fd, -1
        path, self._path = self._path, None
        if fd >= 0 and path is not None:
            await asyncio.shield(asyncio.to_thread(_close_and_remove, fd, path))

    async def finish(self) -> None:
        """Make the names durable."""
        with suppress(OSError):
            for folder in {*self._touched, self._folder}:
                await asyncio.to_thread(sync_directory, folder)


def write_image(folder: Path, image: Path, *, label: str) -> None:
    """Write a disc image (ISO 9660 level 1 with Joliet and UDF) of a folder of our own; blocks.

    Raises ExportFailed.
    """
    disc: Any = pycdlib.PyCdlib()
    try:
        disc.new(interchange_level=1, joliet=3, udf="2.60", vol_ident=label[:32])
        for path in sorted(folder.rglob("*")):
            name = "/" + path.relative_to(folder).as_posix()
            if path.is_dir():
                disc.add_directory(name, joliet_path=name, udf_path=name)
            else:
                plain = name if "." in path.name else f"{name}."
                disc.add_file(str(path), f"{plain};1", joliet_path=name, udf_path=name)
        disc.write(str(image))
        disc.close()
    except OSError as error:
        raise _failed(error) from error
    except PyCdlibException as error:
        raise ExportFailed("The disc image could not be made.") from error
    shutil.rmtree(folder, ignore_errors=True)


def _failed(error: OSError) -> ExportFailed:
    return ExportFailed(
        f"The export cannot be written: {error.strerror or type(error).__name__}.",
        next_step="Look whether the target is there, may be written and has room.",
    )


def _create(folder: Path, parts: Sequence[str], flags: int) -> int:
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=at)
            deeper = os.open(
                part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at
            )
            os.close(at)
            at = deeper
        return os.open(parts[-1], flags, 0o640, dir_fd=at)
    finally:
        os.close(at)


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _sync_and_close(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _close_and_remove(fd: int, path: Path) -> None:
    os.close(fd)
    path.unlink(missing_ok=True)
