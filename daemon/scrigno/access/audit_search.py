# SPDX-License-Identifier: Apache-2.0
"""Finding lines of the audit trail without an index: whole segments are searched as bytes.

A million lines are some 250 MB in 60 segments. Only lines that hold every wanted text are parsed,
and segments that end before `since` or begin after `until` are not read at all once their times
are known. So nothing but the segments themselves must be kept whole.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_AT: Final = re.compile(rb'"at":"([0-9T:.+Z-]{19,35})"')
MOST_KNOWN: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One line of the trail."""

    number: int
    at: datetime
    who: str
    action: str
    subject: str
    outcome: str
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines; an empty text or None is any.

    `who`, `action` and `outcome` are equal, `study` is the subject or a value of the details,
    `text` stands anywhere in the line, small and capital letters alike. Times are inclusive.
    """

    who: str = ""
    action: str = ""
    outcome: str = ""
    study: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, line: Recorded) -> bool:
        """Tell whether a line is wanted."""
        return (
            self.who in ("", line.who)
            and self.action in ("", line.action)
            and self.outcome in ("", line.outcome)
            and (not self.study or self.study in (line.subject, *_uids(line.details)))
            and (not self.text or self.text.lower() in _all_text(line))
            and (self.since is None or line.at >= self.since)
            and (self.until is None or line.at <= self.until)
        )

    def needles(self) -> list[bytes]:
        """Return what every wanted line holds, as the file has it, in small letters."""
        quoted = [self.who, self.action, self.outcome]
        found = [json.dumps(text) for text in quoted if text]
        # inside a longer text: without the quotation marks
        found += [json.dumps(text)[1:-1] for text in (self.study, _ascii(self.text)) if text]
        return [each.encode("ascii").lower() for each in found]


def _ascii(text: str) -> str:
    """Return the longest part that is written as it is: other letters have two escapes each."""
    return max(re.split(r"[^ -!#-\[\]-~]", text), key=len) if text else ""


def _uids(details: dict[str, str]) -> Iterator[str]:
    for value in details.values():
        yield from value.replace(",", " ").split()


def _all_text(line: Recorded) -> str:
    parts = (line.who, line.action, line.subject, line.outcome, *line.details, *_uids(line.details))
    return "\n".join((*parts, *line.details.values())).lower()


@dataclass(slots=True)
class _Times:
    """First and last moment of a finished segment, by its path and size."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    known: dict[tuple[str, int], tuple[datetime, datetime]] = field(default_factory=dict)


class Search:
    """Looks through segments, the newest first. Blocking; any thread."""

    def __init__(self) -> None:
        """Know nothing of any segment yet."""
        self._times = _Times()

    def entries(
        self,
        segments: list[Path],
        read: Callable[[Path], bytes],
        *,
        before: int,
        limit: int,
        wanted: Wanted,
    ) -> list[Recorded]:
        """Return up to `limit` lines with numbers below `before`, newest first."""
        found: list[Recorded] = []
        needles = wanted.needles()
        seen = before
        for path in reversed(segments):
            if first_number(path) >= seen or self._beside(path, wanted):
                continue
            content = read(path)
            self._learn(path, content)
            if self._beside(path, wanted):
                continue
            for raw in _holding(content, needles):
                line = recorded(raw)
                if line is None or line.number >= seen:
                    continue
                seen = line.number
                if wanted.fits(line):
                    found.append(line)
                    if len(found) >= limit:
                        return found
        return found

    def _beside(self, path: Path, wanted: Wanted) -> bool:
        """Tell whether all lines of a segment are known to lie outside the wanted times."""
        if wanted.since is None and wanted.until is None:
            return False
        try:
            key = (path.name, path.stat().st_size)
        except OSError:
            return True
        with self._times.lock:
            span = self._times.known.get(key)
        if span is None:
            return False
        first, last = span
        too_early = wanted.since is not None and last < wanted.since
        return too_early or (wanted.until is not None and first > wanted.until)

    def _learn(self, path: Path, content: bytes) -> None:
        key = (path.name, len(content))
        with self._times.lock:
            if key in self._times.known or len(self._times.known) > MOST_KNOWN:
                return
        # all of one form, so the smallest text is the earliest moment
        times = _AT.findall(content)
        span = [_moment(each) for each in (min(times), max(times))] if times else []
        if len(span) == 2 and span[0] is not None and span[1] is not None:
            with self._times.lock:
                self._times.known[key] = (span[0], span[1])


def _moment(text: bytes) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _holding(content: bytes, needles: list[bytes]) -> Iterator[bytes]:
    """Yield the whole lines that hold every needle, the last line first."""
    end = content.rfind(b"\n")
    if end < 0:
        return
    if not needles:
        yield from reversed(content[: end + 1].splitlines())
        return
    small = content.lower()
    counts = [small.count(needle) for needle in needles]
    if not all(counts):
        return
    rarest = needles[counts.index(min(counts))]
    others = [each for each in needles if each is not rarest]
    place = small.rfind(rarest, 0, end)
    while place >= 0:
        begin = small.rfind(b"\n", 0, place) + 1
        stop = small.find(b"\n", place)
        line = small[begin:stop]
        if all(other in line for other in others):
            yield content[begin:stop]
        place = small.rfind(rarest, 0, begin)


def first_number(path: Path) -> int:
    """Return the number of the first line of a segment, which is its name."""
    return int(path.stem.removeprefix("audit-"))


def parsed(raw: bytes) -> dict[str, Any]:
    """Return the fields of a line, none when it is no line of ours."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def recorded(raw: bytes) -> Recorded | None:
    """Return a line as it was recorded; None when it is none of ours any more."""
    fields = parsed(raw)
    try:
        return Recorded(
            number=int(fields["n"]),
            at=datetime.fromisoformat(fields["at"]),
            who=str(fields["who"]),
            action=str(fields["action"]),
            subject=str(fields["subject"]),
            outcome=str(fields["outcome"]),
            details={str(k): str(v) for k, v in (fields.get("details") or {}).items()},
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
