# SPDX-License-Identifier: Apache-2.0
"""Documents with revisions and versions: what people add to a study, an account or the box.

Each save names the revision it was made from; a save upon another one is refused with what stands
there now. Saves of one author within two minutes that take nothing away are one version of the
history; a save that makes the document smaller, or comes from somebody else, begins a new one.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from scrigno.core.clock import Clock
from scrigno.core.uids import path_part
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection, Row

from .errors import BadDocument, RevisionConflict, RevisionNeeded, TooMany, UnknownVersion

PREFIX: Final = "reading"
MOST_BYTES: Final = 512 << 10  # of one document as JSON
MOST_VERSIONS: Final = 1000  # of one document; the oldest go
MOST_LAYERS: Final = 200  # of one kind in one study
MOST_OF_ACCOUNT: Final = 1000
TOGETHER: Final = timedelta(minutes=2)
Content = dict[str, Any]


class Scope(StrEnum):
    """What a document belongs to."""

    STUDY = "study"
    ACCOUNT = "account"
    BOX = "box"


class Kind(StrEnum):
    """What a document is; the words stand on volumes and never change."""

    NOTE = "note"
    LABELS = "labels"
    REPORT_STATE = "report-state"
    ANNOTATIONS = "annotations"
    KEY_IMAGES = "key-images"
    VIEWER_STATE = "viewer-state"
    PREFERENCE = "preference"
    HANGING = "hanging"


# Where somebody was in a study is of no use to anybody else, and changes every second.
UNFILED: Final = frozenset({Kind.VIEWER_STATE})
# Only what is part of the patient's record has a history.
WITH_HISTORY: Final = frozenset(
    {Kind.NOTE, Kind.LABELS, Kind.REPORT_STATE, Kind.ANNOTATIONS, Kind.KEY_IMAGES}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which document: its layer is the author's, or the name of a preference."""

    scope: Scope
    subject: str
    kind: Kind
    layer: str = ""
    owner: str = ""  # the layer as it is written; no part of what it is found by

    @property
    def folder(self) -> str:
        """Return where its versions stand on every volume; no text of a person is in it."""
        subject = (
            path_part(self.subject)
            if self.scope is Scope.STUDY
            else short(self.subject)
            if self.subject
            else "all"
        )
        return f"{PREFIX}/{self.scope}/{subject}/{self.kind}-{short(self.layer)}"

    def key(self, number: int) -> str:
        """Return where one version stands."""
        return f"{self.folder}/{number:06}.json"


