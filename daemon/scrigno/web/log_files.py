# SPDX-License-Identifier: Apache-2.0
"""The log as the pages ask for it; the app room has the files."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from scrigno.core.errors import ScrignoError

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LINE: Final = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) ([A-Z]+) +([\w.]+): (.*)", re.DOTALL)


class UnknownLog(ScrignoError):
    """No log file has that name."""

    code = "no-such-log"


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of the log; times are UNIX seconds."""

    name: str
    size: int
    changed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line; lines of a traceback have no time, level and room of their own."""

    at: str
    level: str
    room: str
    text: str


class LogFiles(Protocol):
    """What the daemon has logged. Blocking: call in a thread."""

    def files(self) -> list[LogFile]:
        """Return the files, the newest first; one in memory when none is written."""

    def lines(self, name: str, *, newest_first: bool = True) -> Iterable[str]:
        """Return the lines of a file; raises UnknownLog, OSError."""

    def content(self, name: str) -> bytes:
        """Return a file as it is; raises UnknownLog, OSError."""


def read_line(text: str) -> LogLine:
    """Return a line by its parts."""
    found = _LINE.match(text)
    if found is None:
        return LogLine(at="", level="", room="", text=text)
    return LogLine(at=found[1], level=found[2], room=found[3], text=found[4])


def select(
    lines: Iterable[str], *, level: str = "", room: str = "", text: str = "", limit: int = 200
) -> list[LogLine]:
    """Return the first `limit` lines at or above `level`, of `room`, that hold `text`."""
    wanted = frozenset(LEVELS[LEVELS.index(level) :]) if level else frozenset(LEVELS)
    small = text.lower()
    found: list[LogLine] = []
    for each in lines:
        line = read_line(each)
        if level and line.level not in wanted:
            continue
        if room and not f"{line.room}.".startswith(f"scrigno.{room}."):
            continue
        if small and small not in each.lower():
            continue
        found.append(line)
        if len(found) >= limit:
            break
    return found
