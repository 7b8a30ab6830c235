# SPDX-License-Identifier: Apache-2.0
"""Rows leave the archive for the trash, in one transaction. Writer thread only.

What the archive looked like is kept as JSON: patient, study and series once for an item, one line
for each object. Counters are not kept: they are counted from what leaves and comes back, so that
they are right whatever happened in between.
"""

import json
from collections import defaultdict
from typing import Final

from scrigno.core.uids import object_key
from scrigno.db.sqlite import Connection, Value

from . import corrections, dialect, fixity, fulltext, maintenance, rows, values
from .gains import HELD, Gains
from .trash_items import NothingToDelete, NotNow, Place, Removal, StudyProtected, TrashState
from .trash_rows import RAN, Row, exists, insert_copies, meter, rows_as_they_are

# made once: this runs for each image while the index takes nothing else
_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))


def leave(connection: Connection, gains: Gains, removal: Removal) -> int:
    """Take a study, or a part of it, out of the archive into the trash; return the item's number.

    Raises NothingToDelete, StudyProtected, NotNow.
    """
    found = connection.execute(
        "SELECT id, patient FROM study WHERE study_instance_uid = ?", (removal.study_uid,)
    ).fetchone()
    if found is None:
        raise NothingToDelete("The archive has no such study.")
    study, patient = int(found[0]), int(found[1])
    _require_free(connection, removal.study_uid)
    chosen = _chosen(connection, study, removal)
    if not chosen:
        raise NothingToDelete("The study has none of the series or images that were named.")
    maintenance.narrow(connection, study)  # the sets as the rows say, whatever was not yet written
    item = _insert_item(connection, removal, study, patient, chosen)
    _insert_objects(connection, removal, item, chosen)
    _take_away(connection, gains, study, patient, chosen)
    return item


def _require_free(connection: Connection, study_uid: str) -> None:
    if exists(
        connection,
        "SELECT 1 FROM study_protection WHERE study_instance_uid = ? AND protected = 1",
        study_uid,
    ):
        raise StudyProtected(
            "The study is protected.", next_step="Take its protection away first, if that is meant."
        )
    if exists(
        connection, "SELECT 1 FROM trash WHERE study_instance_uid = ? AND state = 2", study_uid
    ):
        raise NotNow("A part of the study is being restored.", next_step="Try again in a moment.")


def _chosen(connection: Connection, study: int, removal: Removal) -> list[Row]:
    """Return the rows of the objects that leave, their series' UID as `series_uid`."""
    uids = {
        int(number): uid
        for number, uid in connection.execute(
            "SELECT id, series_instance_uid FROM series WHERE study = ?", (study,)
        )
    }
    if removal.series_uid is not None:
        uids = {number: uid for number, uid in uids.items() if uid == removal.series_uid}
    series = dialect.numbers_in("series", list(uids))
    found = rows_as_they_are(
        connection,
        f"SELECT * FROM instance WHERE {series.text}",  # noqa: S608 - our texts
        series.parameters,
    )
    if removal.sop_uids is not None:
        found = [row for row in found if row["sop_instance_uid"] in removal.sop_uids]
    for row in found:
        row["series_uid"] = uids[row["series"]]
    return found


def _insert_item(
    connection: Connection, removal: Removal, study: int, patient: int, chosen: list[Row]
) -> int:
    entities = _entities(connection, removal, study, patient, chosen)
    return rows.insert(
        connection,
        "trash",
        {
            "token": removal.token,
            "study_instance_uid": removal.study_uid,
            "scope": removal.scope,
            "state": TrashState.TRASHED,
            "revision": 1,
            "deleted_at": values.stamp(removal.deleted_at),
            "ran_at": meter(connection, RAN),
            "keep_days": removal.keep_days,
            "account": removal.account,
            "reason": removal.reason,
            "rule": removal.rule,
            "objects": len(chosen),
            "size_bytes": sum(row["size"] for row in chosen),
            "entities": json.dumps(entities, separators=(",", ":")),
        },
    )


def _entities(
    connection: Connection, removal: Removal, study: int, patient: int, chosen: list[Row]
) -> Row:
    """Return what stands above the objects, and the meaning of their numbers."""
    series = dialect.numbers_in("id", sorted({row["series"] for row in chosen}))
    requests = dialect.numbers_in("series", sorted({row["series"] for row in chosen}))
    origins = dialect.numbers_in("id", sorted({row["origin"] for row in chosen}))
    columns = [name for name in chosen[0] if name != "series_uid"]
    return {
        "patient": rows_as_they_are(connection, "SELECT * FROM patient WHERE id = ?", (patient,))[
            0
        ],
        "study": rows_as_they_are(connection, "SELECT * FROM study WHERE id = ?", (study,))[0],
        "series": rows_as_they_are(
            connection,
            f"SELECT * FROM series WHERE {series.text} ORDER BY id",  # noqa: S608 - our texts
            series.parameters,
        ),
        "requests": rows_as_they_are(
            connection,
            f"SELECT * FROM series_request WHERE {requests.text} ORDER BY id",  # noqa: S608 - our texts
            requests.parameters,
        ),
        "origins": rows_as_they_are(
            connection,
            f"SELECT * FROM origin WHERE {origins.text}",  # noqa: S608 - our texts
            origins.parameters,
        ),
        "columns": columns,
        "sent": _sent(connection, removal.study_uid),
    }


