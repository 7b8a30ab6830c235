# SPDX-License-Identifier: Apache-2.0
"""The audit trail: who did what and when, and whether a line of it was changed or taken out."""

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from scrigno.access.audit import Action, Recorded

from .bodies import number
from .errors import AuditUnreadable, RequestRefused
from .rooms import Rooms, author_of
from .routes import For, Route

_ADMIN: Final = For.ADMINISTRATORS
LAST_LINE: Final = 2**53


def recorded_json(line: Recorded) -> dict[str, Any]:
    """Return one line of the trail as JSON values."""
    return {
        "number": line.number,
        "at": line.at.isoformat(timespec="milliseconds"),
        "who": line.who,
        "action": line.action,
        "subject": line.subject,
        "outcome": line.outcome,
        "details": line.details,
    }


def _time(request: web.Request, name: str) -> datetime | None:
    given = request.query.get(name)
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given.replace(" ", "+"))  # a plus not quoted
    except ValueError as error:
        raise RequestRefused(f"{name} must be a time as 2026-01-31T12:00:00Z.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def list_audit(request: web.Request, rooms: Rooms) -> Any:
    """List lines, the newest first; `after` is the number of the last one of the page before."""
    after = number(request.query, "after", lowest=0, highest=LAST_LINE, default=0)
    if not after:  # one look is one line, however many pages are turned
        rooms.audit.record(author_of(request), Action.AUDIT_LOG_USED, "audit")
    try:
        lines = await rooms.audit.entries(
            after,
            number(request.query, "limit", lowest=1, highest=1000, default=100),
            who=request.query.get("who", ""),
            action=request.query.get("action", ""),
            since=_time(request, "since"),
            until=_time(request, "until"),
        )
    except OSError as error:
        raise _unreadable(error) from error
    return {
        "failure": rooms.audit.failure,
        "dropped": rooms.audit.dropped,
        "entries": [recorded_json(each) for each in lines],
    }


async def verify_audit(request: web.Request, rooms: Rooms) -> Any:
    """Read the whole trail; every line must carry on from the one before."""
    rooms.audit.record(author_of(request), Action.AUDIT_LOG_USED, "audit")
    try:
        problems = await rooms.audit.verify_chain()
    except OSError as error:
        raise _unreadable(error) from error
    return {"whole": not problems, "problems": problems}


def _unreadable(error: OSError) -> AuditUnreadable:
    return AuditUnreadable(
        f"The audit trail cannot be read: {error.strerror or type(error).__name__}.",
        next_step="Look after the system disk.",
    )


ROUTES: Final = (
    Route(
        method="GET", path="/audit", work=list_audit, allowed=_ADMIN,
        about="Who did what and when, the newest first",
        query=("after", "limit", "who", "action", "since", "until"),
        errors=("bad-request", "audit-unreadable"),
    ),
    Route(
        method="GET", path="/audit/verify", work=verify_audit, allowed=_ADMIN,
        about="Whether a line of the trail was changed or taken out", errors=("audit-unreadable",),
    ),
)  # fmt: skip
