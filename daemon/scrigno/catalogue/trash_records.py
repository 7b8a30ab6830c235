# SPDX-License-Identifier: Apache-2.0
"""Records of trash items on volumes: which volume has which, what they say, reading them back."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from scrigno.db.sqlite import Connection, Value

from . import maintenance, rows
from .gains import HELD, MISSING, OWED, Gains
from .trash_items import Document, Place, TrashState
from .trash_rows import RAN, insert_copies, meter
from .trash_work import ITEM

FORMAT: Final = 1


def volumes_behind(connection: Connection, number: int, volumes: Collection[str]) -> list[str]:
    """Return those of these volumes whose record of an item is missing or older."""
    row = connection.execute("SELECT revision FROM trash WHERE id = ?", (number,)).fetchone()
    if row is None:
        return []
    have: dict[str, int] = dict(
        connection.execute(
            "SELECT volume, revision FROM trash_record WHERE item = ?", (number,)
        ).fetchall()
    )
    return [volume for volume in volumes if have.get(volume, 0) < row[0]]


def recorded(connection: Connection, number: int, volume: str, revision: int) -> None:
    """Note which revision of an item's record stands on a volume. Writer only."""
    connection.execute(
        "INSERT INTO trash_record (item, volume, revision) VALUES (?, ?, ?) "
        "ON CONFLICT (item, volume) DO UPDATE SET revision = excluded.revision",
        (number, volume, revision),
    )


def unrecorded(
    connection: Connection, number: int, volume: str, configured: Collection[str]
) -> bool:
    """Note that a volume has no record of an ended item any more; forget the item with the last.

    Returns whether it is forgotten. Writer only.
    """
    connection.execute("DELETE FROM trash_record WHERE item = ? AND volume = ?", (number, volume))
    left = {
        row[0]
        for row in connection.execute("SELECT volume FROM trash_record WHERE item = ?", (number,))
    }
    if left & set(configured):
        return False
    connection.execute("DELETE FROM trash_record WHERE item = ?", (number,))
    connection.execute("DELETE FROM trash WHERE id = ?", (number,))
    return True


def records_of(connection: Connection, number: int) -> list[str]:
    """Return the volumes on which a record of an item stands."""
    return [
        row[0]
        for row in connection.execute(
            "SELECT volume FROM trash_record WHERE item = ? ORDER BY volume", (number,)
        )
    ]


def document(connection: Connection, number: int) -> Document | None:
    """Return an item with its rows, as it is written on volumes."""
    row = connection.execute(f"{ITEM} WHERE id = ?", (number,)).fetchone()
    if row is None:
        return None
    copies: dict[int, list[list[Any]]] = {}
    for each, volume, was, verified_at in connection.execute(
        "SELECT trash_copy.object, volume, was, verified_at FROM trash_copy JOIN trash_object "
        "ON trash_object.id = trash_copy.object WHERE item = ?",
        (number,),
    ):
        copies.setdefault(each, []).append([volume, was, verified_at])
    return {
        "format": FORMAT,
        "token": row[1],
        "study": row[2],
        "scope": row[3],
        "state": row[4],
        "revision": row[5],
        "deleted_at": row[6],
        "keep_days": row[8],
        "account": row[9],
        "reason": row[10],
        "rule": row[11],
        "entities": json.loads(row[14]),
        "objects": [
            [uid, key, digest.hex(), size, json.loads(line), copies.get(each, [])]
            for each, uid, key, digest, size, line in connection.execute(
                "SELECT id, sop_instance_uid, key, digest, size, line FROM trash_object "
                "WHERE item = ? ORDER BY id",
                (number,),
            )
        ],
    }


def known_tokens(connection: Connection) -> set[str]:
    """Return the names of all items."""
    return {row[0] for row in connection.execute("SELECT token FROM trash")}


def learn(
    connection: Connection,
    gains: Gains,
    found: Document,
    places: Mapping[str, Collection[str]],
    volumes: Collection[str],
) -> bool:
    """Take an item over that was read from a volume; False when it is known. Writer only.

    `places` are the keys in the trash, of this item, on each volume that could be read; `volumes`
    are those in service. Time counts anew by the measure of the running daemon. An index that is
    older than the deletion still has the very rows; they leave it now.
    """
    token = found["token"]
    if connection.execute("SELECT 1 FROM trash WHERE token = ?", (token,)).fetchone() is not None:
        return False
    purging = found["state"] == TrashState.PURGING
    number = rows.insert(
        connection,
        "trash",
        {
            "token": token,
            "study_instance_uid": found["study"],
            "scope": found["scope"],
            "state": TrashState.PURGING if purging else TrashState.TRASHED,
            "revision": found["revision"] + 1,
            "deleted_at": found["deleted_at"],
            "ran_at": meter(connection, RAN),
            "keep_days": found["keep_days"],
            "account": found["account"],
            "reason": found["reason"],
            "rule": found["rule"],
            "objects": len(found["objects"]),
            "size_bytes": sum(each[3] for each in found["objects"]),
            "entities": json.dumps(found["entities"], separators=(",", ":")),
        },
    )
    for uid, key, digest, size, line, copies in found["objects"]:
        each = rows.insert(
            connection,
            "trash_object",
            {
                "item": number,
                "sop_instance_uid": uid,
                "key": key,
                "digest": bytes.fromhex(digest),
                "size": size,
                "line": json.dumps(line, separators=(",", ":")),
            },
        )
        insert_copies(connection, _learnt(each, key, copies, places, volumes, purging=purging))
    maintenance.remove(connection, gains, _same_rows(connection, found))
    return True


def _same_rows(connection: Connection, found: Document) -> list[str]:
    """Return the objects of an item whose rows are those that were deleted.

    One that was sent again has the same bytes perhaps, but came at another time.
    """
    place = found["entities"]["columns"].index("received_at")
    same: list[str] = []
    for uid, _, digest, _, line, _ in found["objects"]:
        row = connection.execute(
            "SELECT received_at, digest FROM instance WHERE sop_instance_uid = ?", (uid,)
        ).fetchone()
        if row is not None and row[0] == line[place] and row[1].hex() == digest:
            same.append(uid)
    return same


def _learnt(
    number: int,
    key: str,
    copies: list[list[Any]],
    places: Mapping[str, Collection[str]],
    volumes: Collection[str],
    *,
    purging: bool,
) -> list[tuple[Value, ...]]:
    rest = key.partition("/")[2]
    known = {volume: (was, verified_at) for volume, was, verified_at in copies}
    learnt: list[tuple[Value, ...]] = []
    for volume in sorted({*known, *volumes}):
        was, verified_at = known.get(volume, (0, None))
        if was not in (HELD, OWED, MISSING):
            was = 0
        if rest in places.get(volume, ()):
            place, owes = Place.TRASH, purging
        else:
            place, owes = (Place.ARCHIVE if was == HELD else Place.NOWHERE), True
        learnt.append((number, volume, was, verified_at, int(place), int(owes)))
    return learnt
