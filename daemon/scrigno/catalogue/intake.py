# SPDX-License-Identifier: Apache-2.0
"""Taking objects in: one prepared way from a `NewInstance` to its rows. Writer thread only.

The rows of studies and series that were just seen are remembered, so that an object of a known
series costs three statements, however many objects share them. What is remembered is forgotten
as soon as anything was rolled back.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from scrigno.core.attributes import IndexAttributes
from scrigno.core.phi import Phi
from scrigno.core.uids import object_key
from scrigno.db.sqlite import Connection, Value

from . import copies, rows, values
from .dictionaries import Dictionaries
from .entities import Entities, Series, Study
from .gains import HELD, OWED, Gains
from .records import AddOutcome, AddResult, CapacityReached, NewInstance

_Item = tuple[NewInstance, int | None]
_Known = tuple[int, str, str]  # row, digest, key


class Intake:
    """The writer's hooks, and its change for `Database.write_batched`."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self.gains = Gains()
        self._dictionaries = Dictionaries()
        self._entities = Entities(self.gains, self._dictionaries)
        self._last_instance = 0

    # hooks ---------------------------------------------------------------------------------------

    def before_commit(self, connection: Connection) -> None:
        """Write what counters and sets gained."""
        self.gains.flush(connection)

    def job_done(self) -> None:
        """Keep what the job gained."""
        self.gains.job_done()

    def job_undone(self) -> None:
        """Forget rows that may not exist; what other jobs gained stays."""
        self.forget()
        self.gains.job_undone()

    def group_undone(self) -> None:
        """Forget rows and gains alike."""
        self.forget()
        self.gains.group_undone()

    def forget(self) -> None:
        """Remember no row; for every change that is not `add_many`."""
        self._entities.forget()
        self._dictionaries.clear()
        self._last_instance = 0

    # the change ----------------------------------------------------------------------------------

    def add_many(
        self, connection: Connection, items: Sequence[_Item]
    ) -> list[AddResult | Exception]:
        """Make objects known; each comes with the limit of studies that holds for it."""
        try:
            return self._add_many(connection, items)
        except UnicodeEncodeError:
            if len(items) > 1:
                raise  # the writer undoes the batch and hands its items over one by one
        # Half a surrogate pair, which no encoding can hold, must not keep an object out.
        new, limit = items[0]
        cleaned = dataclasses.replace(new, attributes=_encodable(new.attributes))
        return self._add_many(connection, [(cleaned, limit)])

    def _add_many(
        self, connection: Connection, items: Sequence[_Item]
    ) -> list[AddResult | Exception]:
        known = _known(connection, items)
        results: list[AddResult | Exception] = []
        fresh: list[tuple[int, Series, NewInstance]] = []
        for new, limit in items:
            uid = new.attributes.instance.sop_instance_uid
            before = known.get(uid)
            if before is not None:
                self._insert(connection, fresh)  # it may be one of them
                fresh.clear()
                results.append(self._again(connection, before, new))
                continue
            try:
                series, is_new = self._entities.series_of(connection, new, limit)
            except CapacityReached as refusal:
                results.append(refusal)
                continue
            row = self._next_instance(connection)
            fresh.append((row, series, new))
            known[uid] = (row, new.digest, new.key)
            results.append(
                AddResult(
                    outcome=AddOutcome.NEW,
                    existing_key=new.key,
                    existing_digest=new.digest,
                    new_study=is_new,
                    patient_conflict=series.study.conflict,
                )
            )
        self._insert(connection, fresh)
        return results

    def _again(self, connection: Connection, before: _Known, new: NewInstance) -> AddResult:
        """Add the copies of an object that is known, unless its bytes differ."""
        row, digest, key = before
        if digest != new.digest:
            return AddResult(outcome=AddOutcome.DIFFERENT, existing_key=key, existing_digest=digest)
        for volume in new.copies:
            copies.set_state(connection, self.gains, row, volume, HELD, new.size)
        for volume in new.owed:
            copies.owe_if_unknown(connection, self.gains, row, volume, new.size)
        if new.staged_as is not None:
            connection.execute(
                "UPDATE instance SET staged_as = ? WHERE id = ? AND staged_as IS NULL",
                (new.staged_as, row),
            )
        return AddResult(outcome=AddOutcome.SAME, existing_key=key, existing_digest=digest)

    def _next_instance(self, connection: Connection) -> int:
        if self._last_instance == 0:
            row = connection.execute("SELECT coalesce(max(id), 0) FROM instance").fetchone()
            assert row is not None  # noqa: S101 - an aggregate always answers
            self._last_instance = int(row[0])
        self._last_instance += 1
        return self._last_instance

    def _insert(
        self, connection: Connection, fresh: Sequence[tuple[int, Series, NewInstance]]
    ) -> None:
        if not fresh:
            return
        instances: list[tuple[Value, ...]] = []
        held: list[tuple[Value, ...]] = []
        gains = self.gains
        for row, series, new in fresh:
            received = values.stamp(new.received_at)
            instances.append(self._instance_row(connection, row, series, new, received))
            held.extend((row, volume, HELD) for volume in new.copies)
            held.extend((row, volume, OWED) for volume in new.owed)
            study = series.study
            self._note_origin(connection, study, new)
            gains.instances(study.row, series.row, 1, new.size)
            gains.received(study.row, received)
            gains.copies(new.copies, HELD, new.size)
            gains.copies(new.owed, OWED, new.size)
            sop_class = new.attributes.instance.sop_class_uid
            if sop_class not in study.sop_classes:
                study.sop_classes.add(sop_class)
                gains.sets(study.row, study.sets())
        rows.insert_many(connection, rows.INSERT_INSTANCE, rows.INSTANCE_WIDTH, instances)
        rows.insert_many(connection, rows.INSERT_COPY, rows.COPY_WIDTH, held)

    def _note_origin(self, connection: Connection, study: Study, new: NewInstance) -> None:
        """Record from whom objects of a study came, once for each study and origin."""
        origin = self._dictionaries.origin(connection, new.origin)
        if origin not in study.origins:
            connection.execute(
                "INSERT INTO study_origin (origin, study) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (origin, study.row),
            )
            study.origins.add(origin)

    def _instance_row(
        self,
        connection: Connection,
        row: int,
        series: Series,
        new: NewInstance,
        received: int,
    ) -> tuple[Value, ...]:
        instance = new.attributes.instance
        usual = object_key(series.study.uid, series.uid, instance.sop_instance_uid)
        return (
            row,
            series.row,
            bytes.fromhex(new.digest),
            new.size,
            received,
            self._dictionaries.origin(connection, new.origin),
            None if new.key == usual else new.key,
            new.staged_as,
            new.attributes.character_set,
            *rows.instance_values(instance),
        )


