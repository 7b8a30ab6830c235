# SPDX-License-Identifier: Apache-2.0
"""Rows come back from the trash as they were, or are merged with what came again. Writer only."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from scrigno.core.attributes import PatientAttributes
from scrigno.db.sqlite import Connection, Value

from . import copies, corrections, dialect, fulltext, maintenance, rows
from .decisions import NAMES, Demographics
from .dictionaries import Dictionaries
from .gains import HELD, MISSING, OWED, Gains
from .records import CapacityReached, Origin
from .trash_items import NotNow, Place, Returned, TrashState
from .trash_rows import COUNTERS, Row, columns_of, free_numbers, insert_again, rows_as_they_are


def come_back(
    connection: Connection,
    gains: Gains,
    item: int,
    *,
    volumes: Collection[str],
    max_studies: int | None,
) -> Returned | None:
    """Bring the rows of an item back whose files are in place; None when some are not yet.

    `volumes` are those in service. Objects that were sent again with the same bytes are merged;
    those with a rival of other bytes must stand in the inbox already. Raises NotNow when a series
    belongs to another study by now, CapacityReached.
    """
    found = rows_as_they_are(connection, "SELECT * FROM trash WHERE id = ? AND state = 2", (item,))
    if not found:
        return None
    entities = json.loads(found[0]["entities"])
    objects = rows_as_they_are(
        connection, "SELECT * FROM trash_object WHERE item = ? ORDER BY id", (item,)
    )
    live = _live(connection, [one["sop_instance_uid"] for one in objects])
    places = _places(connection, item)
    back: list[Row] = []
    merged: list[Row] = []
    kept = lost = 0
    for one in objects:
        number, digest = live.get(one["sop_instance_uid"], (0, b""))
        if not number:
            known = {copy[2] for copy in places[one["id"]].values()}
            if Place.ARCHIVE in known or one["staged_as"] is not None:
                back.append(one)
            elif Place.TRASH in known:
                return None
            else:
                lost += 1
        elif digest == one["digest"]:
            one["live"] = number
            merged.append(one)
        elif one["kept"]:
            kept += 1
        else:
            return None
    if back:
        _put_back(connection, gains, entities, back, places, volumes, max_studies)
    for one in merged:
        for volume, (_, _, place) in places[one["id"]].items():
            if place == Place.ARCHIVE and volume in volumes:
                copies.set_state(connection, gains, one["live"], volume, HELD, one["size"])
    _settle(connection, item, [one["id"] for one in back])
    return Returned(
        study_instance_uid=found[0]["study_instance_uid"],
        back=len(back),
        merged=len(merged),
        kept=kept,
        lost=lost,
    )


def _live(connection: Connection, uids: list[str]) -> dict[str, tuple[int, bytes]]:
    found: dict[str, tuple[int, bytes]] = {}
    for place in range(0, len(uids), 500):
        some = uids[place : place + 500]
        for uid, number, digest in connection.execute(
            "SELECT sop_instance_uid, id, digest FROM instance "  # noqa: S608 - question marks only
            f"WHERE sop_instance_uid IN ({','.join('?' * len(some))})",
            some,
        ):
            found[uid] = (number, digest)
    return found


_Places = Mapping[int, Mapping[str, tuple[int, int | None, int]]]  # was, verified_at, place


def _places(connection: Connection, item: int) -> _Places:
    found: dict[int, dict[str, tuple[int, int | None, int]]] = defaultdict(dict)
    for number, volume, was, verified_at, place in connection.execute(
        "SELECT trash_copy.object, volume, was, verified_at, place FROM trash_copy "
        "JOIN trash_object ON trash_object.id = trash_copy.object WHERE trash_object.item = ?",
        (item,),
    ):
        found[number][volume] = (was, verified_at, place)
    return found


def _put_back(
    connection: Connection,
    gains: Gains,
    entities: Row,
    back: list[Row],
    places: _Places,
    volumes: Collection[str],
    max_studies: int | None,
) -> None:
    dictionaries = Dictionaries()
    study, is_new = _study(connection, gains, dictionaries, entities, max_studies)
    columns: list[str] = entities["columns"]
    lines = [dict(zip(columns, json.loads(one["line"]), strict=True)) for one in back]
    series = _series(connection, gains, entities, study, {line["series"] for line in lines})
    origins = {row["id"]: _origin(connection, dictionaries, row) for row in entities["origins"]}
    numbers = free_numbers(connection, "instance", [line["id"] for line in lines])
    usable = columns_of(connection, "instance")
    instances: list[tuple[Value, ...]] = []
    held: list[tuple[Value, ...]] = []
    names = [name for name in columns if name in usable]
    for number, one, line in zip(numbers, back, lines, strict=True):
        row = line | {
            "id": number,
            "series": series[line["series"]],
            "origin": origins[line["origin"]],
            "digest": one["digest"],
            "staged_as": one["staged_as"],
        }
        instances.append(tuple(row[name] for name in names))
        gains.instances(study, row["series"], 1, one["size"])
        for volume, state, verified_at in _states(places[one["id"]], volumes):
            held.append((number, volume, state, verified_at))
            gains.copy(volume, state, 1, one["size"])
    connection.executemany(
        f"INSERT INTO instance ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608 - our columns
        instances,
    )
    connection.executemany(
        "INSERT INTO copy (object, volume, state, verified_at) VALUES (?, ?, ?, ?)", held
    )
    if not is_new:
        was = entities["study"]
        connection.execute(
            "UPDATE study SET received_first = min(received_first, ?), "
            "received_last = max(received_last, ?) WHERE id = ?",
            (was["received_first"], was["received_last"], study),
        )
    maintenance.narrow(connection, study)
    gains.sets_written(study)


def _states(
    places: Mapping[str, tuple[int, int | None, int]], volumes: Collection[str]
) -> Iterable[tuple[str, int, int | None]]:
    """Yield the copy of each volume in service as it is now."""
    for volume in volumes:
        was, verified_at, place = places.get(volume, (0, None, Place.NOWHERE))
        if place == Place.ARCHIVE:
            yield volume, HELD, verified_at if was == HELD else None
        else:
            yield volume, MISSING if was == MISSING else OWED, None


def _study(
    connection: Connection,
    gains: Gains,
    dictionaries: Dictionaries,
    entities: Row,
    max_studies: int | None,
) -> tuple[int, bool]:
    """Return the study of the item, made again when nobody sent it meanwhile."""
    was: Row = entities["study"]
    bits = dictionaries.modality_bits(
        connection, {each["modality"] for each in entities["series"]} - {""}
    )
    found = connection.execute(
        "SELECT id FROM study WHERE study_instance_uid = ?", (was["study_instance_uid"],)
    ).fetchone()
    if found is not None:
        return int(found[0]), False
    total = connection.execute("SELECT studies FROM totals WHERE id = 1").fetchone()
    assert total is not None  # noqa: S101 - made with the table
    if max_studies is not None and total[0] + gains.new_studies >= max_studies:
        raise CapacityReached(limit=max_studies)
    row = was | dict.fromkeys(COUNTERS, 0) | {"modality_bits": bits}
    row["institution_id"] = dictionaries.institution(connection, was["institution_name"])
    if entities["sent"] is None:
        row["patient"] = _patient(connection, gains, entities["patient"])
    else:
        row |= _as_sent(connection, gains, entities["sent"], was)
    number = insert_again(connection, "study", row)
    fulltext.refresh(connection, number)
    gains.entities(studies=1)
    _correct(connection, gains, row["patient"], entities)
    return number, True


def _as_sent(connection: Connection, gains: Gains, sent: Row, was: Row) -> Row:
    """Return the patient columns of a corrected study as its objects say them."""
    person = Demographics.of_plain(sent)
    columns: Row = {}
    for name in NAMES:
        columns |= rows.column_values(rows.PATIENT_COLUMNS[name], getattr(person, name))
    attributes = PatientAttributes(**{name: getattr(person, name) for name in NAMES})
    columns["patient"] = corrections.patient_of(
        connection, gains, attributes, sent["identity"], was["character_set"]
    )
    return columns


def _correct(connection: Connection, gains: Gains, patient: int, entities: Row) -> None:
    """Let what operators decided of the patient hold again, as it stands by now."""
    was, sent = entities["patient"], entities["sent"]
    connection.execute(
        "UPDATE correction SET sent = ? WHERE study_instance_uid = ?",
        ("" if sent is None else json.dumps(sent), entities["study"]["study_instance_uid"]),
    )
    key = (was["patient_id"], was["issuer_of_patient_id"], was["identity"])
    texts = {name: was[name] for name in rows.PATIENT_COLUMNS}
    corrections.apply(connection, gains, entities["study"]["study_instance_uid"], {key: texts})
    known = connection.execute("SELECT 1 FROM patient WHERE id = ?", (patient,)).fetchone()
    if known is not None:
        corrections.settle(connection, gains, patient, {key: texts})


def _patient(connection: Connection, gains: Gains, was: Row) -> int:
    found = connection.execute(
        "SELECT id FROM patient WHERE patient_id = ? AND issuer_of_patient_id = ? AND identity = ?",
        (was["patient_id"], was["issuer_of_patient_id"], was["identity"]),
    ).fetchone()
    if found is not None:
        return int(found[0])
    gains.entities(patients=1)
    return insert_again(connection, "patient", was)


def _series(
    connection: Connection, gains: Gains, entities: Row, study: int, wanted: Collection[int]
) -> dict[int, int]:
    """Return the number of each series now, by the number it had."""
    found: dict[int, int] = {}
    for was in entities["series"]:
        if was["id"] not in wanted:
            continue
        row = connection.execute(
            "SELECT id, study FROM series WHERE series_instance_uid = ?",
            (was["series_instance_uid"],),
        ).fetchone()
        if row is not None and row[1] != study:
            raise NotNow(
                "A series of it belongs to another study now.",
                next_step="Delete that one first, if this one is right.",
            )
        if row is not None:
            found[was["id"]] = int(row[0])
            continue
        fresh = was | dict.fromkeys(COUNTERS[1:], 0) | {"study": study}
        number = insert_again(connection, "series", fresh)
        for request in entities["requests"]:
            if request["series"] == was["id"]:
                insert_again(connection, "series_request", request | {"series": number})
        gains.series(study, 1)
        found[was["id"]] = number
    return found


def _origin(connection: Connection, dictionaries: Dictionaries, row: Row) -> int:
    return dictionaries.origin(
        connection,
        Origin(
            door=row["door"],
            calling_ae=row["calling_ae"],
            called_ae=row["called_ae"],
            address=row["address"],
            user=row["account"],
        ),
    )


def _settle(connection: Connection, item: int, back: list[int]) -> None:
    """Note that the rows are back; what volumes that are away still owe stays."""
    connection.execute(
        "UPDATE trash SET state = ?, revision = revision + 1 WHERE id = ?",
        (TrashState.RESTORED, item),
    )
    inside = dialect.numbers_in("id", back)  # their journal entries are their rows' again
    connection.execute(
        f"UPDATE trash_object SET staged_as = NULL WHERE {inside.text}",  # noqa: S608 - our texts
        inside.parameters,
    )
