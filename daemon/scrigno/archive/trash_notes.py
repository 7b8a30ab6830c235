# SPDX-License-Identifier: Apache-2.0
"""What volumes know of protection and trash: small files that make a lost index no loss.

`flags/<study>.json` says whether a study is protected. `trash/records/<item>.json` holds a trash
item with all its rows, so that it stays in the trash when the index is made anew, and comes back
as it was. Each has a revision; of several the newest counts. A record holds patient data, as the
images beside it do; it is compressed and stands on volumes only.
"""

import asyncio
import gzip
import io
import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.trash_items import (
    RECORDS_PREFIX,
    TRASH_PREFIX,
    Document,
    Protection,
    TrashState,
    record_key,
)
from scrigno.core.uids import path_part
from scrigno.volumes.states import VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

log = logging.getLogger(__name__)

FLAGS_PREFIX: Final = "flags"
FLAG_BYTES: Final = 16 << 10
RECORD_BYTES: Final = 256 << 20  # of one record, unpacked: some 100,000 objects
_TOKEN: Final = frozenset("0123456789abcdefghijklmnopqrstuvwxyzTZ-")
_ABLE: Final = frozenset({VolumeState.ONLINE, VolumeState.FULL})


def able(volumes: Volumes) -> list[Volume]:
    """Return the volumes on which names can be changed now; a full one is among them."""
    return [
        volume
        for volume in volumes.ordered
        if volume.state in _ABLE
        and volume.link is not None
        and not getattr(volume, "paused", False)
    ]


def flag_key(study_uid: str) -> str:
    """Return where the protection of a study is written on every volume."""
    return f"{FLAGS_PREFIX}/{path_part(study_uid)}.json"


def flag_text(one: Protection) -> bytes:
    """Return the file of a decision about protection."""
    return json.dumps(
        {
            "study": one.study_instance_uid,
            "protected": one.protected,
            "revision": one.revision,
            "changed": one.changed_at.isoformat(),
        },
        sort_keys=True,
    ).encode()


def flag_of(text: bytes) -> Protection | None:
    """Return what such a file says, None when it says nothing that can be used."""
    try:
        fields: Any = json.loads(text)
        changed_at = datetime.fromisoformat(fields["changed"])
        if changed_at.tzinfo is None:
            return None
        return Protection(
            study_instance_uid=str(fields["study"]),
            protected=bool(fields["protected"]),
            revision=int(fields["revision"]),
            changed_at=changed_at,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def packed(document: Document) -> bytes:
    """Return the record of an item. Takes 50 ms for 10,000 objects: not on the loop."""
    return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), 6, mtime=0)


