# SPDX-License-Identifier: Apache-2.0
"""Numbered migrations of a schema, each one transaction together with its own record."""

from collections.abc import Callable
from typing import Any, cast

import sqlite_utils
from sqlite_utils import Migrations

from .errors import SchemaTooNew
from .sqlite import Connection

Step = Callable[[sqlite_utils.Database], None]


class Schema:
    """A named schema: its steps in order, and the oldest release that may still use its result.

    `steps` only ever grows at its end. The version is the number of steps; `compat` is the oldest
    version whose program can use a database of this version (raise it only when an older program
    would do harm).
    """

    def __init__(self, name: str, steps: tuple[Step, ...], *, compat: int) -> None:
        """Take `steps` as the versions from 1 on."""
        self.name = name
        self.version = len(steps)
        self.compat = compat
        self._migrations = Migrations(name)
        for number, step in enumerate(steps, start=1):
            self._migrations(name=f"{number:04d}-{step.__name__}")(
                self._recorded_step(number, step)
            )

    def apply(self, connection: Connection) -> None:
        """Bring the database to this version, or refuse it in words.

        A database of a newer release is used as it is when that release says that it may be.
        """
        found, compat = self.recorded(connection)
        if compat > self.version:
            raise SchemaTooNew(
                f"database {self.name}: a newer Scrigno wrote it (schema {found}, usable from "
                f"{compat} on), this one knows schema {self.version}. Nothing was changed.",
                next_step="Install the newer release again, or restore a backup of the index.",
            )
        if found < self.version:
            database = sqlite_utils.Database(
                cast("Any", connection),
                recursive_triggers=False,
                execute_plugins=False,
            )
            self._migrations.apply(database)

    def recorded(self, connection: Connection) -> tuple[int, int]:
        """Return version and compat of the database, zeros when it is empty."""
        known = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_info'"
        ).fetchone()
        if known is None:
            return 0, 0
        row = connection.execute(
            "SELECT version, compat FROM schema_info WHERE name = ?", (self.name,)
        ).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def _recorded_step(self, number: int, step: Step) -> Step:
        compat = self.compat if number == self.version else 0

        def recorded(database: sqlite_utils.Database) -> None:
            step(database)
            info = database.table("schema_info")
            if not info.exists():
                info.create({"name": str, "version": int, "compat": int}, pk="name")
            info.upsert({"name": self.name, "version": number, "compat": compat}, pk="name")

        return recorded
