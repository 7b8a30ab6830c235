# SPDX-License-Identifier: Apache-2.0
"""A database file that nobody has open: whether it is sound, putting another one in its place.

A file that cannot be used is set aside with the time in its name, never deleted: a disk that reads
badly looks like a damaged database (SQLITE_CORRUPT is also what a plain EIO becomes), and what is
in it may still be wanted. All of it blocks.
"""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scrigno.host.files import sync_directory

from .errors import DatabaseDamaged, DatabaseUnavailable, translated
from .migrations import Schema
from .sqlite import Connection, EngineError, open_reader

CANARY_BYTES: Final = 64 << 10
_COMPANIONS: Final = ("-wal", "-shm", "-journal")
_STAMP: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What a thorough look at a closed file showed."""

    problems: tuple[str, ...]  # in the engine's words; empty when it is sound
    version: int  # of its schema, 0 when unknown
    compat: int

    @property
    def sound(self) -> bool:
        """Whether every page of it is as it should be."""
        return not self.problems


def inspect(path: Path, schema: Schema) -> FileReport:
    """Read every page of a file that is not in use, past the cache, by a connection of its own.

    Raises DatabaseUnavailable or DatabaseLocked when it cannot be told.
    """
    _drop_cache(path)
    try:
        connection = open_reader(path)
    except EngineError as error:
        return _report_of(translated(error, path))
    try:
        return _inspected(connection, schema)
    except EngineError as error:
        return _report_of(translated(error, path))
    finally:
        connection.close()


def _inspected(connection: Connection, schema: Schema) -> FileReport:
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(100)").fetchall()]
    version, compat = schema.recorded(connection)
    problems = () if found == ["ok"] else tuple(found)
    return FileReport(problems=problems, version=version, compat=compat)


def _report_of(error: Exception) -> FileReport:
    if isinstance(error, DatabaseDamaged):
        return FileReport(problems=(error.reason,), version=0, compat=0)
    raise error


def canary(folder: Path) -> None:
    """Write, sync and read back past the cache; raises DatabaseUnavailable when the disk fails.

    Only that tells a damaged file from a disk that does not read: stat and statvfs succeed on a
    dead one.
    """
    path = folder / f".canary-{secrets.token_hex(4)}"
    content = secrets.token_bytes(CANARY_BYTES)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            again = os.pread(fd, CANARY_BYTES, 0)
        finally:
            os.close(fd)
            with suppress(OSError):
                path.unlink()
    except OSError as error:
        raise DatabaseUnavailable(
            f"The system disk does not do what it is asked ({os.strerror(error.errno or 0)}).",
            next_step="Check the disk and the space of the state directory.",
        ) from error
    if again != content:
        raise DatabaseUnavailable(
            "The system disk gives back other bytes than were written.",
            next_step="Replace the disk of the state directory.",
        )


def set_aside(path: Path, now: datetime) -> Path | None:
    """Give a file and its log another name that says when; None when there is no file.

    Raises OSError. Nothing is ever overwritten: a name that is taken gets a number.
    """
    stamp = now.astimezone(UTC).strftime(_STAMP)
    number = 0
    while True:
        target = path.with_name(f"{path.name}.aside-{stamp}{f'-{number}' if number else ''}")
        if not any(target.with_name(target.name + rest).exists() for rest in ("", *_COMPANIONS)):
            break
        number += 1
    there = False
    # The log first: without it the file is whole as of its last checkpoint, the other way round
    # the log of the old file would meet a new one.
    for rest in (*_COMPANIONS, ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + rest).rename(target.with_name(target.name + rest))
            there = True
    sync_directory(path.parent)
    return target if there else None


def aside(path: Path) -> list[Path]:
    """Return the files that were set aside, the oldest first."""
    return sorted(
        each
        for each in path.parent.glob(f"{path.name}.aside-*")
        if not each.name.endswith(_COMPANIONS)
    )


def put_in_force(fresh: Path, path: Path) -> None:
    """Rename a finished file into the place of one that was set aside; durable on return.

    Raises FileExistsError when something stands there: that is never overwritten.
    """
    for rest in ("", *_COMPANIONS):
        if path.with_name(path.name + rest).exists():
            raise FileExistsError(f"{path.name}{rest}")
    fresh.rename(path)
    sync_directory(path.parent)


def _drop_cache(path: Path) -> None:
    """Let the next read come from the disk."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DatabaseDamaged(f"database {path.name}: it is not there.") from error
    except OSError as error:
        raise DatabaseUnavailable(
            f"database {path.name}: the disk does not answer ({os.strerror(error.errno or 0)})."
        ) from error
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        raise DatabaseUnavailable(
            f"database {path.name}: the disk does not answer ({os.strerror(error.errno or 0)})."
        ) from error
    finally:
        os.close(fd)
