# SPDX-License-Identifier: Apache-2.0
"""Asking other nodes what they have: C-FIND at every level (PS3.4 section C.4.1, SPEC DN-9)."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar, Final

from pydicom.datadict import tag_for_keyword

from scrigno.catalogue.query import Level
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.errors import DicomNetError, NoSuchContext
from scrigno.settings.schema import Peer

from .identifier import (
    QUERY_RETRIEVE_LEVEL,
    SPECIFIC_CHARACTER_SET,
    Identifier,
    Writer,
    dictionary_entry,
    is_binary,
    parse,
)
from .retrieve import CONNECT_TIMEOUT_S, UNCOMPRESSED, leave
from .statuses import Status, comment
from .texts import SET_DEPENDENT_VRS, UTF_8, character_set

PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MOST_ROWS: Final = 1000
LONGEST_VALUE: Final = 1024
PENDING: Final = frozenset({Status.PENDING, Status.PENDING_KEYS_UNSUPPORTED})

_PATIENT: Final = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
# What is asked for at each level; each may also be given a value to match.
KEYS: Final[Mapping[Level, tuple[str, ...]]] = {
    Level.PATIENT: (*_PATIENT, "NumberOfPatientRelatedStudies"),
    Level.STUDY: (
        *_PATIENT, "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
        "StudyDescription", "ModalitiesInStudy", "ReferringPhysicianName",
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
    ),
    Level.SERIES: (
        "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber",
        "SeriesDescription", "SeriesDate", "SeriesTime", "BodyPartExamined",
        "NumberOfSeriesRelatedInstances",
    ),
    Level.IMAGE: (
        "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
        "InstanceNumber", "NumberOfFrames", "Rows", "Columns",
    ),
}  # fmt: skip
ABOVE: Final[Mapping[Level, tuple[str, ...]]] = {
    Level.PATIENT: (),
    Level.STUDY: (),
    Level.SERIES: ("StudyInstanceUID",),
    Level.IMAGE: ("StudyInstanceUID", "SeriesInstanceUID"),
}


class QueryRefused(ScrignoError):
    """The query cannot be asked so."""

    code: ClassVar[str] = "remote-query-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one node answered. `code` is "" when it answered to the end, `rows` what came."""

    rows: tuple[Mapping[str, str], ...] = ()
    complete: bool = False  # False: there is more, or the node failed in between
    code: str = ""
    words: str = ""
    duration_s: float = 0


