# SPDX-License-Identifier: Apache-2.0
"""The ways a database fails, each with state, reason and next step."""

from pathlib import Path
from typing import ClassVar

from scrigno.core.errors import ScrignoError


class DatabaseError(ScrignoError):
    """A database could not do what it was asked; nothing of the request was kept."""

    code: ClassVar[str] = "database-failed"


class DatabaseDamaged(DatabaseError):
    """The file cannot be read as a database. Nothing was deleted or replaced."""

    code: ClassVar[str] = "database-damaged"


class DatabaseFull(DatabaseError):
    """The disk of the database has no space left."""

    code: ClassVar[str] = "database-full"


class DatabaseUnavailable(DatabaseError):
    """The disk of the database does not read or write."""

    code: ClassVar[str] = "database-unavailable"


class DatabaseLocked(DatabaseError):
    """Another process has the database open."""

    code: ClassVar[str] = "database-locked"


class DatabaseClosed(DatabaseError):
    """The database was closed, or never opened."""

    code: ClassVar[str] = "database-closed"


class QueryInterrupted(DatabaseError):
    """A read was stopped before its end because its caller went away."""

    code: ClassVar[str] = "query-interrupted"


class SchemaTooNew(DatabaseError):
    """A newer release wrote this database in a way that this one cannot use."""

    code: ClassVar[str] = "schema-too-new"


class EngineTooOld(DatabaseError):
    """The SQLite library has a defect that can lose committed rows."""

    code: ClassVar[str] = "engine-too-old"


def translated(error: Exception, path: Path) -> Exception:
    """Return the error of this room for one of the engine, or `error` itself when it is a bug.

    A plain read error of the disk surfaces as "malformed" too (SQLITE_CORRUPT from an
    IOERR_CORRUPTFS), so the sentence asks to look at the disk before anything is rebuilt.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    match code & 0xFF:  # primary result code, https://sqlite.org/rescode.html
        case 11 | 26:  # CORRUPT, NOTADB
            return DatabaseDamaged(
                f"database {path.name}: it cannot be read ({error}); nothing was changed.",
                next_step=(
                    "Check the health of the system disk first: a failing disk looks the same. "
                    "If the disk is well, run `scrigno rebuild-index`."
                ),
            )
        case 13:  # FULL
            return DatabaseFull(
                f"database {path.name}: the disk is full, the change was not made.",
                next_step="Free space on the system disk.",
            )
        # IOERR, READONLY, CANTOPEN; INTERNAL, PERM, LOCKED, NOMEM, PROTOCOL
        case 10 | 8 | 14 | 2 | 3 | 6 | 7 | 15:
            return DatabaseUnavailable(
                f"database {path.name}: the disk does not answer as it should ({error}).",
                next_step="Check the system disk and the rights of the state directory.",
            )
        case 5:  # BUSY
            return DatabaseLocked(
                f"database {path.name}: another process has it open.",
                next_step="Stop the other Scrigno that uses this state directory.",
            )
        case 9:  # INTERRUPT
            return QueryInterrupted(f"database {path.name}: the query was stopped.")
        case _:
            return error