def _sent(connection: Connection, study_uid: str) -> Row | None:
    """Return what the objects of a study say of its patient, where that was corrected."""
    correction = corrections.of_study(connection, study_uid)
    if correction is None or correction.person is None or correction.sent is None:
        return None
    return {**correction.sent.plain(), "identity": correction.sent_identity}


def _insert_objects(connection: Connection, removal: Removal, item: int, chosen: list[Row]) -> None:
    known = _copies_of(connection, [row["id"] for row in chosen])
    first = connection.execute("SELECT coalesce(max(id), 0) FROM trash_object").fetchone()
    assert first is not None  # noqa: S101 - an aggregate always answers
    objects: list[tuple[Value, ...]] = []
    places: list[tuple[Value, ...]] = []
    for number, row in enumerate(chosen, int(first[0]) + 1):
        key = row["key"] or object_key(
            removal.study_uid, row["series_uid"], row["sop_instance_uid"]
        )
        line = [None if name == "digest" else row[name] for name in row if name != "series_uid"]
        objects.append(
            (
                *(number, item, row["sop_instance_uid"], key, row["digest"], row["size"]),
                *(row["staged_as"], _COMPACT.encode(line)),
            )
        )
        of_row = known.get(row["id"], {})
        for volume in sorted({*of_row, *removal.volumes}):
            was, verified_at = of_row.get(volume, (0, None))
            # Also where no copy is known: one may be on its way at this moment.
            place = Place.ARCHIVE if was == HELD else Place.NOWHERE
            places.append((number, volume, was, verified_at, place, 1))
    connection.executemany(
        "INSERT INTO trash_object (id, item, sop_instance_uid, key, digest, size, staged_as, line) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        objects,
    )
    insert_copies(connection, places)


def _copies_of(
    connection: Connection, numbers: list[int]
) -> dict[int, dict[str, tuple[int, int | None]]]:
    found: dict[int, dict[str, tuple[int, int | None]]] = defaultdict(dict)
    inside = dialect.numbers_in("object", numbers)
    for number, volume, state, verified_at in connection.execute(
        f"SELECT object, volume, state, verified_at FROM copy WHERE {inside.text}",  # noqa: S608 - our texts
        inside.parameters,
    ):
        found[number][volume] = (state, verified_at)
    return found


def _take_away(
    connection: Connection, gains: Gains, study: int, patient: int, chosen: list[Row]
) -> None:
    """Forget the objects and what is left empty above them."""
    numbers = [row["id"] for row in chosen]
    _forget_copies(connection, gains, chosen)
    inside = dialect.numbers_in("id", numbers)
    connection.execute(f"DELETE FROM instance WHERE {inside.text}", inside.parameters)  # noqa: S608 - our texts
    left: dict[int, list[int]] = defaultdict(list)
    for row in chosen:
        left[row["series"]].append(row["size"])
    for series, sizes in left.items():
        gains.instances(study, series, -len(sizes), -sum(sizes))
    emptied = [
        series
        for series in left
        if not exists(connection, "SELECT 1 FROM instance WHERE series = ? LIMIT 1", series)
    ]
    for series in emptied:
        connection.execute("DELETE FROM series_request WHERE series = ?", (series,))
        connection.execute("DELETE FROM series WHERE id = ?", (series,))
        gains.series_gone(series)
        gains.series(study, -1)
    gone = not exists(connection, "SELECT 1 FROM series WHERE study = ? LIMIT 1", study)
    if gone:
        fulltext.drop(connection, study)
        maintenance.forget_origins(connection, study)
        connection.execute("DELETE FROM study WHERE id = ?", (study,))
        gains.study_gone(study)
        gains.entities(studies=-1)
        corrections.settle(connection, gains, patient, {})
    else:
        maintenance.narrow(connection, study)
    fixity.found_good(connection, [row["sop_instance_uid"] for row in chosen])
    gains.sets_written(study)


def _forget_copies(connection: Connection, gains: Gains, chosen: list[Row]) -> None:
    sizes = {row["id"]: row["size"] for row in chosen}
    inside = dialect.numbers_in("object", list(sizes))
    sums: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for number, volume, state in connection.execute(
        f"DELETE FROM copy WHERE {inside.text} RETURNING object, volume, state",  # noqa: S608 - our texts
        inside.parameters,
    ).fetchall():
        tally = sums[volume, state]
        tally[0] += 1
        tally[1] += sizes[number]
    for (volume, state), (number, size) in sums.items():
        gains.copy(volume, state, -number, -size)
