# SPDX-License-Identifier: Apache-2.0
"""Documents as small files on every volume, so that they outlive the system disk.

`reading/<scope>/<subject>/<kind>-<layer>/<version>.json`: text and digest, one file a version. A
volume that was away is given what it missed when it returns. A disk that was never met is read
first: that is how everything comes back when the system disk died. They hold what people wrote
about patients, as the images beside them do.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, SettingsChanged, VolumeChanged
from scrigno.db.engine import Database
from scrigno.db.errors import DatabaseError
from scrigno.db.sqlite import Connection
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .documents import PREFIX, Kind, Place, Saved, Scope

log = logging.getLogger(__name__)

FORMAT: Final = 1
MOST_FILE: Final = 1 << 20
BATCH: Final = 100
POLL_S: Final = 30.0
ACK_WAIT_S: Final = 5.0  # a page shows "saving…" meanwhile
ABLE: Final = frozenset({VolumeState.ONLINE, VolumeState.SUSPECT, VolumeState.FULL})


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiter:
    document: int
    number: int
    revision: int
    done: asyncio.Future[None]
    held_by: list[str] = field(default_factory=list)


class DocumentFiles:
    """Gives each volume what it is owed, one task for each. Loop thread only."""

    def __init__(
        self, database: Database, *, volumes: Volumes, bus: EventBus, counters: Counters
    ) -> None:
        """Start nothing yet."""
        self._database = database
        self._volumes = volumes
        self._bus = bus
        self._counters = counters
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._waiters: set[_Waiter] = set()
        self._met: dict[str, str] = {}
        self._unsubscribe: list[Callable[[], None]] = []
        self._told: dict[str, str] = {}

    # life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve the volumes; returns at once."""
        self._unsubscribe = [
            self._bus.subscribe(VolumeChanged, lambda _: self.nudge()),
            self._bus.subscribe(SettingsChanged, lambda _: self.nudge()),
        ]
        self.nudge()

    async def close(self) -> None:
        """Stop; what is owed is given after the next start. Idempotent."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = []
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    def names(self) -> tuple[str, ...]:
        """Return the volumes that are to hold every document."""
        return tuple(volume.name for volume in self._volumes.ordered)

    def nudge(self) -> None:
        """Look at once what volumes are owed."""
        names = set(self.names())
        for gone in set(self._tasks) - names:
            self._tasks.pop(gone).cancel()
        for name in names:
            if name not in self._tasks:
                self._wake[name] = asyncio.Event()
                self._tasks[name] = asyncio.create_task(
                    self._serve(name), name=f"documents of {name}"
                )
            self._wake[name].set()

    async def settled(self, saved: Saved) -> tuple[str, ...]:
        """Wait until a volume holds a save, at most ACK_WAIT_S; return which do by then."""
        place = saved.version.place
        waiter = _Waiter(
            document=saved.document,
            number=saved.version.number,
            revision=saved.version.revision,
            done=asyncio.get_running_loop().create_future(),
        )
        if saved.changed and not any(_is_able(volume) for volume in self._volumes.ordered):
            self._counters.add("reading_saves_owed", kind=place.kind)
            return ()
        self._waiters.add(waiter)
        try:
            owing = await self._owing(saved)
            held = tuple(name for name in self.names() if name not in owing)
            if held or not saved.changed:
                return held
            self.nudge()
            async with asyncio.timeout(ACK_WAIT_S):
                await waiter.done
        except TimeoutError:
            self._counters.add("reading_saves_owed", kind=place.kind)
        finally:
            self._waiters.discard(waiter)
        return tuple(waiter.held_by)

    async def _owing(self, saved: Saved) -> set[str]:
        query = "SELECT volume FROM owed WHERE document = ? AND number = ?"
        key = (saved.document, saved.version.number)
        rows = await self._database.read(lambda db: db.execute(query, key).fetchall())
        return {row[0] for row in rows}

    async def owed(self) -> dict[str, int]:
        """Return how many files each volume has still to be given or rid of."""
        query = (
            "SELECT volume, count(*) FROM (SELECT volume FROM owed UNION ALL"
            " SELECT volume FROM removal) GROUP BY volume"
        )
        rows = await self._database.read(lambda db: db.execute(query).fetchall())
        return {row[0]: int(row[1]) for row in rows}

    # one volume ------------------------------------------------------------------------------

    async def _serve(self, name: str) -> None:
        while True:
            self._wake[name].clear()
            try:
                await self._pay(name)
                self._told.pop(name, None)
            except (VolumeError, DatabaseError) as error:
                if self._told.get(name) != error.reason:
                    self._told[name] = error.reason
                    log.warning("volume %s: documents wait: %s", name, error.reason)
            except Exception:  # a fault of ours must not stop it for ever
                log.exception("volume %s: its documents are tried again", name)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake[name].wait()
            except TimeoutError:
                continue

    async def _pay(self, name: str) -> None:
        volume = next((each for each in self._volumes.ordered if each.name == name), None)
        if volume is None or volume.uuid is None:
            return
        if volume.readable and self._met.get(name) != volume.uuid:
            await self._meet(volume, volume.uuid)
        if not _is_able(volume):
            return
        while rows := await self._rows("SELECT key FROM removal WHERE volume = ? LIMIT ?", name):
            for (key,) in rows:
                await volume.remove(key)
            done = "DELETE FROM removal WHERE volume = ? AND key = ?"
            await self._write(done, [(name, key) for (key,) in rows])
        while rows := await self._rows(_OWED, name):
            for row in rows:
                await self._give(volume, row)

    async def _give(self, volume: Volume, row: Sequence[Any]) -> None:
        document, number, key, revision, *fields = row
        await volume.put_bytes(key, as_file(number, revision, *fields), from_reserve=True)
        # only if nobody has saved into this version meanwhile
        statement = (
            "DELETE FROM owed WHERE volume = ? AND document = ? AND number = ? AND EXISTS (SELECT 1"
            " FROM version WHERE document = owed.document AND number = owed.number"
            " AND revision = ?)"
        )
        await self._write(statement, [(volume.name, document, number, revision)])
        self._counters.add("reading_files_written", volume=volume.name)
        for waiter in tuple(self._waiters):
            same = waiter.document == document and waiter.number == number
            if same and revision >= waiter.revision:
                waiter.held_by.append(volume.name)
                if not waiter.done.done():
                    waiter.done.set_result(None)

    async def _rows(self, query: str, name: str) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda db: db.execute(query, (name, BATCH)).fetchall())

    async def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        await self._database.write(lambda db: db.executemany(statement, rows).rowcount)

    # meeting a disk --------------------------------------------------------------------------

    async def _meet(self, volume: Volume, uuid: str) -> None:
        """Learn what a disk that was never met knows, and owe it everything."""
        query = "SELECT uuid FROM disk WHERE volume = ?"
        known = await self._database.read(lambda db: db.execute(query, (volume.name,)).fetchone())
        if known is None or known[0] != uuid:
            learnt = await self.learn(volume)
            if learnt:
                log.info("volume %s: %d documents were read back", volume.name, learnt)
            await self._database.write(lambda db: _owe_all(db, volume.name, uuid))
        self._met[volume.name] = uuid

    async def learn(self, volume: Volume) -> int:
        """Take over what a volume knows and the system disk does not; return how many versions.

        Raises VolumeError, DatabaseError. A damaged file is told and passed over.
        """
        learnt, batch = 0, list[FiledVersion]()
        async with aclosing(volume.walk(PREFIX)) as walk:
            async for key, size in walk:
                if not key.endswith(".json") or size > MOST_FILE:
                    continue
                found = of_file(key, await _content(volume, key))
                if found is None:
                    log.warning("volume %s: %s is damaged", volume.name, key)
                    self._counters.add("reading_files_damaged", volume=volume.name)
                    continue
                batch.append(found)
                if len(batch) >= BATCH:
                    learnt += await self._learn(batch)
                    batch = []
        return learnt + (await self._learn(batch) if batch else 0)

    async def _learn(self, batch: Sequence["FiledVersion"]) -> int:
        names = self.names()
        taken = tuple(batch)
        return await self._database.write(lambda db: _learn(db, taken, names))

    async def forget_disks(self) -> None:
        """Read every volume anew, after the system disk was replaced or restored."""
        self._met.clear()
        await self._database.write(lambda db: db.execute("DELETE FROM disk").rowcount)
        self.nudge()


_OWED: Final = (
    "SELECT owed.document, owed.number, owed.key, version.revision, scope, subject, kind, layer,"
    " owner, author, began_at, saved_at, content FROM owed JOIN version ON version.document ="
    " owed.document AND version.number = owed.number JOIN document ON document.id = owed.document"
    " WHERE volume = ? ORDER BY owed.document, owed.number LIMIT ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledVersion:
    """One version as it was read back."""

    place: Place
    number: int
    revision: int
    author: str
    began_at: str
    saved_at: str
    content: str


def _is_able(volume: Volume) -> bool:
    return volume.state in ABLE and volume.link is not None and not volume.paused


async def _content(volume: Volume, key: str) -> bytes:
    try:
        return await volume.head(key, MOST_FILE)
    except VolumeError as error:
        if error.kind is ErrorKind.MISSING or (error.kind is ErrorKind.IO and volume.readable):
            return b""
        raise


_FIELDS: Final = (
    "scope", "subject", "kind", "layer", "owner", "author", "began_at", "saved_at", "content",
)  # fmt: skip


def as_file(number: int, revision: int, *fields: str) -> bytes:
    """Return a version as it stands on the volumes."""
    document: dict[str, Any] = {"format": FORMAT, "number": number, "revision": revision}
    document |= dict(zip(_FIELDS, fields, strict=True))
    document["content"] = json.loads(fields[-1])
    signed = {"document": document, "digest": _digest(document)}
    return json.dumps(signed, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")


def of_file(key: str, content: bytes) -> FiledVersion | None:
    """Return what a file says; None when it is damaged or stands under a name of another."""
    try:
        signed = json.loads(content.decode("utf-8", "surrogatepass"))
        document: dict[str, Any] = signed["document"]
        if signed["digest"] != _digest(document) or document["format"] != FORMAT:
            return None
        place = Place(
            scope=Scope(document["scope"]),
            subject=str(document["subject"]),
            kind=Kind(document["kind"]),
            layer=str(document["layer"]),
            owner=str(document["owner"]),
        )
        found = FiledVersion(
            place=place,
            number=int(document["number"]),
            revision=int(document["revision"]),
            author=str(document["author"]),
            began_at=str(document["began_at"]),
            saved_at=str(document["saved_at"]),
            content=_text(document["content"]),
        )
        for each in (found.began_at, found.saved_at):
            if datetime.fromisoformat(each).tzinfo is None:
                return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found if place.key(found.number) == key else None


def _text(content: Any) -> str:
    if not isinstance(content, dict):
        raise TypeError("a document is an object")
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _digest(document: Any) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _learn(db: Connection, batch: Iterable[FiledVersion], volumes: Sequence[str]) -> int:
    learnt = 0
    for one in batch:
        place = one.place
        where = (place.scope, place.subject, place.kind, place.layer)
        found = "scope = ? AND subject = ? AND kind = ? AND layer = ?"
        row = db.execute(f"SELECT id, revision, version FROM document WHERE {found}", where)  # noqa: S608 - our texts
        known = row.fetchone()
        if known is None:
            db.execute(
                "INSERT INTO document (scope, subject, kind, layer, owner, revision, version)"
                " VALUES (?, ?, ?, ?, ?, 0, 0)",
                (*where, place.owner),
            )
            known = db.execute(
                f"SELECT id, revision, version FROM document WHERE {found}",  # noqa: S608 - our texts
                where,
            ).fetchone()
        assert known is not None  # noqa: S101 - it was just made
        document, revision, version = known
        same = db.execute(
            "SELECT revision FROM version WHERE document = ? AND number = ?",
            (document, one.number),
        ).fetchone()
        if same is not None and same[0] >= one.revision:
            continue
        db.execute(
            "INSERT OR REPLACE INTO version VALUES (?, ?, ?, ?, ?, ?, ?)",
            (document, one.number, one.revision, one.author, one.began_at, one.saved_at,
             one.content),
        )  # fmt: skip
        db.execute(
            "UPDATE document SET revision = ?, version = ? WHERE id = ?",
            (max(revision, one.revision), max(version, one.number), document),
        )
        rows = [(volume, document, one.number, place.key(one.number)) for volume in volumes]
        db.executemany("INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?)", rows)
        learnt += 1
    return learnt


def _owe_all(db: Connection, volume: str, uuid: str) -> None:
    """Owe a disk every version: what it has already is written once more."""
    rows = db.execute(
        "SELECT document, number, scope, subject, kind, layer FROM version JOIN document"
        " ON document.id = version.document WHERE kind <> ?",
        (Kind.VIEWER_STATE,),
    ).fetchall()
    owed = []
    for document, number, scope, subject, kind, layer in rows:
        place = Place(scope=Scope(scope), subject=subject, kind=Kind(kind), layer=layer)
        owed.append((volume, document, number, place.key(number)))
    db.executemany("INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?)", owed)
    db.execute("INSERT OR REPLACE INTO disk VALUES (?, ?)", (volume, uuid))
