# SPDX-License-Identifier: Apache-2.0
"""Copies of objects on volumes, what volumes are owed, and what still stands in staging.

Two shelves hold objects: the archive and the inbox. An object is named by its SOP Instance UID on
the first and by its key on the second.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from scrigno.core.uids import object_key
from scrigno.db.sqlite import Connection, Value

from . import values
from .gains import HELD, MISSING, OWED, Gains
from .records import Copy, CopyState, Debt, StoredKey, VolumeTally

_STATES: Final = {HELD: CopyState.HELD, OWED: CopyState.OWED, MISSING: CopyState.MISSING}
# Numbers of inbox debts start here, so that they come after all others.
INBOX_DEBTS: Final = 1 << 60
_NAMES_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The tables of one kind of object. Names of our own, never a value from outside."""

    objects: str
    copies: str
    named_by: str
    # row, name, key ('' when it is the usual one), digest, size, staged_as, study, series
    select: str


ARCHIVE: Final = Shelf(
    objects="instance",
    copies="copy",
    named_by="sop_instance_uid",
    select=(
        "SELECT instance.id, instance.sop_instance_uid, instance.key, instance.digest, "
        "instance.size, instance.staged_as, study.study_instance_uid, series.series_instance_uid "
        "FROM instance JOIN series ON series.id = instance.series "
        "JOIN study ON study.id = series.study "
    ),
)
INBOX: Final = Shelf(
    objects="inbox",
    copies="inbox_copy",
    named_by="key",
    select=(
        "SELECT inbox.id, inbox.key, inbox.key, inbox.digest, inbox.size, inbox.staged_as, '', '' "
        "FROM inbox "
    ),
)
SHELVES: Final = (ARCHIVE, INBOX)


# changes, writer thread only -------------------------------------------------------------------


def set_state(
    connection: Connection,
    gains: Gains,
    number: int,
    volume: str,
    state: int,
    size: int,
    shelf: Shelf = ARCHIVE,
) -> bool:
    """Bring one copy to `state`; tell whether that changed anything."""
    row = connection.execute(
        f"SELECT state FROM {shelf.copies} WHERE object = ? AND volume = ?",  # noqa: S608 - our names
        (number, volume),
    ).fetchone()
    if row is not None and row[0] == state:
        return False
    if row is None:
        connection.execute(
            f"INSERT INTO {shelf.copies} (object, volume, state) VALUES (?, ?, ?)",  # noqa: S608 - our names
            (number, volume, state),
        )
    else:
        connection.execute(
            f"UPDATE {shelf.copies} SET state = ?, verified_at = NULL "  # noqa: S608 - our names
            "WHERE object = ? AND volume = ?",
            (state, number, volume),
        )
        gains.copy(volume, int(row[0]), -1, -size)
    gains.copy(volume, state, 1, size)
    return True


def owe_if_unknown(
    connection: Connection,
    gains: Gains,
    number: int,
    volume: str,
    size: int,
    shelf: Shelf = ARCHIVE,
) -> bool:
    """Note that `volume` needs a copy, unless something is known of one there."""
    made = connection.execute(
        f"INSERT INTO {shelf.copies} (object, volume, state) VALUES (?, ?, ?) "  # noqa: S608 - our names
        "ON CONFLICT DO NOTHING",
        (number, volume, OWED),
    )
    if made.rowcount != 1:
        return False
    gains.copy(volume, OWED, 1, size)
    return True


def change_state(connection: Connection, gains: Gains, name: str, volume: str, state: int) -> bool:
    """Bring the copy of a named object to `state`; False when the object is unknown."""
    found = named(connection, name)
    if found is None:
        return False
    shelf, number, size = found
    set_state(connection, gains, number, volume, state, size, shelf)
    return True


def owe(connection: Connection, gains: Gains, names: Iterable[str], volume: str) -> int:
    """Note that `volume` needs these objects unless it holds them; return how many."""
    owed = 0
    for name in names:
        found = named(connection, name)
        if found is not None:
            shelf, number, size = found
            owed += owe_if_unknown(connection, gains, number, volume, size, shelf)
    return owed


def last_number(connection: Connection, shelf: Shelf) -> int:
    """Return the number of the newest object of a shelf, 0 when it is empty."""
    row = connection.execute(f"SELECT coalesce(max(id), 0) FROM {shelf.objects}").fetchone()  # noqa: S608 - our names
    assert row is not None  # noqa: S101 - an aggregate always answers
    return int(row[0])


