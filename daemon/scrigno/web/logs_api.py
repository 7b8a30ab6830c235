# SPDX-License-Identifier: Apache-2.0
"""The log: its newest lines, filtered, and its files. It holds no patient data by construction."""

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission

from .errors import LogUnreadable
from .log_files import select
from .rooms import Rooms, author_of
from .routes import Route
from .shapes import Answer, Count, Line, Query, path_of, query_of

_READERS: Final = Permission.AUDIT
FILE_NAME: Final = "scrigno.log"
MOST_LINES: Final = 2000


class Level(StrEnum):
    """From which level on."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFileAnswer(Answer):
    """One file of the log."""

    name: str
    size_bytes: Count
    changed_at: str


class LogFilesAnswer(Answer):
    """The files, the newest first, and what is logged now."""

    files: list[LogFileAnswer]
    level: str
    levels: dict[str, str]


class LogLineAnswer(Answer):
    """One line; those of a traceback have no time, level and room of their own."""

    at: str
    level: str
    room: str
    text: str


class LogLinesAnswer(Answer):
    """Lines, the newest first."""

    lines: list[LogLineAnswer]


async def list_logs(request: web.Request, rooms: Rooms) -> Any:
    """List the files of the log."""
    files = await asyncio.to_thread(rooms.logs.files)
    now = rooms.settings.current
    return LogFilesAnswer(
        files=[
            LogFileAnswer(name=each.name, size_bytes=each.size, changed_at=_moment(each.changed))
            for each in files
        ],
        level=str(now.log_level or ""),
        levels={each.part: str(each.level) for each in now.log_levels},
    )


async def read_log(request: web.Request, rooms: Rooms) -> Any:
    """Return the newest lines that fit."""
    query = query_of(request)

    def read() -> LogLinesAnswer:
        found = select(
            rooms.logs.lines(query["file"]),
            level=str(query["level"] or ""),
            room=query["room"],
            text=query["text"],
            limit=query["limit"],
        )
        return LogLinesAnswer(
            lines=[
                LogLineAnswer(at=each.at, level=each.level, room=each.room, text=each.text)
                for each in found
            ]
        )

    try:
        return await asyncio.to_thread(read)
    except OSError as error:
        raise _unreadable(error) from error


async def download_log(request: web.Request, rooms: Rooms) -> Any:
    """Return one file as it is."""
    name = path_of(request)["name"]
    try:
        content = await asyncio.to_thread(rooms.logs.content, name)
    except OSError as error:
        raise _unreadable(error) from error
    rooms.audit.record(author_of(request), "log-downloaded", name)
    return web.Response(
        body=content,
        content_type="text/plain",
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _unreadable(error: OSError) -> LogUnreadable:
    return LogUnreadable(
        f"The log cannot be read: {error.strerror or type(error).__name__}.",
        next_step="Look after the system disk.",
    )


LOG_NAME: Final = Annotated[str, Meta(pattern=r"^scrigno\.log(\.[0-9]{1,3})?$(?!\n)")]

ROUTES: Final = (
    Route(
        method="GET", path="/logs", work=list_logs, allowed=_READERS,
        about="The files of the log, and how much is logged", answer=LogFilesAnswer,
    ),
    Route(
        method="GET", path="/logs/lines", work=read_log, allowed=_READERS,
        about="The newest lines of the log that fit",
        query=(
            Query("file", LOG_NAME, FILE_NAME, "Which file"),
            Query("level", Level, None, "From which level on"),
            Query("room", str, "", "Of this room or module only", max_length=100),
            Query("text", Line, "", "That hold this text"),
            Query("limit", int, 200, ge=1, le=MOST_LINES),
        ),
        answer=LogLinesAnswer, errors=("bad-request", "no-such-log", "log-unreadable"),
    ),
    Route(
        method="GET", path="/logs/{name}", work=download_log, allowed=_READERS,
        params={"name": LOG_NAME}, about="One file of the log", answers="text/plain",
        errors=("no-such-log", "not-found", "log-unreadable"),
    ),
)  # fmt: skip
