# SPDX-License-Identifier: Apache-2.0
"""The audit trail: who did what and when, and whether a line of it was changed or taken out."""

import asyncio
import csv
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from aiohttp import web

from scrigno.access.audit import Action
from scrigno.access.audit_messages import message
from scrigno.access.audit_search import Recorded, Wanted
from scrigno.access.permissions import Permission

from .answers import at
from .errors import AuditUnreadable, RequestRefused
from .rooms import Rooms, author_of
from .routes import Route
from .shapes import Answer, Count, Line, Moment, Query, limit_of, query_of

_READERS: Final = Permission.AUDIT
MOST: Final = 1000
EXPORT_PAGE: Final = 2000
MOST_EXPORTED: Final = 5_000_000
LAST_LINE: Final = 2**53
# A spreadsheet takes what begins so for a formula (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
COLUMNS: Final = ("number", "at", "who", "action", "subject", "outcome", "details")


class AuditLineAnswer(Answer):
    """One line of the trail."""

    number: Count
    at: Moment
    who: str
    action: str
    subject: str
    outcome: str
    details: dict[str, str]


class AuditAnswer(Answer):
    """A page of the trail, the newest first; `failure` says why it cannot be written now."""

    failure: str
    dropped: Count
    entries: list[AuditLineAnswer]


class AuditCheckAnswer(Answer):
    """Whether every line carries on from the one before."""

    whole: bool
    problems: list[str]


class SyslogAnswer(Answer):
    """How passing the trail on does; `sent` is the number of the last line that went out."""

    enabled: bool
    sent: Count
    waiting: Count
    failures: Count
    reason: str


class AuditStateAnswer(Answer):
    """How long the trail is and what it takes."""

    first: Count
    last: Count
    size_bytes: Count
    quota_bytes: Count
    failure: str
    dropped: Count
    syslog: SyslogAnswer


class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSONL = "jsonl"
    DICOM = "dicom"


def recorded_json(line: Recorded) -> AuditLineAnswer:
    """Return one line of the trail as it is answered."""
    return AuditLineAnswer(
        number=line.number,
        at=line.at.isoformat(timespec="milliseconds"),
        who=line.who,
        action=line.action,
        subject=line.subject,
        outcome=line.outcome,
        details=line.details,
    )