def owe_range(
    connection: Connection, gains: Gains, volume: str, shelf: Shelf, after: int, last: int
) -> int:
    """Note that `volume` needs the objects numbered (after, last] that it knows nothing of."""
    made = connection.execute(
        f"INSERT INTO {shelf.copies} (object, volume, state) "  # noqa: S608 - our names
        f"SELECT id, ?, ? FROM {shelf.objects} WHERE id > ? AND id <= ? ORDER BY id "
        "ON CONFLICT DO NOTHING RETURNING object",
        (volume, OWED, after, last),
    ).fetchall()
    numbers = [int(row[0]) for row in made]
    gains.copy(volume, OWED, len(numbers), _size_of(connection, shelf, numbers))
    return len(numbers)


def forget_range(
    connection: Connection, gains: Gains, volume: str, shelf: Shelf, after: int, last: int
) -> int:
    """Drop what is known of copies on a volume of the objects numbered (after, last]."""
    dropped = connection.execute(
        f"DELETE FROM {shelf.copies} WHERE object > ? AND object <= ? AND volume = ? "  # noqa: S608 - our names
        "RETURNING object, state",
        (after, last, volume),
    ).fetchall()
    for state in (HELD, OWED, MISSING):
        numbers = [int(number) for number, was in dropped if was == state]
        if numbers:
            gains.copy(volume, state, -len(numbers), -_size_of(connection, shelf, numbers))
    return len(dropped)


def forget_tally(connection: Connection, volume: str) -> None:
    """Drop the counters of a volume that has no copies, so that it is unknown again."""
    connection.execute(
        "DELETE FROM volume_tally WHERE volume = ? AND held = 0 AND owed = 0 AND missing = 0",
        (volume,),
    )


def _size_of(connection: Connection, shelf: Shelf, numbers: Sequence[int]) -> int:
    total = 0
    for place in range(0, len(numbers), _NAMES_AT_ONCE):
        some = numbers[place : place + _NAMES_AT_ONCE]
        row = connection.execute(
            f"SELECT coalesce(sum(size), 0) FROM {shelf.objects} "  # noqa: S608 - our names
            f"WHERE id IN ({','.join('?' * len(some))})",
            some,
        ).fetchone()
        assert row is not None  # noqa: S101 - an aggregate always answers
        total += int(row[0])
    return total


def verified(connection: Connection, name: str, volume: str, at: datetime) -> bool:
    """Note when a held copy was read back and was right; False when it is not known as held."""
    found = named(connection, name)
    if found is None:
        return False
    shelf, number, _ = found
    changed = connection.execute(
        f"UPDATE {shelf.copies} SET verified_at = ? "  # noqa: S608 - our names
        "WHERE object = ? AND volume = ? AND state = ?",
        (values.stamp(at), number, volume, HELD),
    )
    return changed.rowcount == 1


def unstaged(connection: Connection, names: Iterable[str]) -> None:
    """Note that staging let these objects go."""
    for name in names:
        found = named(connection, name)
        if found is not None:
            shelf, number, _ = found
            connection.execute(
                f"UPDATE {shelf.objects} SET staged_as = NULL WHERE id = ?",  # noqa: S608 - our names
                (number,),
            )


def named(connection: Connection, name: str) -> tuple[Shelf, int, int] | None:
    """Return shelf, number and size of an object, or None."""
    for shelf in SHELVES:
        row = connection.execute(
            f"SELECT id, size FROM {shelf.objects} WHERE {shelf.named_by} = ?",  # noqa: S608 - our names
            (name,),
        ).fetchone()
        if row is not None:
            return shelf, int(row[0]), int(row[1])
    return None


# questions -------------------------------------------------------------------------------------


def debts(connection: Connection, volume: str, after: int, limit: int) -> list[Debt]:
    """Return what `volume` needs, in the order it came, the inbox last."""
    found: list[Debt] = []
    for shelf, first in ((ARCHIVE, 0), (INBOX, INBOX_DEBTS)):
        if len(found) == limit:
            break
        numbers = [
            int(row[0])
            for row in connection.execute(
                f"SELECT object FROM {shelf.copies} WHERE volume = ? AND state > 1 "  # noqa: S608 - our names
                "AND object > ? ORDER BY object LIMIT ?",
                (volume, max(after - first, 0), limit - len(found)),
            )
        ]
        for number, stored in stored_by_number(connection, shelf, numbers):
            found.append(
                Debt(
                    debt_id=first + number,
                    volume=volume,
                    sop_instance_uid=stored.sop_instance_uid,
                    key=stored.key,
                    digest=stored.digest,
                    size=stored.size,
                    staged_as=stored.staged_as,
                    held_by=tuple(
                        copy.volume for copy in stored.copies if copy.state is CopyState.HELD
                    ),
                )
            )
    return found


