# SPDX-License-Identifier: Apache-2.0
"""Decisions as small files on every volume, so that a lost index does not lose them.

`decisions/<name>.json` is written once; taking it back writes `decisions/<name>-undone.json`
beside it. So what a volume lacks is told by the names alone, and a volume that was away for a year
is brought up to date in both directions. They hold patient data, as the images do, and no log does.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.decisions import Decision, Kind, Phase
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .failpoints import hit

log = logging.getLogger(__name__)

PREFIX: Final = "decisions"
UNDONE: Final = "-undone"
MOST_BYTES: Final = 1 << 20
FORMAT: Final = 1
WRITABLE: Final = (VolumeState.ONLINE, VolumeState.SUSPECT)


def decision_key(token: str, *, undone: bool = False) -> str:
    """Return where a decision, or that it was taken back, stands on every volume."""
    return f"{PREFIX}/{token}{UNDONE if undone else ''}.json"


class DecisionFiles:
    """Writes and reads them. Loop thread only."""

    def __init__(self, *, catalogue: Catalogue, volumes: Volumes) -> None:
        """Keep the volumes and the index the same in what was decided."""
        self._catalogue = catalogue
        self._volumes = volumes
        self.behind = {volume.name for volume in volumes.ordered}  # to be synced
        self._told: set[tuple[str, str]] = set()  # files of which the log has said it

    async def write(self, decision: Decision) -> int:
        """Put a decision on every volume that takes it now; return how many did.

        It stands in the index already, so none is no failure: `sync` brings it later.
        """
        if decision.kind is Kind.ACCEPT:
            return 0  # the object stands in the archive, which says it all
        written = 0
        for volume in self._volumes.ordered:
            if volume.state not in WRITABLE:
                self.behind.add(volume.name)
                continue
            try:
                await self._put(volume, decision)
            except VolumeError as error:
                log.warning("volume %s: a decision is not there yet: %s", volume.name, error.what)
                self.behind.add(volume.name)
                continue
            written += 1
            hit("decision-filed")
        return written

    async def sync(self, volume: Volume) -> tuple[int, int]:
        """Learn what the volume knows and tell it what it lacks; returns (learned, written).

        Raises VolumeError, DatabaseError.
        """
        self.behind.discard(volume.name)  # what is decided from here on adds it again
        there: set[str] = set()
        async with aclosing(volume.walk(PREFIX)) as walk:
            async for key, _size in walk:
                if key.endswith(".json"):
                    there.add(key.removeprefix(f"{PREFIX}/").removesuffix(".json"))
        known = await self._catalogue.cases.names()
        learned = 0
        for found in await self._unknown(volume, there, known):
            learned += await self._catalogue.cases.learn(found)
        written = 0
        if volume.state in WRITABLE:
            for token, phase in known.items():
                undone = phase is Phase.UNDONE
                if token in there and (not undone or token + UNDONE in there):
                    continue
                decision = await self._catalogue.cases.by_token(token)
                if decision is not None:
                    await self._put(volume, decision)
                    written += 1
        else:
            self.behind.add(volume.name)  # it has not been told what it lacks
        return learned, written

    async def _put(self, volume: Volume, decision: Decision) -> None:
        await volume.put_bytes(decision_key(decision.token), as_file(decision))
        if decision.phase is Phase.UNDONE:
            key = decision_key(decision.token, undone=True)
            await volume.put_bytes(key, as_undone_file(decision))

    async def _unknown(
        self, volume: Volume, there: set[str], known: Mapping[str, Phase]
    ) -> list[Decision]:
        """Return what is new on a volume, in the order it was decided, without damaged files."""
        found: list[Decision] = []
        for token in sorted({name.removesuffix(UNDONE) for name in there}):
            phase = known.get(token)
            taken_back = token + UNDONE in there and phase not in (Phase.UNDONE, Phase.UNDOING)
            if phase is not None and not taken_back:
                continue
            decision = await self._read(volume, token)
            fields = await self._fields(volume, token + UNDONE) if taken_back else None
            if decision is not None and fields is not None:
                decision = _taken_back(decision, fields)
            if decision is not None:
                found.append(decision)
        return sorted(found, key=lambda each: (each.decided_at, each.sequence))

    async def _read(self, volume: Volume, token: str) -> Decision | None:
        fields = await self._fields(volume, token)
        if fields is None:
            return None
        try:
            return _decision(token, fields)
        except (KeyError, ValueError, TypeError, AttributeError):
            self._tell(volume, token, "is not understood")
            return None

    async def _fields(self, volume: Volume, name: str) -> dict[str, Any] | None:
        """Return the fields of a file whose digest is right, or None."""
        try:
            content = await volume.head(f"{PREFIX}/{name}.json", MOST_BYTES)
            document = json.loads(content)
            fields = document["decision"]
            if document["digest"] == _digest(fields) and isinstance(fields, dict):
                return fields
        except VolumeError as error:
            if error.kind is not ErrorKind.MISSING:
                raise
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        self._tell(volume, name, "is damaged")
        return None

    def _tell(self, volume: Volume, name: str, words: str) -> None:
        """Log once that a file is of no use."""
        if (volume.name, name) not in self._told:
            self._told.add((volume.name, name))
            log.warning("volume %s: decision %s %s", volume.name, name[:64], words)


def as_file(decision: Decision) -> bytes:
    """Return a decision as it stands on the volumes; the same bytes whatever became of it."""
    return _signed(
        {
            "format": FORMAT,
            "kind": decision.kind,
            "subject": decision.subject,
            "sequence": decision.sequence,
            "decided_at": decision.decided_at.isoformat(),
            "account": decision.account,
            "why": decision.why,
            "before": decision.before,
            "after": decision.after,
        }
    )


def as_undone_file(decision: Decision) -> bytes:
    """Return that a decision was taken back."""
    at = decision.undone_at or decision.decided_at
    return _signed(
        {
            "format": FORMAT,
            "undone_at": at.isoformat(),
            "undone_by": decision.undone_by,
            "undone_why": decision.undone_why,
        }
    )


def _decision(token: str, fields: dict[str, Any]) -> Decision:
    before, after = fields["before"], fields["after"]
    if not (isinstance(before, dict) and isinstance(after, dict)):
        raise TypeError("before and after are objects")
    return Decision(
        decision_id=0,
        token=token,
        kind=Kind(fields["kind"]),
        subject=str(fields["subject"]),
        sequence=int(fields["sequence"]),
        phase=Phase.DONE,
        decided_at=_moment(fields["decided_at"]),
        account=str(fields["account"]),
        why=str(fields["why"]),
        before=before,
        after=after,
    )


def _taken_back(decision: Decision, fields: dict[str, Any]) -> Decision:
    try:
        at = _moment(fields["undone_at"])
    except (KeyError, ValueError, TypeError):
        at = decision.decided_at
    return replace(
        decision,
        phase=Phase.UNDONE,
        undone_at=at,
        undone_by=str(fields.get("undone_by", "")),
        undone_why=str(fields.get("undone_why", "")),
    )


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return at


def _signed(fields: dict[str, Any]) -> bytes:
    document = {"decision": fields, "digest": _digest(fields)}
    return json.dumps(document, sort_keys=True, indent=1).encode()


def _digest(fields: Any) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
