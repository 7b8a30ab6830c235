# SPDX-License-Identifier: Apache-2.0
"""Objects that are kept aside: other bytes under a known UID, held senders, unreadable ones."""

from typing import Any, Final

from scrigno.core.attributes import PersonName
from scrigno.core.phi import Phi
from scrigno.db.sqlite import Connection

from . import copies, decisions, rows, values
from .decisions import Kind, Phase
from .gains import HELD, MISSING, OWED, Gains
from .records import Copy, CopyState, InboxItem, NewInboxItem, Origin

_SELECT: Final = (
    "SELECT id, key, reason, digest, size, received_at, door, calling_ae, called_ae, address, "
    "account, sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid, "
    "transfer_syntax_uid, patient_name, patient_id, comment, staged_as, decided FROM inbox "
)
_STATE_NUMBERS: Final = {CopyState.HELD: HELD, CopyState.OWED: OWED, CopyState.MISSING: MISSING}


def add(connection: Connection, gains: Gains, item: NewInboxItem) -> int:
    """Keep an object; one with the same key is that one again. Writer only."""
    known = connection.execute(
        "SELECT id, size, staged_as FROM inbox WHERE key = ?", (item.key,)
    ).fetchone()
    if known is not None:
        number = int(known[0])
        if known[2] is None and item.staged_as is not None:
            rows.update(connection, "inbox", number, {"staged_as": item.staged_as})
    else:
        number = rows.insert(
            connection,
            "inbox",
            {
                "key": item.key,
                "reason": item.reason,
                "digest": bytes.fromhex(item.digest),
                "size": item.size,
                "received_at": values.stamp(item.received_at),
                "door": item.origin.door,
                "calling_ae": item.origin.calling_ae,
                "called_ae": item.origin.called_ae,
                "address": item.origin.address,
                "account": item.origin.user,
                "sop_class_uid": item.sop_class_uid,
                "sop_instance_uid": item.sop_instance_uid,
                "study_instance_uid": item.study_instance_uid,
                "series_instance_uid": item.series_instance_uid,
                "transfer_syntax_uid": item.transfer_syntax_uid,
                "patient_name": item.patient_name.text(),
                "patient_id": item.patient_id,
                "comment": item.comment,
                "staged_as": item.staged_as,
                "decided": _decided(connection, item.key),
            },
        )
    for volume in item.copies:
        copies.set_state(connection, gains, number, volume, HELD, item.size, copies.INBOX)
    for volume in item.owed:
        copies.owe_if_unknown(connection, gains, number, volume, item.size, copies.INBOX)
    return number


def _decided(connection: Connection, key: str) -> str:
    """Return how somebody decided about this object before it came (again), '' when nobody did."""
    last = decisions.last_standing(connection, key)
    if last is None or last.phase is not Phase.DONE:
        return ""
    return last.kind.value if last.kind in (Kind.REJECT, Kind.BESIDE) else ""


def mark(connection: Connection, key: str, decided: str) -> None:
    """Hide an item because it was decided about, or show it again (''). Writer only."""
    connection.execute("UPDATE inbox SET decided = ? WHERE key = ?", (decided, key))


def remove(connection: Connection, gains: Gains, number: int) -> bool:
    """Forget a kept object and its copies; False when it was unknown. Writer only."""
    item = get(connection, number)
    if item is None:
        return False
    forgotten = copies.copies_of(connection, [number], copies.INBOX)[number]
    for copy in forgotten:
        gains.copy(copy.volume, _STATE_NUMBERS[copy.state], -1, -item.item.size)
    connection.execute("DELETE FROM inbox_copy WHERE object = ?", (number,))
    connection.execute("DELETE FROM inbox WHERE id = ?", (number,))
    return True


def get(connection: Connection, number: int) -> InboxItem | None:
    """Return one kept object, or None."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (number,)).fetchone()
    if row is None:
        return None
    return _item(row, copies.copies_of(connection, [number], copies.INBOX)[number])


def by_key(connection: Connection, key: str) -> InboxItem | None:
    """Return the object kept under this key, or None."""
    row = connection.execute("SELECT id FROM inbox WHERE key = ?", (key,)).fetchone()
    return None if row is None else get(connection, int(row[0]))


def page(connection: Connection, after: int, limit: int) -> list[InboxItem]:
    """Return those that nobody has decided about, in the order they came."""
    found = connection.execute(
        f"{_SELECT} WHERE id > ? AND decided = '' ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()
    held = copies.copies_of(connection, [row[0] for row in found], copies.INBOX)
    return [_item(row, held[row[0]]) for row in found]


def counts(connection: Connection) -> dict[str, int]:
    """Return how many objects wait for a decision, by reason."""
    return dict(
        connection.execute(
            "SELECT reason, count(*) FROM inbox WHERE decided = '' GROUP BY reason ORDER BY reason"
        ).fetchall()
    )


def _item(row: Any, held: list[Copy]) -> InboxItem:
    return InboxItem(
        inbox_id=row[0],
        decided=row[20],
        item=NewInboxItem(
            key=row[1],
            reason=row[2],
            digest=row[3].hex(),
            size=row[4],
            received_at=values.moment(row[5]),
            origin=Origin(
                door=row[6], calling_ae=row[7], called_ae=row[8], address=row[9], user=row[10]
            ),
            sop_class_uid=row[11],
            sop_instance_uid=row[12],
            study_instance_uid=row[13],
            series_instance_uid=row[14],
            transfer_syntax_uid=row[15],
            patient_name=PersonName.parse(row[16]),
            patient_id=Phi(row[17]),
            comment=row[18],
            staged_as=row[19],
            copies=tuple(copy.volume for copy in held if copy.state is CopyState.HELD),
            owed=tuple(copy.volume for copy in held if copy.state is not CopyState.HELD),
        ),
    )