def short(text: str) -> str:
    """Return what stands for a name in files and addresses, which tell no name."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def study_folder(study_uid: str) -> str:
    """Return the folder of everything that was added to a study."""
    return f"{PREFIX}/{Scope.STUDY}/{path_part(study_uid)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a document; `saved_at` is the last save that went into it."""

    place: Place
    number: int
    revision: int
    author: str
    began_at: datetime
    saved_at: datetime
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A save that was written down; `document` and `number` name it for the volumes."""

    version: Version
    document: int
    changed: bool


_VERSION: Final = "number, version.revision, author, began_at, saved_at, content"
_PLACE: Final = "scope, subject, kind, layer, owner"
_JOINED: Final = "version JOIN document ON document.id = version.document"
_FOUND: Final = "scope = ? AND subject = ? AND kind = ? AND layer = ?"


class Documents:
    """The documents of the system disk. Every method raises DatabaseError."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        """Use an open database with the schema of this room."""
        self._database = database
        self._clock = clock

    async def get(self, place: Place) -> Version | None:
        """Return the newest version, None when nothing was ever saved."""
        rows = await self._versions(f"{_FOUND} AND number = document.version", _values(place))
        return rows[0] if rows else None

    async def of_subject(self, scope: Scope, subject: str, *kinds: Kind) -> list[Version]:
        """Return the newest version of each document of a study, an account or the box."""
        marks = ",".join("?" * len(kinds))
        some = f" AND kind IN ({marks})" if kinds else ""
        return await self._versions(
            f"scope = ? AND subject = ? AND number = document.version{some} ORDER BY kind, layer",
            (scope, subject, *kinds),
        )

    async def of_studies(self, subjects: Sequence[str], *kinds: Kind) -> list[Version]:
        """Return the newest documents of these kinds of many studies, for a page of the list."""
        marks, more = ",".join("?" * len(subjects)), ",".join("?" * len(kinds))
        return await self._versions(
            f"scope = 'study' AND subject IN ({marks}) AND kind IN ({more})"
            " AND number = document.version",
            (*subjects, *kinds),
        )

    async def history(self, place: Place, before: int, limit: int) -> list[Version]:
        """Return versions, the newest first; `before` is the last number of the page before."""
        return await self._versions(
            f"{_FOUND} AND number < ? ORDER BY number DESC LIMIT ?",
            (*_values(place), before, limit),
        )

    async def version(self, place: Place, number: int) -> Version:
        """Return one version; raises UnknownVersion."""
        found = await self._versions(f"{_FOUND} AND number = ?", (*_values(place), number))
        if not found:
            raise UnknownVersion("There is no such version.")
        return found[0]

    async def _versions(self, where: str, values: Sequence[Any]) -> list[Version]:
        query = f"SELECT {_PLACE}, {_VERSION} FROM {_JOINED} WHERE {where}"  # noqa: S608 - our texts
        rows = await self._database.read(lambda db: db.execute(query, values).fetchall())
        return [_version(row) for row in rows]

    async def put(
        self,
        place: Place,
        content: Content,
        *,
        author: str,
        expected: int | None,
        volumes: Iterable[str],
        keep: bool = False,
    ) -> Saved:
        """Save upon revision `expected` (0: there is none yet); durable on the system disk.

        Each of `volumes` is owed the version from then on. `keep` makes it a version of its own.
        Raises RevisionNeeded, RevisionConflict, BadDocument, TooMany.
        """
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
            raise BadDocument(f"A document has at most {MOST_BYTES} bytes.")
        if expected is None:
            raise RevisionNeeded(
                "A save says which revision it was made from.",
                next_step='Send If-Match with the ETag that was read, or If-None-Match: "*".',
            )
        now = self._clock.now()
        names = tuple(volumes) if place.kind not in UNFILED else ()

        def change(db: Connection) -> Saved:
            return _put(db, place, text, author, expected, now, names, keep=keep)

        return await self._database.write(change)

    async def forget(self, scope: Scope, subject: str, volumes: Iterable[str]) -> int:
        """Remove everything of a study or an account; each volume owes the removal.

        Returns how many documents there were.
        """
        names = tuple(volumes)

        def remove(db: Connection) -> int:
            query = f"SELECT id, {_PLACE} FROM document WHERE scope = ? AND subject = ?"  # noqa: S608 - our texts
            rows = db.execute(query, (scope, subject)).fetchall()
            for row in rows:
                _remove(db, row[0], _place(row[1:]), names)
            return len(rows)

        return await self._database.write(remove)

    async def remove(self, place: Place, volumes: Iterable[str]) -> bool:
        """Remove one document for good; False when there was none."""
        names = tuple(volumes)

        def change(db: Connection) -> bool:
            row = db.execute(f"SELECT id FROM document WHERE {_FOUND}", _values(place)).fetchone()  # noqa: S608 - our texts
            if row is not None:
                _remove(db, row[0], place, names)
            return row is not None

        return await self._database.write(change)

    async def prune(self, kind: Kind, layer: str, keep: int) -> None:
        """Remove the oldest documents of a kind and layer beyond `keep`."""

        def change(db: Connection) -> None:
            query = (
                "SELECT document.id FROM document JOIN version ON document.id = document"
                " AND number = version WHERE kind = ? AND layer = ?"
                " ORDER BY saved_at DESC LIMIT -1 OFFSET ?"
            )
            for (number,) in db.execute(query, (kind, layer, keep)).fetchall():
                db.execute("DELETE FROM version WHERE document = ?", (number,))
                db.execute("DELETE FROM document WHERE id = ?", (number,))

        await self._database.write(change)


def _put(
    db: Connection,
    place: Place,
    text: str,
    author: str,
    expected: int,
    now: datetime,
    volumes: Sequence[str],
    *,
    keep: bool,
) -> Saved:
    row = db.execute(
        f"SELECT document.id, document.revision, {_VERSION} FROM {_JOINED}"  # noqa: S608 - our texts
        f" WHERE {_FOUND} AND number = document.version",
        _values(place),
    ).fetchone()
    at = now.isoformat(timespec="milliseconds")
    if row is None:
        if expected:
            raise RevisionConflict({}, 0)
        _require_room(db, place)
        db.execute(
            "INSERT INTO document (scope, subject, kind, layer, owner, revision, version)"
            " VALUES (?, ?, ?, ?, ?, 1, 1)",
            (*_values(place), place.owner),
        )
        found = db.execute(f"SELECT id FROM document WHERE {_FOUND}", _values(place)).fetchone()  # noqa: S608 - our texts
        assert found is not None  # noqa: S101 - it was just made
        document = int(found[0])
        first = (1, 1, author, at, at, text)
        db.execute("INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?)", (document, *first))
        _owe(db, place, document, 1, volumes)
        return Saved(version=_of(place, first), document=document, changed=True)
    document, revision = int(row[0]), int(row[1])
    number, _, last_author, began_at, saved_at, before = row[2:]
    if expected != revision:
        raise RevisionConflict(
            json.loads(before) | {"author": last_author, "saved_at": saved_at}, revision
        )
    if before == text:
        return Saved(version=_of(place, row[2:]), document=document, changed=False)
    together = (
        last_author == author
        and not keep
        and now - datetime.fromisoformat(began_at) < TOGETHER
        and len(text) >= len(before)
    )
    if together or place.kind not in WITH_HISTORY:
        db.execute(
            "UPDATE version SET revision = ?, author = ?, saved_at = ?, content = ?"
            " WHERE document = ? AND number = ?",
            (revision + 1, author, at, text, document, number),
        )
    else:
        number, began_at = number + 1, at
        db.execute(
            "INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?)",
            (document, number, revision + 1, author, at, at, text),
        )
        _drop_oldest(db, place, document, number - MOST_VERSIONS, volumes)
    db.execute(
        "UPDATE document SET revision = ?, version = ? WHERE id = ?",
        (revision + 1, number, document),
    )
    _owe(db, place, document, number, volumes)
    values = (number, revision + 1, author, began_at, at, text)
    return Saved(version=_of(place, values), document=document, changed=True)


def _require_room(db: Connection, place: Place) -> None:
    """Raise TooMany when a study or an account has as many as it may."""
    row = db.execute(
        "SELECT count(*) FROM document WHERE scope = ? AND subject = ? AND kind = ?",
        (place.scope, place.subject, place.kind),
    ).fetchone()
    most = MOST_LAYERS if place.scope is Scope.STUDY else MOST_OF_ACCOUNT
    if row is not None and row[0] >= most:
        raise TooMany(f"There are {most} of these already.", next_step="Remove one first.")


def _owe(db: Connection, place: Place, document: int, number: int, volumes: Iterable[str]) -> None:
    key = place.key(number)
    rows = [(volume, document, number, key) for volume in volumes]
    db.executemany("INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?)", rows)
    db.execute("DELETE FROM removal WHERE key = ?", (key,))


def _drop_oldest(
    db: Connection, place: Place, document: int, upto: int, volumes: Sequence[str]
) -> None:
    found = db.execute(
        "SELECT number FROM version WHERE document = ? AND number <= ?", (document, upto)
    ).fetchall()
    for (number,) in found:
        db.execute("DELETE FROM version WHERE document = ? AND number = ?", (document, number))
        db.execute("DELETE FROM owed WHERE document = ? AND number = ?", (document, number))
        _owe_removal(db, place.key(number), volumes)


def _owe_removal(db: Connection, key: str, volumes: Iterable[str]) -> None:
    rows = [(volume, key) for volume in volumes]
    db.executemany("INSERT OR REPLACE INTO removal VALUES (?, ?)", rows)


def _remove(db: Connection, document: int, place: Place, volumes: Sequence[str]) -> None:
    numbers = db.execute("SELECT number FROM version WHERE document = ?", (document,)).fetchall()
    for (number,) in numbers:
        _owe_removal(db, place.key(number), volumes)
    db.execute("DELETE FROM owed WHERE document = ?", (document,))
    db.execute("DELETE FROM version WHERE document = ?", (document,))
    db.execute("DELETE FROM document WHERE id = ?", (document,))


def _values(place: Place) -> tuple[str, str, str, str]:
    return place.scope, place.subject, place.kind, place.layer


def _place(row: Sequence[Any]) -> Place:
    scope, subject, kind, layer, owner = row
    return Place(scope=Scope(scope), subject=subject, kind=Kind(kind), layer=layer, owner=owner)


def _version(row: Row) -> Version:
    return _of(_place(row[:5]), row[5:])


def _of(place: Place, row: Sequence[Any]) -> Version:
    number, revision, author, began_at, saved_at, content = row
    return Version(
        place=place,
        number=int(number),
        revision=int(revision),
        author=author,
        began_at=datetime.fromisoformat(began_at),
        saved_at=datetime.fromisoformat(saved_at),
        content=json.loads(content),
    )