def _time(text: str, name: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a plus not quoted
    except ValueError as error:
        raise RequestRefused(f"{name} must be a time as 2026-01-31T12:00:00Z.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _wanted(request: web.Request) -> Wanted:
    query = query_of(request)
    return Wanted(
        who=query["who"],
        action=query["action"],
        outcome=query["outcome"],
        study=query["study"],
        text=query["text"],
        since=_time(query["since"], "since"),
        until=_time(query["until"], "until"),
    )


async def list_audit(request: web.Request, rooms: Rooms) -> Any:
    """List lines, the newest first; `after` is the number of the last one of the page before."""
    query, wanted = query_of(request), _wanted(request)
    if not query["after"]:  # one look is one line, however many pages are turned
        rooms.audit.record(author_of(request), Action.AUDIT_LOG_USED, "audit")
    lines = await _lines(rooms, query["after"], query["limit"], wanted)
    return AuditAnswer(
        failure=rooms.audit.failure,
        dropped=rooms.audit.dropped,
        entries=[recorded_json(each) for each in lines],
    )


async def _lines(rooms: Rooms, after: int, limit: int, wanted: Wanted) -> list[Recorded]:
    try:
        return await rooms.audit.search(after, limit, wanted)
    except OSError as error:
        raise _unreadable(error) from error


async def verify_audit(request: web.Request, rooms: Rooms) -> Any:
    """Read the whole trail; every line must carry on from the one before."""
    rooms.audit.record(author_of(request), Action.AUDIT_LOG_USED, "audit")
    try:
        problems = await rooms.audit.verify_chain()
    except OSError as error:
        raise _unreadable(error) from error
    return AuditCheckAnswer(whole=not problems, problems=problems)


async def get_state(request: web.Request, rooms: Rooms) -> Any:
    """Say how long the trail is, what it takes, and how passing it on does."""
    try:
        first, last, size = await rooms.audit.extent()
    except OSError as error:
        raise _unreadable(error) from error
    syslog = rooms.syslog.status()
    return AuditStateAnswer(
        first=first,
        last=last,
        size_bytes=size,
        quota_bytes=rooms.settings.current.audit.quota_mib << 20,
        failure=rooms.audit.failure,
        dropped=rooms.audit.dropped,
        syslog=SyslogAnswer(
            enabled=syslog.enabled,
            sent=syslog.sent,
            waiting=syslog.waiting,
            failures=syslog.failures,
            reason=syslog.reason,
        ),
    )


async def export_audit(request: web.Request, rooms: Rooms) -> Any:
    """Return every line that fits as a file, the newest first."""
    wanted, kind = _wanted(request), query_of(request)["format"]
    details = {"format": str(kind)}
    rooms.audit.record(author_of(request), Action.AUDIT_LOG_USED, "audit", details=details)
    lines = await _lines(rooms, 0, EXPORT_PAGE, wanted)  # what is wrong is told before the head
    types = {Format.CSV: "text/csv", Format.JSONL: "application/x-ndjson"}
    name = f"scrigno-audit-{rooms.clock.now():%Y%m%d-%H%M%S}.{_SUFFIX[kind]}"
    response = web.StreamResponse(
        headers={
            "Content-Type": f"{types.get(kind, 'application/xml')}; charset=utf-8",
            "Content-Disposition": f'attachment; filename="{name}"',
        }
    )
    await response.prepare(request)
    await response.write(_HEAD[kind])
    written = 0
    while lines and written < MOST_EXPORTED:
        await response.write(await asyncio.to_thread(_WRITERS[kind], lines))
        written += len(lines)
        lines = await _lines(rooms, lines[-1].number, EXPORT_PAGE, wanted)
    await response.write(_TAIL[kind])
    await response.write_eof()
    return response


def as_csv(lines: Iterable[Recorded]) -> bytes:
    """Return lines as CSV (RFC 4180); no cell is a formula to a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    for line in lines:
        details = "; ".join(f"{name}={value}" for name, value in line.details.items())
        row = (str(line.number), at(line.at), line.who, line.action, line.subject, line.outcome)
        writer.writerow([harmless(each) for each in (*row, details)])
    return text.getvalue().encode("utf-8", "replace")


def harmless(cell: str) -> str:
    """Return a cell that no spreadsheet calculates."""
    clean = "".join(each if each.isprintable() else " " for each in cell)
    return (
        f"'{clean}" if cell.startswith(_FORMULA) or clean.lstrip().startswith(_FORMULA) else clean
    )


def as_jsonl(lines: Iterable[Recorded]) -> bytes:
    """Return lines as JSON, one a line."""
    rows = (
        {
            "number": line.number,
            "at": line.at.isoformat(timespec="milliseconds"),
            "who": line.who,
            "action": line.action,
            "subject": line.subject,
            "outcome": line.outcome,
            "details": line.details,
        }
        for line in lines
    )
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode(
        "utf-8", "replace"
    )


def as_dicom(lines: Iterable[Recorded]) -> bytes:
    """Return lines as audit messages of PS3.15 A.5."""
    parts = (message(line, source="scrigno").partition(b"?>")[2].strip() for line in lines)
    return b"".join(part + b"\n" for part in parts)


_WRITERS: Final = {Format.CSV: as_csv, Format.JSONL: as_jsonl, Format.DICOM: as_dicom}
_SUFFIX: Final = {Format.CSV: "csv", Format.JSONL: "jsonl", Format.DICOM: "xml"}
# the mark lets spreadsheets know that the file is UTF-8
_HEAD: Final = {
    Format.CSV: ("\ufeff" + ",".join(COLUMNS) + "\r\n").encode(),
    Format.JSONL: b"",
    Format.DICOM: b'<?xml version="1.0" encoding="UTF-8"?>\n<AuditMessages>\n',
}
_TAIL: Final = {Format.CSV: b"", Format.JSONL: b"", Format.DICOM: b"</AuditMessages>\n"}


def _unreadable(error: OSError) -> AuditUnreadable:
    return AuditUnreadable(
        f"The audit trail cannot be read: {error.strerror or type(error).__name__}.",
        next_step="Look after the system disk.",
    )


_FILTERS: Final = (
    Query("who", Line, "", "Done by this account, node or part of the box"),
    Query("action", Line, "", "This kind of act"),
    Query("outcome", Line, "", "success or failure"),
    Query("study", str, "", "About this study", max_length=64),
    Query("text", Line, "", "That hold this text anywhere"),
    Query("since", str, "", "Not earlier", max_length=40),
    Query("until", str, "", "Not later", max_length=40),
)

ROUTES: Final = (
    Route(
        method="GET", path="/audit", work=list_audit, allowed=_READERS,
        about="Who did what and when, the newest first",
        query=(
            Query("after", int, 0, "The last number of the page before", ge=0, le=LAST_LINE),
            limit_of(MOST), *_FILTERS,
        ),
        answer=AuditAnswer, errors=("bad-request", "audit-unreadable"),
    ),
    Route(
        method="GET", path="/audit/verify", work=verify_audit, allowed=_READERS,
        about="Whether a line of the trail was changed or taken out", answer=AuditCheckAnswer,
        errors=("audit-unreadable",),
    ),
    Route(
        method="GET", path="/audit/state", work=get_state, allowed=_READERS,
        about="How long the trail is, what it takes, and whether it is passed on",
        answer=AuditStateAnswer, errors=("audit-unreadable",),
    ),
    Route(
        method="GET", path="/audit/export", work=export_audit, allowed=_READERS,
        about="The lines that fit as CSV, JSON lines or DICOM audit messages",
        query=(Query("format", Format, Format.CSV, "How it is written"), *_FILTERS),
        answers=("text/csv", "application/x-ndjson", "application/xml"),
        errors=("bad-request", "audit-unreadable"),
    ),
)  # fmt: skip