def staged(connection: Connection, names: Collection[str] | None) -> list[StoredKey]:
    """Return what stands in staging under these names, or everything that does."""
    found: list[StoredKey] = []
    for shelf in SHELVES:
        numbers: list[int] = []
        for where, parameters in _staged_conditions(names):
            numbers += (
                int(row[0])
                for row in connection.execute(
                    f"SELECT id FROM {shelf.objects} WHERE {where} ORDER BY id",  # noqa: S608 - our names
                    parameters,
                )
            )
        found += (stored for _, stored in stored_by_number(connection, shelf, numbers))
    return found


def _staged_conditions(names: Collection[str] | None) -> list[tuple[str, list[Value]]]:
    if names is None:
        return [("staged_as IS NOT NULL", [])]
    wanted = list(names)
    return [
        (f"staged_as IN ({','.join('?' * len(some))})", list(some))
        for some in (
            wanted[place : place + _NAMES_AT_ONCE]
            for place in range(0, len(wanted), _NAMES_AT_ONCE)
        )
    ]


def stored_after(connection: Connection, after: int, limit: int) -> list[StoredKey]:
    """Return archived objects in the order they came."""
    numbers = [
        int(row[0])
        for row in connection.execute(
            "SELECT id FROM instance WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
    ]
    return [stored for _, stored in stored_by_number(connection, ARCHIVE, numbers)]


def copies_of(
    connection: Connection, numbers: Sequence[int], shelf: Shelf = ARCHIVE
) -> dict[int, list[Copy]]:
    """Return the copies of each object."""
    found: dict[int, list[Copy]] = {number: [] for number in numbers}
    for place in range(0, len(numbers), _NAMES_AT_ONCE):
        some = numbers[place : place + _NAMES_AT_ONCE]
        for number, volume, state, at in connection.execute(
            f"SELECT object, volume, state, verified_at FROM {shelf.copies} "  # noqa: S608 - our names
            f"WHERE object IN ({','.join('?' * len(some))}) ORDER BY object, volume",
            some,
        ):
            found[number].append(
                Copy(
                    volume=volume,
                    state=_STATES[state],
                    verified_at=None if at is None else values.moment(at),
                )
            )
    return found


def stored(
    connection: Connection, shelf: Shelf, numbers: Sequence[int], *, first: int = 0
) -> list[StoredKey]:
    """Return these objects of a shelf, their numbers counted from `first`."""
    return [
        replace(one, instance_id=first + number) if first else one
        for number, one in stored_by_number(connection, shelf, numbers)
    ]


def stored_by_number(
    connection: Connection, shelf: Shelf, numbers: Sequence[int]
) -> list[tuple[int, StoredKey]]:
    """Return the objects of a shelf under these numbers, each with its number."""
    rows: dict[int, Any] = {}
    for place in range(0, len(numbers), _NAMES_AT_ONCE):
        some = numbers[place : place + _NAMES_AT_ONCE]
        marks = ",".join("?" * len(some))
        for row in connection.execute(
            f"{shelf.select} WHERE {shelf.objects}.id IN ({marks})", some
        ):
            rows[row[0]] = row
    held = copies_of(connection, numbers, shelf)
    return [
        (number, _stored_key(rows[number], held[number])) for number in numbers if number in rows
    ]


def _stored_key(row: Any, held: Sequence[Copy]) -> StoredKey:
    number, name, key, digest, size, staged_as, study, series = row
    return StoredKey(
        instance_id=number,
        sop_instance_uid=name,
        key=key or object_key(study, series, name),
        digest=digest.hex(),
        size=size,
        staged_as=staged_as,
        copies=tuple(held),
    )


def debt_counts(connection: Connection) -> dict[str, int]:
    """Return how many objects each volume needs."""
    return dict(
        connection.execute(
            "SELECT volume, owed + missing FROM volume_tally WHERE owed + missing > 0 "
            "ORDER BY volume"
        ).fetchall()
    )


def tallies(connection: Connection) -> dict[str, VolumeTally]:
    """Return the counters of each volume."""
    return {
        row[0]: VolumeTally(
            volume=row[0],
            held=row[1],
            held_bytes=row[2],
            owed=row[3],
            owed_bytes=row[4],
            missing=row[5],
        )
        for row in connection.execute(
            "SELECT volume, held, held_bytes, owed, owed_bytes, missing FROM volume_tally "
            "ORDER BY volume"
        )
    }
