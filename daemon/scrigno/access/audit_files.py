# SPDX-License-Identifier: Apache-2.0
"""The segments of the audit trail on the disk: appending, paging, checking the chain. Blocking.

A segment is `audit-<number of its first line>.jsonl`. A line that is not known to be durable is
written again, byte for byte the same, into a new segment: a failed fsync is never repeated, and
the old segment may end torn or overlap with the next. Both are told apart from tampering, because
the next segment goes on from a line inside the old one.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from scrigno.host.files import sync_directory

from .audit_search import Recorded, Search, Wanted, first_number, parsed, recorded

NOTHING_BEFORE: Final = "0" * 64
FILE_MODE: Final = 0o600
MAX_PROBLEMS: Final = 20
REMOVED: Final = "audit-lines-removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """Sizes: a segment of 4 MiB holds about 15,000 lines, the whole about a million."""

    segment_bytes: int = 4 << 20
    quota_bytes: int = 256 << 20
    # Lines that wait in memory while the disk is away: about 10 MB, a busy day of an archive.
    most_waiting: int = 20_000
    group_s: float = 0.5  # lines share one fsync: on the disk within a second of being recorded
    retry_s: float = 2.0


class AuditFiles:
    """Appends from one thread; reads from any."""

    def __init__(self, folder: Path, rules: AuditRules) -> None:
        """Name the folder; nothing is opened."""
        self._folder = folder
        self._rules = rules
        self.quota_bytes = rules.quota_bytes  # may be changed at any time
        self._search = Search()
        self._lock = threading.Lock()  # protects what readers see: which segments there are
        self._fd = -1
        self._size = 0  # of the open segment, durable part
        self._next = 1  # number of the next line
        self._last = NOTHING_BEFORE  # hash of the last durable line
        self._due: dict[str, str] | None = None  # a removal that is still to be told in the trail
        self.opened = False

    # writing -----------------------------------------------------------------------------------

    def open(self) -> str:
        """Find the end of the trail; return in words what was mended there. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = ""
        segments = self._segments()
        while segments:
            path = segments[-1]
            content = path.read_bytes()
            # A power cut may leave zeros where a line was to stand; text has none.
            zeros = content.find(b"\0")
            end = content.rfind(b"\n", 0, zeros if zeros >= 0 else len(content)) + 1
            if end < len(content):
                found = f"a torn last line of {len(content) - end} bytes was cut off"
                with path.open("r+b") as file:
                    file.truncate(end)
                    os.fsync(file.fileno())
            if end:
                self._go_on_from(content[content.rfind(b"\n", 0, end - 1) + 1 : end - 1], path)
                break
            path.unlink()  # nothing whole was ever in it
            segments.pop()
        self.opened = True
        return found

    def _go_on_from(self, line: bytes, path: Path) -> None:
        """Chain to the last line, whatever it is: if it was tampered with, the check tells."""
        self._last = hashlib.sha256(line).hexdigest()
        number = parsed(line).get("n")
        counted = first_number(path) + path.read_bytes().count(b"\n") - 1
        self._next = (number if isinstance(number, int) else counted) + 1

    def append(self, entries: Iterable[dict[str, object]]) -> None:
        """Write lines and make them durable; raises OSError, all of them are then not written."""
        entries = list(entries)
        if self._due is not None:
            entries.insert(0, _removal(self._due))
        if not entries:
            return
        lines, number, last = bytearray(), self._next, self._last
        for entry in entries:
            text = json.dumps({"n": number, "prev": last, **entry}, separators=(",", ":"))
            line = text.encode("ascii")
            last = hashlib.sha256(line).hexdigest()
            number += 1
            lines += line + b"\n"
        try:
            self._open_segment()
            _write_all(self._fd, bytes(lines))
            os.fdatasync(self._fd)
        except OSError:
            self._give_up_segment()
            raise
        self._size += len(lines)
        with self._lock:
            self._next, self._last = number, last
        self._due = None
        if self._size >= self._rules.segment_bytes:
            self.close()
            with suppress(OSError):  # the next line tells, or the next segment tries again
                self._keep_quota()

    def _open_segment(self) -> None:
        if self._fd >= 0:
            return
        # The same name as a segment of ours that never became durable: its lines come again.
        path = self._folder / f"audit-{self._next:012d}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        with self._lock:
            self._fd = os.open(path, flags, FILE_MODE)
        self._size = 0
        sync_directory(self._folder)

    def _give_up_segment(self) -> None:
        """Take back what is not durable, as far as the disk lets us; go on in a new segment."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            os.ftruncate(fd, self._size)
        with suppress(OSError):
            os.close(fd)
        if not self._size:
            with suppress(OSError):
                (self._folder / f"audit-{self._next:012d}.jsonl").unlink()

    def close(self) -> None:
        """Let the open segment go; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._size = 0

    def _keep_quota(self) -> None:
        """Remove the oldest segments beyond the quota, and have that told in the trail."""
        segments = self._segments()
        sizes = [path.stat().st_size for path in segments]
        gone = 0
        while len(segments) - gone > 1 and sum(sizes[gone:]) > self.quota_bytes:
            gone += 1
        if not gone:
            return
        first, until = first_number(segments[0]), first_number(segments[gone])
        before = parsed(self._lines(segments[gone])[0]).get("prev")
        self._due = {"first": str(first), "last": str(until - 1), "hash": str(before)}
        # Told before it is done: a crash between leaves lines too many, never a silent gap.
        self.append([])
        with self._lock:
            for path in segments[:gone]:
                path.unlink()
        sync_directory(self._folder)

    # reading -----------------------------------------------------------------------------------

    def entries(self, after: int, limit: int, wanted: Wanted) -> list[Recorded]:
        """Return lines with a smaller number than `after` (0: any), newest first."""
        return self._search.entries(
            self._segments(),
            self._content,
            before=after or 1 << 62,
            limit=limit,
            wanted=wanted,
        )

    def following(self, after: int, limit: int) -> list[Recorded]:
        """Return durable lines with a greater number than `after`, oldest first."""
        with self._lock:
            last = self._next - 1
        found: list[Recorded] = []
        segments = self._segments()
        starts = [first_number(path) for path in segments[1:]]
        for path, until in zip(segments, [*starts, last + 1], strict=True):
            if until <= after + 1:
                continue
            for raw in self._lines(path):
                line = recorded(raw)
                if line is not None and after < line.number < until:
                    found.append(line)
                    if len(found) >= limit:
                        return found
        return found

    def extent(self) -> tuple[int, int, int]:
        """Return the numbers of the first and the last line, and the bytes of all segments."""
        segments = self._segments()
        size = 0
        for path in segments:
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        with self._lock:
            last = self._next - 1
        return (first_number(segments[0]) if segments else last + 1), last, size

    def problems(self) -> list[str]:
        """Follow the chain from its beginning; return what breaks it, in words."""
        with self._lock:
            check = _Check(self._next - 1, self._last)
        segments = self._segments()
        starts = [first_number(path) for path in segments]
        for place, path in enumerate(segments):
            following = starts[place + 1] if place + 1 < len(starts) else None
            for raw in self._lines(path):
                fields = parsed(raw)
                own = fields.get("n")
                if following is not None and isinstance(own, int) and own >= following:
                    break  # written again in the next segment, which must go on from here
                check.line(path.name, raw, fields)
                if len(check.found) >= MAX_PROBLEMS:
                    return check.found
        return check.end(started=self.opened)

    def _segments(self) -> list[Path]:
        with self._lock:
            if not self._folder.is_dir():
                return []
            return sorted(self._folder.glob(f"audit-{'[0-9]' * 12}.jsonl"))

    def _lines(self, path: Path) -> list[bytes]:
        content = self._content(path)
        return content[: content.rfind(b"\n") + 1].splitlines()

    def _content(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""  # beyond the quota since it was listed


def _removal(due: dict[str, str]) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": "scrigno",
        "action": REMOVED,
        "subject": "audit",
        "outcome": "success",
        "details": due,
    }


