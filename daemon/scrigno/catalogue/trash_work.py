# SPDX-License-Identifier: Apache-2.0
"""What is still to be done for the trash: files to move, records to write, items to end."""

import json
from collections.abc import Collection, Sequence
from typing import Any, Final

from scrigno.core.attributes import PersonName
from scrigno.core.phi import Phi
from scrigno.db.sqlite import Connection

from . import details, values
from .records import NewInboxItem, Origin
from .trash_items import (
    Heir,
    NotNow,
    Place,
    Placed,
    TrashCopy,
    TrashItem,
    TrashState,
    TrashStep,
    TrashTotals,
    trash_key,
)
from .trash_rows import RAN, meter

DAY_S: Final = 86_400
ITEM: Final = (
    "SELECT id, token, study_instance_uid, scope, state, revision, deleted_at, ran_at, keep_days, "
    "account, reason, rule, objects, size_bytes, entities FROM trash "
)


# items -------------------------------------------------------------------------------------------


def items(connection: Connection, before: int | None, limit: int) -> list[TrashItem]:
    """Return what can be brought back, or is coming back, newest first."""
    found = connection.execute(
        f"{ITEM} WHERE state <= 2 AND id < ? ORDER BY id DESC LIMIT ?",
        (before if before is not None else 1 << 62, limit),
    ).fetchall()
    return [_item(row) for row in found]


def item(connection: Connection, number: int) -> TrashItem | None:
    """Return one item, whatever its state, or None."""
    row = connection.execute(f"{ITEM} WHERE id = ?", (number,)).fetchone()
    return None if row is None else _item(row)


def items_of_study(connection: Connection, study_uid: str) -> list[TrashItem]:
    """Return the items of a study in the trash, oldest first."""
    found = connection.execute(
        f"{ITEM} WHERE study_instance_uid = ? AND state = 1 ORDER BY id", (study_uid,)
    ).fetchall()
    return [_item(row) for row in found]


def _item(row: Sequence[Any]) -> TrashItem:
    entities = json.loads(row[14])
    study = entities["study"]
    return TrashItem(
        trash_id=row[0],
        token=row[1],
        study_instance_uid=row[2],
        scope=row[3],
        state=TrashState(row[4]),
        revision=row[5],
        deleted_at=values.moment(row[6]),
        ran_at=row[7],
        keep_days=row[8],
        account=row[9],
        reason=row[10],
        rule=row[11],
        objects=row[12],
        size_bytes=row[13],
        patient_name=PersonName.parse(study["patient_name"]),
        patient_id=Phi(study["patient_id"]),
        patient_birth_date=Phi(study["patient_birth_date"]),
        study_date=study["study_date"],
        study_description=study["study_description"],
        accession_number=study["accession_number"],
        modalities=values.split(study["modalities"]),
    )