def unpacked(content: bytes) -> Document | None:
    """Return what a record says, None when it is damaged."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            text = file.read(RECORD_BYTES + 1)
        document: Any = json.loads(text) if len(text) <= RECORD_BYTES else None
    except (OSError, EOFError, ValueError, RecursionError):
        return None
    return document if _is_record(document) else None


_FIELDS: Final[Mapping[str, type]] = {
    "token": str,
    "study": str,
    "scope": str,
    "state": int,
    "revision": int,
    "deleted_at": int,
    "keep_days": int,
    "account": str,
    "reason": str,
    "rule": str,
    "entities": dict,
    "objects": list,
}
_ENTITIES: Final = ("patient", "study", "series", "requests", "origins", "columns", "sent")


def _is_record(document: Any) -> bool:
    if not isinstance(document, dict) or document.get("format") != 1:
        return False
    if not all(isinstance(document.get(name), kind) for name, kind in _FIELDS.items()):
        return False
    if not all(name in document["entities"] for name in _ENTITIES):
        return False
    return bool(document["token"]) and set(document["token"]) <= _TOKEN


class TrashNotes:
    """Writes these files and reads them back. Loop thread only."""

    def __init__(self, *, catalogue: Catalogue, volumes: Volumes) -> None:
        """Hold the rooms below."""
        self._book = catalogue.lifecycle
        self._volumes = volumes
        self._uuids: dict[str, str] = {}

    # writing -----------------------------------------------------------------------------------

    async def look_at_disks(self, volumes: list[Volume]) -> None:
        """Owe everything anew to a volume that is another disk now; raises DatabaseError."""
        for volume in volumes:
            uuid = volume.uuid
            if uuid is not None and self._uuids.get(volume.name) != uuid:
                await self._book.volume_is(volume.name, uuid)
                self._uuids[volume.name] = uuid

    async def write_flags(self, volume: Volume) -> None:
        """Write every decision about protection that is owed; raises VolumeError."""
        while owed := await self._book.protections_owed(volume.name):
            for one in owed:
                key = flag_key(one.study_instance_uid)
                await volume.put_bytes(key, flag_text(one), from_reserve=True)
                await self._book.protection_written(volume.name, one)

    async def write_record(self, trash_id: int, volumes: list[Volume]) -> list[Volume]:
        """See that these volumes have the newest record of an item; return those that do."""
        behind = await self._book.volumes_behind(trash_id, [each.name for each in volumes])
        if not behind:
            return volumes
        document = await self._book.document(trash_id)
        if document is None:
            return []
        content = await asyncio.to_thread(packed, document)
        ready: list[Volume] = []
        for volume in volumes:
            if volume.name in behind:
                try:
                    key = record_key(document["token"])
                    await volume.put_bytes(key, content, from_reserve=True)
                except VolumeError as error:
                    log.warning("volume %s: no record of the trash: %s", volume.name, error.reason)
                    continue
                await self._book.recorded(trash_id, volume.name, document["revision"])
            ready.append(volume)
        return ready

    # reading back ------------------------------------------------------------------------------

    async def learn(self) -> int:
        """Take over what the volumes know and the index does not; return how many items.

        To be called before an index is filled from volumes: what stands in the trash must be
        known by then. Raises DatabaseError; a volume that fails is passed over.
        """
        flags: dict[str, Protection] = {}
        records: dict[str, Document] = {}
        readable = [volume for volume in self._volumes.ordered if volume.readable]
        for volume in readable:
            try:
                await self._read_flags(volume, flags)
                await self._read_records(volume, records)
            except VolumeError as error:
                log.warning("volume %s: its trash is not known: %s", volume.name, error.reason)
        await self._book.learn_protections(list(flags.values()))
        known = await self._book.known_tokens()
        unknown = {
            token: document
            for token, document in records.items()
            # What was brought back is among the studies: what is left of it in the trash of a
            # volume that was away then is nobody's and harms nobody.
            if token not in known and document["state"] != TrashState.RESTORED
        }
        if not unknown:
            return 0
        places: dict[str, dict[str, set[str]]] = defaultdict(dict)  # token, volume: keys
        for volume in readable:
            try:
                await self._read_places(volume, unknown, places)
            except VolumeError as error:
                log.warning("volume %s: its trash is not known: %s", volume.name, error.reason)
        names = [volume.name for volume in self._volumes.ordered]
        learnt = 0
        for token, document in sorted(unknown.items()):
            learnt += await self._book.learn(document, places[token], names)
        log.info("trash: %d items were read back from the volumes", learnt)
        return learnt

    async def _read_flags(self, volume: Volume, found: dict[str, Protection]) -> None:
        async with aclosing(volume.walk(FLAGS_PREFIX)) as walk:
            async for key, _ in walk:
                one = flag_of(await volume.head(key, FLAG_BYTES))
                if one is None:
                    log.warning("volume %s: %s is damaged", volume.name, key)
                    continue
                known = found.get(one.study_instance_uid)
                if known is None or known.revision < one.revision:
                    found[one.study_instance_uid] = one

    async def _read_records(self, volume: Volume, found: dict[str, Document]) -> None:
        async with aclosing(volume.walk(RECORDS_PREFIX)) as walk:
            async for key, _ in walk:
                async with aclosing(volume.read(key)) as chunks:
                    content = b"".join([chunk async for chunk in chunks])
                document = await asyncio.to_thread(unpacked, content)
                if document is None or key != record_key(document["token"]):
                    log.warning("volume %s: %s is damaged", volume.name, key)
                    continue
                known = found.get(document["token"])
                if known is None or known["revision"] < document["revision"]:
                    found[document["token"]] = document

    async def _read_places(
        self,
        volume: Volume,
        unknown: Mapping[str, Document],
        places: Mapping[str, dict[str, set[str]]],
    ) -> None:
        for token in unknown:
            prefix = f"{TRASH_PREFIX}/{token}"
            async with aclosing(volume.walk(prefix)) as walk:
                keys = {key.removeprefix(f"{prefix}/") async for key, _ in walk}
            places[token][volume.name] = keys