def _known(connection: Connection, items: Sequence[_Item]) -> dict[str, _Known]:
    """Return row, digest and key of those objects that are in the catalogue already."""
    uids: list[Value] = [new.attributes.instance.sop_instance_uid for new, _ in items]
    size = next(size for size in (1, 4, 16, 64, len(uids)) if size >= len(uids))
    marks = ",".join("?" * size)
    found = connection.execute(
        "SELECT instance.sop_instance_uid, instance.id, instance.digest, instance.key, "  # noqa: S608 - question marks only
        "series.series_instance_uid, study.study_instance_uid FROM instance "
        "JOIN series ON series.id = instance.series JOIN study ON study.id = series.study "
        f"WHERE instance.sop_instance_uid IN ({marks})",
        uids + [""] * (size - len(uids)),
    ).fetchall()
    return {
        uid: (row, digest.hex(), key or object_key(study, series, uid))
        for uid, row, digest, key, series, study in found
    }


def _encodable(value: Any) -> Any:
    """Return attributes with every text made encodable; what cannot be is shown as `?`."""
    if isinstance(value, str):
        clean = value.encode("utf-8", "replace").decode("utf-8")
        return Phi(clean) if isinstance(value, Phi) else clean
    if isinstance(value, tuple):
        return tuple(_encodable(each) for each in value)
    if isinstance(value, Mapping):
        return {key: _encodable(each) for key, each in value.items()}
    if isinstance(value, IndexAttributes) or dataclasses.is_dataclass(value):
        assert not isinstance(value, type)  # noqa: S101 - tells the type checker
        changes = {
            each.name: _encodable(getattr(value, each.name)) for each in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    return value