def totals(connection: Connection) -> TrashTotals:
    """Return what can still be brought back."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(objects), 0), coalesce(sum(size_bytes), 0) FROM trash "
        "WHERE state <= 2"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always answers
    return TrashTotals(items=row[0], objects=row[1], size_bytes=row[2])


def owing_volumes(connection: Connection, number: int) -> tuple[str, ...]:
    """Return the volumes that have not yet done what the state of an item asks for."""
    return tuple(
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT volume FROM trash_copy JOIN trash_object "
            "ON trash_object.id = trash_copy.object WHERE item = ? AND owes = 1 ORDER BY volume",
            (number,),
        )
    )


def due(connection: Connection, now: int, days: int) -> list[int]:
    """Return items that are old enough by the wall clock and by the time the daemon has run.

    A clock that steps ten years on makes nothing older by the second measure, and a box that is
    off most of the time makes nothing older by it either: it errs to the safe side.
    """
    return [
        int(row[0])
        for row in connection.execute(
            "SELECT id FROM trash WHERE state = 1 AND deleted_at + max(keep_days, ?) * ? <= ? "
            "AND ran_at + max(keep_days, ?) * ? <= ? ORDER BY id",
            (days, DAY_S * 1_000_000, now, days, DAY_S, meter(connection, RAN)),
        )
    ]


def leaving(connection: Connection) -> set[str]:
    """Return the studies that have files on their way into the trash."""
    return {
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT trash.study_instance_uid FROM trash_copy JOIN trash_object "
            "ON trash_object.id = trash_copy.object JOIN trash ON trash.id = trash_object.item "
            "WHERE trash_copy.owes = 1 AND trash_copy.place = 1"
        )
    }


def staged_names(connection: Connection) -> set[str]:
    """Return the names in the staging journal that belong to the trash."""
    return {
        row[0]
        for row in connection.execute(
            "SELECT staged_as FROM trash_object WHERE staged_as IS NOT NULL"
        )
    }


def claims(connection: Connection, volume: str, uid: str, key: str, digest: str | None) -> bool:
    """Tell whether the file at `key` belongs to the trash though it stands among the studies.

    It does while the volume owes its removal, or an item is coming back. Whatever else stands
    there came after the deletion.
    """
    for found, state, place, owes in connection.execute(
        "SELECT trash_object.digest, trash.state, trash_copy.place, trash_copy.owes "
        "FROM trash_object JOIN trash ON trash.id = trash_object.item "
        "JOIN trash_copy ON trash_copy.object = trash_object.id "
        "WHERE trash_object.sop_instance_uid = ? AND trash_object.key = ? "
        "AND trash_copy.volume = ?",
        (uid, key, volume),
    ):
        if digest is not None and found.hex() != digest:
            continue
        if state == TrashState.RESTORING:
            return True
        if owes and place == Place.ARCHIVE and state != TrashState.RESTORED:
            return True
    return False


# changing the state ------------------------------------------------------------------------------


def begin_restore(connection: Connection, number: int, able: Collection[str]) -> None:
    """Let an item come back: from now on its files go back. Writer only; raises NotNow.

    `able` are the volumes that can be written to now; each object must have a copy on one.
    """
    row = connection.execute(
        "SELECT state, study_instance_uid FROM trash WHERE id = ?", (number,)
    ).fetchone()
    if row is None or row[0] in (TrashState.RESTORED, TrashState.PURGING):
        raise NotNow("It is no longer in the trash.", next_step="Load the list again.")
    if row[0] == TrashState.RESTORING:
        return
    other = connection.execute(
        "SELECT 1 FROM trash WHERE study_instance_uid = ? AND state = 2", (row[1],)
    ).fetchone()
    if other is not None:
        raise NotNow(
            "Another part of the study is being restored.", next_step="Try again in a moment."
        )
    _require_copies(connection, number, able)
    _to_state(connection, number, TrashState.RESTORING)
    _owe(connection, number, "place < 3")  # what was not moved yet has to be looked at


def _require_copies(connection: Connection, number: int, able: Collection[str]) -> None:
    names = sorted(able)
    row = connection.execute(
        "SELECT count(*) FROM trash_object WHERE item = ? AND staged_as IS NULL "  # noqa: S608 - question marks only
        "AND NOT EXISTS (SELECT 1 FROM trash_copy WHERE object = trash_object.id "
        f"AND place < 3 AND volume IN ({','.join('?' * len(names))})) "
        "AND NOT EXISTS (SELECT 1 FROM instance WHERE "
        "instance.sop_instance_uid = trash_object.sop_instance_uid "
        "AND instance.digest = trash_object.digest)",
        (number, *names),
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always answers
    if row[0]:
        raise NotNow(
            f"{row[0]} of its images stand only on volumes that are away.",
            next_step="Bring the volumes back, then restore it.",
        )


def back_to_trash(connection: Connection, number: int) -> None:
    """Let an item stay in the trash that was to come back and cannot. Writer only."""
    _to_state(connection, number, TrashState.TRASHED)
    _owe(connection, number, "place = 1")


def begin_purge(connection: Connection, number: int) -> bool:
    """Let the files of an item be removed for good; False when it is not in the trash. Writer."""
    row = connection.execute("SELECT state FROM trash WHERE id = ?", (number,)).fetchone()
    if row is None or row[0] != TrashState.TRASHED:
        return False
    _to_state(connection, number, TrashState.PURGING)
    _owe(connection, number, "place < 3")
    return True


def _to_state(connection: Connection, number: int, state: TrashState) -> None:
    connection.execute(
        "UPDATE trash SET state = ?, revision = revision + 1 WHERE id = ?", (state, number)
    )


def _owe(connection: Connection, number: int, where: str) -> None:
    """Let exactly those copies owe something that stand where they should not."""
    connection.execute(
        f"UPDATE trash_copy SET owes = CASE WHEN {where} THEN 1 ELSE 0 END WHERE object IN "  # noqa: S608 - texts of above
        "(SELECT id FROM trash_object WHERE item = ?)",
        (number,),
    )


# moving ------------------------------------------------------------------------------------------


def open_items(connection: Connection, able: Collection[str]) -> list[int]:
    """Return the items for which something can be done now, oldest first."""
    found = {
        int(row[0]) for row in connection.execute("SELECT id FROM trash WHERE state IN (2, 4)")
    }
    for volume in able:
        found |= {
            int(row[0])
            for row in connection.execute(
                "SELECT DISTINCT item FROM trash_copy JOIN trash_object "
                "ON trash_object.id = trash_copy.object WHERE volume = ? AND owes = 1",
                (volume,),
            )
        }
        found |= {
            int(row[0])
            for row in connection.execute(
                "SELECT id FROM trash LEFT JOIN trash_record "
                "ON trash_record.item = trash.id AND trash_record.volume = ? "
                "WHERE trash.revision > coalesce(trash_record.revision, 0)",
                (volume,),
            )
        }
    found |= {
        int(row[0])
        for row in connection.execute(
            "SELECT DISTINCT item FROM trash_object WHERE staged_as IS NOT NULL"
        )
    }
    found |= {
        int(row[0])
        for row in connection.execute(
            "SELECT id FROM trash WHERE state = 3 AND NOT EXISTS (SELECT 1 FROM trash_copy "
            "JOIN trash_object ON trash_object.id = trash_copy.object "
            "WHERE item = trash.id AND owes = 1)"
        )
    }
    return sorted(found)


def owing(
    connection: Connection, number: int, volumes: Collection[str], after: int, limit: int
) -> list[tuple[int, str]]:
    """Return objects (number, SOP Instance UID) of an item that these volumes owe something."""
    names = sorted(volumes)
    found = connection.execute(
        "SELECT id, sop_instance_uid FROM trash_object WHERE item = ? AND id > ? "  # noqa: S608 - question marks only
        "AND (staged_as IS NOT NULL OR EXISTS (SELECT 1 FROM trash_copy "
        "WHERE object = trash_object.id AND owes = 1 "
        f"AND volume IN ({','.join('?' * len(names))}))) ORDER BY id LIMIT ?",
        (number, after, *names, limit),
    ).fetchall()
    return [(int(row[0]), row[1]) for row in found]


def undecided(connection: Connection, number: int, after: int, limit: int) -> list[tuple[int, str]]:
    """Return objects of an item that have a rival of other bytes in the archive."""
    found = connection.execute(
        "SELECT trash_object.id, trash_object.sop_instance_uid FROM trash_object "
        "JOIN instance ON instance.sop_instance_uid = trash_object.sop_instance_uid "
        "WHERE item = ? AND trash_object.id > ? AND kept = 0 "
        "AND instance.digest <> trash_object.digest ORDER BY trash_object.id LIMIT ?",
        (number, after, limit),
    ).fetchall()
    return [(int(row[0]), row[1]) for row in found]


def leaving_objects(connection: Connection, uid: str) -> list[tuple[int, int]]:
    """Return objects (number, item) of this UID that have files on their way into the trash."""
    return [
        (int(row[0]), int(row[1]))
        for row in connection.execute(
            "SELECT trash_object.id, item FROM trash_object JOIN trash ON trash.id = item "
            "WHERE sop_instance_uid = ? AND state = 1 AND EXISTS (SELECT 1 FROM trash_copy "
            "WHERE object = trash_object.id AND owes = 1) ORDER BY trash_object.id",
            (uid,),
        )
    ]


def step(connection: Connection, number: int) -> TrashStep | None:
    """Return what decides what is to be done with one object; None when that is nothing."""
    row = connection.execute(
        "SELECT trash.id, token, state, sop_instance_uid, key, digest, size, staged_as, kept, "
        "study_instance_uid FROM trash_object JOIN trash ON trash.id = item "
        "WHERE trash_object.id = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    rivals = frozenset(
        found.hex()
        for (found,) in connection.execute(
            "SELECT digest FROM trash_object WHERE sop_instance_uid = ? AND id <> ?",
            (row[3], number),
        )
    )
    claimed = frozenset(
        volume
        for (volume,) in connection.execute(
            "SELECT volume FROM trash_copy JOIN trash_object ON trash_object.id = object "
            "JOIN trash ON trash.id = item "
            "WHERE sop_instance_uid = ? AND trash_object.id < ? AND place = 1 "
            "AND (state = 2 OR (owes = 1 AND state <> 3))",
            (row[3], number),
        )
    )
    heir = connection.execute(
        "SELECT trash_object.id, token, key FROM trash_object JOIN trash ON trash.id = item "
        "WHERE sop_instance_uid = ? AND digest = ? AND trash_object.id <> ? AND state <= 2 "
        "ORDER BY trash_object.id DESC LIMIT 1",
        (row[3], row[5], number),
    ).fetchone()
    return TrashStep(
        object_id=number,
        trash_id=row[0],
        token=row[1],
        state=TrashState(row[2]),
        sop_instance_uid=row[3],
        key=row[4],
        digest=row[5].hex(),
        size=row[6],
        staged_as=row[7],
        kept=bool(row[8]),
        study_instance_uid=row[9],
        copies={
            volume: TrashCopy(
                volume=volume, was=was, verified_at=at, place=Place(place), owes=bool(owes)
            )
            for volume, was, at, place, owes in connection.execute(
                "SELECT volume, was, verified_at, place, owes FROM trash_copy WHERE object = ?",
                (number,),
            )
        },
        live=details.instance(connection, row[3]),
        rivals=rivals,
        claimed=claimed,
        heir=Heir(object_id=heir[0], trash_key=trash_key(heir[1], heir[2])) if heir else None,
    )


def as_inbox_item(connection: Connection, number: int) -> NewInboxItem | None:
    """Return a trashed object as the inbox keeps it; place, reason and copies are the caller's."""
    row = connection.execute(
        "SELECT sop_instance_uid, digest, size, line, entities, study_instance_uid "
        "FROM trash_object JOIN trash ON trash.id = item WHERE trash_object.id = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    entities = json.loads(row[4])
    line = dict(zip(entities["columns"], json.loads(row[3]), strict=True))
    series = {each["id"]: each["series_instance_uid"] for each in entities["series"]}
    origin = next(each for each in entities["origins"] if each["id"] == line["origin"])
    return NewInboxItem(
        reason="",
        key="",
        digest=row[1].hex(),
        size=row[2],
        received_at=values.moment(line["received_at"]),
        origin=Origin(
            door=origin["door"],
            calling_ae=origin["calling_ae"],
            called_ae=origin["called_ae"],
            address=origin["address"],
            user=origin["account"],
        ),
        sop_class_uid=line["sop_class_uid"],
        sop_instance_uid=row[0],
        study_instance_uid=row[5],
        series_instance_uid=series[line["series"]],
        transfer_syntax_uid=line["transfer_syntax_uid"],
        patient_name=PersonName.parse(entities["study"]["patient_name"]),
        patient_id=Phi(entities["study"]["patient_id"]),
    )


def adopt_staged(
    connection: Connection, uid: str, digest: str, received_at: int, name: str
) -> bool:
    """Give a journal entry to the deleted object whose arrival it tells of. Writer only."""
    for number, staged_as, line, entities in connection.execute(
        "SELECT trash_object.id, staged_as, line, entities FROM trash_object "
        "JOIN trash ON trash.id = item WHERE sop_instance_uid = ? AND digest = ? AND state <> 3",
        (uid, bytes.fromhex(digest)),
    ).fetchall():
        place = json.loads(entities)["columns"].index("received_at")
        if json.loads(line)[place] == received_at and staged_as in (None, name):
            connection.execute("UPDATE trash_object SET staged_as = ? WHERE id = ?", (name, number))
            return True
    return False


# In which places a file has to be moved from, by the state of its item.
_WRONG: Final = {
    TrashState.TRASHED: (Place.ARCHIVE,),
    TrashState.RESTORING: (Place.TRASH,),
    TrashState.RESTORED: (Place.TRASH,),
    TrashState.PURGING: (Place.ARCHIVE, Place.TRASH),
}


def placed(connection: Connection, done: Sequence[Placed]) -> list[Exception | None]:
    """Note where files are now. Writer only.

    What follows from that is asked of the state the item has by now: it may have changed while
    the files were moved.
    """
    for one in done:
        row = connection.execute(
            "SELECT state FROM trash JOIN trash_object ON item = trash.id "
            "WHERE trash_object.id = ?",
            (one.object_id,),
        ).fetchone()
        if row is None:
            continue
        wrong = _WRONG[TrashState(row[0])]
        changes = [
            (one.object_id, volume, int(place), int(place in wrong))
            for volume, place in one.places.items()
        ]
        connection.executemany(
            "INSERT INTO trash_copy (object, volume, was, place, owes) VALUES (?, ?, 0, ?, ?) "
            "ON CONFLICT (object, volume) DO UPDATE SET place = excluded.place, "
            "owes = excluded.owes",
            changes,
        )
        connection.executemany(
            "UPDATE trash_copy SET owes = 1 WHERE object = ? AND volume = ?",
            [(one.object_id, volume) for volume in one.to_check],
        )
        if one.unstaged or one.kept:
            connection.execute(
                "UPDATE trash_object SET staged_as = CASE WHEN ? = 1 THEN NULL ELSE staged_as END, "
                "kept = max(kept, ?) WHERE id = ?",
                (int(one.unstaged), int(one.kept), one.object_id),
            )
    return [None for _ in done]


def end(connection: Connection, number: int, configured: Collection[str]) -> bool:
    """Forget the objects of an item with which nothing is left to do; tell whether none is left.

    Only for items that are back or being purged. Volumes that are no longer configured owe
    nothing any more. Writer only.
    """
    names = sorted(configured)
    over = [
        (int(row[0]),)
        for row in connection.execute(
            "SELECT trash_object.id FROM trash_object JOIN trash ON trash.id = item "  # noqa: S608 - question marks only
            "WHERE item = ? AND state IN (3, 4) AND staged_as IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM trash_copy WHERE object = trash_object.id "
            f"AND owes = 1 AND volume IN ({','.join('?' * len(names))}))",
            (number, *names),
        ).fetchall()
    ]
    connection.executemany("DELETE FROM trash_copy WHERE object = ?", over)
    connection.executemany("DELETE FROM trash_object WHERE id = ?", over)
    left = connection.execute(
        "SELECT 1 FROM trash_object WHERE item = ? LIMIT 1", (number,)
    ).fetchone()
    return left is None


def retired_since(connection: Connection, rule: str, since: int, ran_since: int) -> int:
    """Return how many studies a rule has put into the trash since then, by either measure."""
    row = connection.execute(
        "SELECT count(*) FROM trash WHERE rule = ? AND (deleted_at >= ? OR ran_at >= ?)",
        (rule, since, ran_since),
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always answers
    return int(row[0])