class _Check:
    """Follows the chain line by line; `number` and `last` are those this process wrote last."""

    def __init__(self, number: int, last: str) -> None:
        self.found: list[str] = []
        self._expected = (number, last)
        self._met = number == 0
        self._number, self._last = 0, ""
        self._beginning = (0, NOTHING_BEFORE)
        self._removals: set[tuple[str, str]] = set()  # number and hash of the last line removed

    def line(self, name: str, raw: bytes, fields: dict[str, Any]) -> None:
        own, before = fields.get("n"), fields.get("prev")
        if not self._last:
            self._beginning = ((own if isinstance(own, int) else 0) - 1, str(before))
        elif own != self._number + 1:
            why = "it is missing, or not where it was"
            self.found.append(f"{name}: line {self._number + 1}: {why}.")
        elif before != self._last:
            why = f"line {self._number} is not as it was when this one was written"
            self.found.append(f"{name}: line {own}: {why}.")
        self._number = own if isinstance(own, int) else self._number + 1
        self._last = hashlib.sha256(raw).hexdigest()
        self._met = self._met or (self._number, self._last) == self._expected
        details = fields.get("details")
        if fields.get("action") == REMOVED and isinstance(details, dict):
            self._removals.add((str(details.get("last")), str(details.get("hash"))))

    def end(self, *, started: bool) -> list[str]:
        number, before = self._beginning
        if (number, before) != (0, NOTHING_BEFORE) and (str(number), before) not in self._removals:
            self.found.insert(
                0, f"The trail begins with line {number + 1}; those before it were taken away."
            )
        if started and not self._met and not self.found:
            self.found.append(
                f"Line {self._expected[0]}, written last, is not there or not as it was."
            )
        return self.found


def _write_all(fd: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]
