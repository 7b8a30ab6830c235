# SPDX-License-Identifier: Apache-2.0
"""Which disk stands behind each volume name, and how far one that fell has been caught up."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scrigno.db.sqlite import Connection

from . import values
from .copies import ARCHIVE, INBOX, INBOX_DEBTS, stored_by_number
from .gains import HELD
from .records import StoredKey

# Only this many of the newest objects are looked at for those that came since a moment; what came
# in ten minutes is far fewer, and a page of them is found in milliseconds.
NEWEST: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryMark:
    """A volume that fell and is not caught up yet."""

    since: datetime  # copies of objects that came from then on are doubted
    checked: int  # up to this number they were read back


def uuids(connection: Connection) -> dict[str, str]:
    """Return the uuid that each volume had when its copies were recorded."""
    return dict(connection.execute("SELECT volume, uuid FROM volume_identity").fetchall())


def remember(connection: Connection, volume: str, uuid: str) -> None:
    """Note that what is recorded of the volume is of this disk."""
    connection.execute(
        "INSERT INTO volume_identity (volume, uuid) VALUES (?, ?) "
        "ON CONFLICT (volume) DO UPDATE SET uuid = excluded.uuid",
        (volume, uuid),
    )


def recoveries(connection: Connection) -> dict[str, RecoveryMark]:
    """Return the volumes that are to be caught up."""
    return {
        volume: RecoveryMark(since=values.moment(since), checked=checked)
        for volume, since, checked in connection.execute(
            "SELECT volume, since, checked FROM volume_recovery"
        )
    }


def begin_recovery(connection: Connection, volume: str, since: datetime) -> None:
    """Note a fall; of several before the volume is caught up the earliest counts."""
    connection.execute(
        "INSERT INTO volume_recovery (volume, since) VALUES (?, ?) "
        "ON CONFLICT (volume) DO UPDATE SET since = min(since, excluded.since)",
        (volume, values.stamp(since)),
    )


def note_checked(connection: Connection, volume: str, checked: int) -> None:
    """Note how far copies were read back."""
    connection.execute("UPDATE volume_recovery SET checked = ? WHERE volume = ?", (checked, volume))


def end_recovery(connection: Connection, volume: str) -> None:
    """Note that the volume is caught up."""
    connection.execute("DELETE FROM volume_recovery WHERE volume = ?", (volume,))


def held_since(
    connection: Connection, volume: str, since: datetime, after: int, limit: int
) -> list[tuple[int, StoredKey]]:
    """Return objects numbered over `after` that came since then and `volume` is said to hold."""
    found: list[tuple[int, StoredKey]] = []
    for shelf, first in ((ARCHIVE, 0), (INBOX, INBOX_DEBTS)):
        if len(found) == limit:
            break
        # received_at has no index; numbers grow with it but for imports and rebuilds
        numbers = [
            int(row[0])
            for row in connection.execute(
                f"SELECT object.id FROM {shelf.objects} AS object "  # noqa: S608 - our names
                f"JOIN {shelf.copies} AS copy ON copy.object = object.id AND copy.volume = ? "
                "AND copy.state = ? WHERE object.received_at >= ? AND object.id > max(?, "
                f"(SELECT coalesce(max(id), 0) FROM {shelf.objects}) - ?) "
                "ORDER BY object.id LIMIT ?",
                (
                    *(volume, HELD, values.stamp(since)),
                    *(max(after - first, 0), NEWEST, limit - len(found)),
                ),
            )
        ]
        found += [
            (first + number, key) for number, key in stored_by_number(connection, shelf, numbers)
        ]
    return found


def newest_object(connection: Connection) -> int:
    """Return the number of the newest archived object, 0 when there is none."""
    row = connection.execute("SELECT coalesce(max(id), 0) FROM instance").fetchone()
    assert row is not None  # noqa: S101 - an aggregate always answers
    return int(row[0])


def owed_to(connection: Connection, volume: str) -> tuple[int, int]:
    """Return how many objects and bytes `volume` is owed, missing copies included."""
    row = connection.execute(
        "SELECT owed + missing, owed_bytes + missing_bytes FROM volume_tally WHERE volume = ?",
        (volume,),
    ).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))