class RemoteQuery:
    """Asks nodes. Loop thread only."""

    def __init__(
        self,
        *,
        ae_title: Callable[[], str],
        default_character_set: Callable[[], str],
        clock: Clock,
        counters: Counters,
    ) -> None:
        """Call ourselves `ae_title`; texts without a character set are read by the default one."""
        self._ae_title = ae_title
        self._default_character_set = default_character_set
        self._clock = clock
        self._counters = counters

    async def find(
        self, peer: Peer, level: Level, keys: Mapping[str, str], *, limit: int, timeout_s: float
    ) -> Found:
        """Ask one node; never raises for what it does.

        It is told to stop (C-CANCEL) after `limit` rows, after `timeout_s`, and when the caller
        is cancelled. Raises QueryRefused for keys that this level has not.
        """
        require_askable(level, keys)
        started = self._clock.monotonic()
        rows: list[Mapping[str, str]] = []
        code, words, complete = "", "", False
        try:
            async with asyncio.timeout(timeout_s):
                code, words, complete = await self._ask(peer, level, keys, rows, limit)
        except TimeoutError:
            code, words = "timeout", f"The node did not answer to the end within {timeout_s:g} s."
        except ScrignoError as error:
            code, words = error.code, error.sentence()
        self._counters.add("remote_queries", outcome=code or "ok")
        return Found(
            rows=tuple(rows),
            complete=complete,
            code=code,
            words=words,
            duration_s=self._clock.monotonic() - started,
        )

    async def _ask(
        self,
        peer: Peer,
        level: Level,
        keys: Mapping[str, str],
        rows: list[Mapping[str, str]],
        limit: int,
    ) -> tuple[str, str, bool]:
        model = PATIENT_ROOT_FIND if level is Level.PATIENT else STUDY_ROOT_FIND
        association = await connect(
            host=peer.host,
            port=peer.port,
            called_ae=peer.ae_title,
            calling_ae=self._ae_title(),
            contexts=[(model, UNCOMPRESSED)],
            timeout_s=CONNECT_TIMEOUT_S,
            counters=self._counters,
        )
        try:
            return await self._collect(association, model, level, keys, rows, limit)
        finally:
            await leave(association)

    async def _collect(
        self,
        association: Association,
        model: str,
        level: Level,
        keys: Mapping[str, str],
        rows: list[Mapping[str, str]],
        limit: int,
    ) -> tuple[str, str, bool]:
        context_id = association.context_for(model)
        if context_id is None:
            raise NoSuchContext("The node does not answer queries of this kind.")
        syntax = association.contexts[context_id].transfer_syntax
        default = self._default_character_set()
        identifier = encoded(level, keys, syntax, default)
        async with aclosing(association.find(context_id, identifier)) as answers:
            async for response, data in answers:
                if response.status in PENDING:
                    if len(rows) >= limit:
                        return "", "", False
                    rows.append(_row(parse(data or b"", syntax, default), level))
                    continue
                if response.status == Status.SUCCESS:
                    return "", "", True
                words = f"The node answered {response.status:04X} {comment(response.comment)}"
                return f"status-{response.status:04x}", f"{words.strip()}.", False
        raise DicomNetError("The node ended its answer too early.")


def require_askable(level: Level, keys: Mapping[str, str]) -> None:
    """Raise QueryRefused for what cannot be asked at this level."""
    for keyword in keys:
        if keyword not in KEYS[level]:
            raise QueryRefused(
                f"{keyword[:64]} cannot be asked for at the level {level}.",
                next_step=f"Possible are: {', '.join(KEYS[level])}.",
            )
    for keyword in ABOVE[level]:
        if not keys.get(keyword):
            raise QueryRefused(f"A query at the level {level} needs {keyword}.")


def encoded(level: Level, keys: Mapping[str, str], syntax: str, default: str) -> bytes:
    """Return the identifier, in the default character set if that holds its texts, else UTF-8."""
    writer = Writer(syntax)
    for named in (default, UTF_8):
        holder = character_set(named)
        elements = {
            QUERY_RETRIEVE_LEVEL: writer.element(QUERY_RETRIEVE_LEVEL, "CS", level.encode())
        }
        if not all(each.isascii() for each in keys.values()):
            elements[SPECIFIC_CHARACTER_SET] = writer.element(
                SPECIFIC_CHARACTER_SET, "CS", holder.named.encode()
            )
        values = {name: _value(writer, name, keys.get(name, ""), named) for name in KEYS[level]}
        if None in values.values():
            continue
        for name, value in values.items():
            tag = tag_for_keyword(name)
            assert tag is not None  # noqa: S101 - KEYS are keywords of PS3.6
            elements[tag] = writer.element(tag, dictionary_entry(tag)[1], value or b"")
        return writer.data_set(elements)
    raise QueryRefused("The query holds a text that no character set can hold.")


def _value(writer: Writer, keyword: str, text: str, named: str) -> bytes | None:
    tag = tag_for_keyword(keyword)
    vr = dictionary_entry(tag)[1] if tag is not None else "LO"
    if is_binary(vr):
        return writer.number(vr, text)
    if vr in SET_DEPENDENT_VRS:
        return character_set(named).encode(text, vr)
    return text.encode("ascii", "replace")


def _row(identifier: Identifier, level: Level) -> Mapping[str, str]:
    wanted = KEYS[level]
    return {
        each.keyword: each.text[:LONGEST_VALUE]
        for each in identifier.keys
        if each.keyword in wanted and each.vr != "SQ"
    }
