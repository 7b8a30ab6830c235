# SPDX-License-Identifier: Apache-2.0
"""The audit trail: who did what to which study, append-only, each line bound to the one before.

Segments of JSON lines stand in `<state_dir>/audit`. Each line carries the SHA-256 of the line
before it, so a line that is changed, taken out or put in breaks the chain; the first line of a
segment carries on from the last one of the segment before. No patient data: UIDs and account
names only. The trail never stops the box: when its disk is full or gone, lines wait in memory,
`failure` says so, and how many were lost beyond that is written down as soon as it works again.

Events are named as in PS3.15 A.5.3 where it has a name, with its code in the DCM dictionary.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters

from .audit_files import AuditFiles, AuditRules
from .audit_search import Recorded, Wanted

log = logging.getLogger(__name__)

CLOSE_S: Final = 5.0
SETTLE_S: Final = 2.0
MAX_TEXT: Final = 256
MAX_DETAILS: Final = 24
OWN: Final = "scrigno"  # who says what the trail says of itself

__all__ = ["Action", "AuditRules", "AuditTrail", "Recorded", "Wanted"]


class Action(StrEnum):
    """What is recorded; callers may use words of their own where this has none."""

    # PS3.15 A.5.3, by the meaning of their DCM codes
    APPLICATION_START = "application-start"
    APPLICATION_STOP = "application-stop"
    AUDIT_LOG_USED = "audit-log-used"
    BEGIN_TRANSFERRING = "begin-transferring-dicom-instances"
    EXPORT = "export"
    IMPORT = "import"
    INSTANCES_ACCESSED = "dicom-instances-accessed"
    INSTANCES_TRANSFERRED = "dicom-instances-transferred"
    STUDY_DELETED = "dicom-study-deleted"
    NETWORK_ATTACH = "attach"
    NETWORK_DETACH = "detach"
    NODE_AUTHENTICATION = "node-authentication"
    QUERY = "query"
    PATIENT_RECORD = "patient-record"
    PROCEDURE_RECORD = "procedure-record"
    ORDER_RECORD = "order-record"
    SECURITY_ALERT = "security-alert"
    SECURITY_CONFIGURATION = "security-configuration"
    HARDWARE_CONFIGURATION = "hardware-configuration"
    NETWORK_CONFIGURATION = "network-configuration"
    SOFTWARE_CONFIGURATION = "software-configuration"
    LOGIN = "login"
    LOGOUT = "logout"
    RECORDING_STARTED = "audit-recording-started"
    RECORDING_STOPPED = "audit-recording-stopped"
    # our own: the standard has no word for them
    INBOX_ACCEPTED = "inbox-accepted"
    INBOX_REJECTED = "inbox-rejected"
    INBOX_REPLACED = "inbox-replaced"
    INBOX_KEPT_BESIDE = "inbox-kept-beside"
    INBOX_INDEXED = "inbox-indexed"
    INBOX_PURGED = "inbox-purged"
    DECISION_UNDONE = "decision-undone"
    PATIENT_KEPT = "patient-conflict-kept"
    PATIENT_MERGED = "patient-merged"
    PATIENT_SPLIT = "patient-split"
    PATIENT_FIXED = "patient-fixed"


# The code of an event in the DCM dictionary (PS3.16 annex D), for those who pass the trail on.
DCM_CODES: Final[Mapping[str, str]] = {
    Action.APPLICATION_START: "110120",
    Action.APPLICATION_STOP: "110121",
    Action.AUDIT_LOG_USED: "110101",
    Action.BEGIN_TRANSFERRING: "110102",
    Action.EXPORT: "110106",
    Action.IMPORT: "110107",
    Action.INSTANCES_ACCESSED: "110103",
    Action.INSTANCES_TRANSFERRED: "110104",
    Action.STUDY_DELETED: "110105",
    Action.NETWORK_ATTACH: "110124",
    Action.NETWORK_DETACH: "110125",
    Action.NODE_AUTHENTICATION: "110126",
    Action.QUERY: "110112",
    Action.PATIENT_RECORD: "110110",
    Action.PROCEDURE_RECORD: "110111",
    Action.ORDER_RECORD: "110109",
    Action.SECURITY_ALERT: "110113",
    Action.SECURITY_CONFIGURATION: "110129",
    Action.HARDWARE_CONFIGURATION: "110130",
    Action.NETWORK_CONFIGURATION: "110128",
    Action.SOFTWARE_CONFIGURATION: "110131",
    Action.LOGIN: "110122",
    Action.LOGOUT: "110123",
    Action.RECORDING_STARTED: "110134",
    Action.RECORDING_STOPPED: "110133",
}


@dataclass(slots=True)
class _Waiting:
    """What the writer thread has still to write. `lock` protects every field."""

    lock: threading.Condition = field(default_factory=threading.Condition)
    lines: deque[dict[str, object]] = field(default_factory=deque)
    lost: int = 0  # beyond the bound, not yet told in the trail
    lost_since: datetime | None = None
    writing: int = 0  # taken out of `lines`, not yet on the disk
    closing: bool = False
    hurry: bool = False  # somebody waits: no pause to gather


class AuditTrail:
    """Records from any thread; everything else on the loop."""

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        counters: Counters,
        rules: AuditRules | None = None,
    ) -> None:
        """Name the folder; `open` makes it. `rules` hold sizes, tests make them small."""
        self._clock = clock
        self._counters = counters
        self._rules = rules or AuditRules()
        self._files = AuditFiles(state_dir / "audit", self._rules)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = _Waiting()
        self._thread: threading.Thread | None = None
        self.failure = ""  # why lines cannot be written now, in words; "" is fine
        self.dropped = 0  # lines lost since the start of this process
        self.repaired = ""  # what was found at the end of the trail when it was opened

    async def open(self) -> None:
        """Find the end of the trail, mend a torn last line and begin to write. Never fails."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        await self.settle()

    async def close(self) -> None:
        """Write what waits, at most for a few seconds, and stop. Idempotent."""
        thread = self._thread
        if thread is None:
            return
        self._thread = None
        self.record(OWN, Action.RECORDING_STOPPED, "audit")
        with self._waiting.lock:
            self._waiting.closing = True
            self._waiting.lock.notify_all()
        # A disk that hangs keeps the thread: it is a daemon thread and is left behind.
        await asyncio.to_thread(thread.join, CLOSE_S)

    def record(
        self,
        who: str,
        action: str,
        subject: str,
        outcome: str = "success",
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Note that `who` did `action` to `subject` (a UID, an account, a volume). Never blocks.

        Any thread. Texts are cut to 256 characters; give no patient data.
        """
        entry: dict[str, object] = {
            "at": self._clock.now().isoformat(timespec="milliseconds"),
            "who": str(who)[:MAX_TEXT],
            "action": str(action)[:MAX_TEXT],
            "subject": str(subject)[:MAX_TEXT],
            "outcome": str(outcome)[:MAX_TEXT],
        }
        if details:
            some = list(details.items())[:MAX_DETAILS]
            entry["details"] = {str(k)[:MAX_TEXT]: str(v)[:MAX_TEXT] for k, v in some}
        waiting = self._waiting
        with waiting.lock:
            if len(waiting.lines) + waiting.writing >= self._rules.most_waiting:
                waiting.lost += 1
                waiting.lost_since = waiting.lost_since or self._clock.now()
                self.dropped += 1
                return
            waiting.lines.append(entry)
            waiting.lock.notify()

    async def entries(
        self,
        after: int = 0,
        limit: int = 100,
        *,
        who: str = "",
        action: str = "",
        outcome: str = "",
        study: str = "",
        text: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Recorded]:
        """Return lines newest first; `after` is the number of the last one seen (0: the newest).

        The rest as in `Wanted`. Raises OSError when the trail cannot be read.
        """
        wanted = Wanted(
            who=who,
            action=action,
            outcome=outcome,
            study=study,
            text=text,
            since=since,
            until=until,
        )
        return await self.search(after, limit, wanted)

    async def search(self, after: int, limit: int, wanted: Wanted) -> list[Recorded]:
        """As `entries`, for those who hold what is wanted."""
        await self.settle()
        return await asyncio.to_thread(self._files.entries, after, limit, wanted)

    async def following(self, after: int, limit: int) -> list[Recorded]:
        """Return lines that are durable, oldest first, with numbers above `after`; raises OSError.

        Does not wait for what was recorded this moment: for those who pass the trail on.
        """
        return await asyncio.to_thread(self._files.following, after, limit)

    async def extent(self) -> tuple[int, int, int]:
        """Return the numbers of the first and last line and the bytes of all; raises OSError."""
        return await asyncio.to_thread(self._files.extent)

    def set_quota(self, quota_bytes: int) -> None:
        """Let the trail take so many bytes from now on; what is over goes with the next segment."""
        self._files.quota_bytes = quota_bytes

    async def verify_chain(self) -> list[str]:
        """Read the whole trail; return what is wrong, the first broken line first, [] when well."""
        await self.settle()
        return await asyncio.to_thread(self._files.problems)

    async def settle(self) -> bool:
        """Wait until what was recorded stands on the disk, two seconds at most; False: it does not.

        For readers and tests; whoever records does not wait.
        """
        return await asyncio.to_thread(self._settle)

    def _settle(self) -> bool:
        waiting = self._waiting
        ends = time.monotonic() + SETTLE_S
        with waiting.lock:
            waiting.hurry = True
            waiting.lock.notify_all()
            while waiting.lines or waiting.writing or not self._files.opened:
                left = ends - time.monotonic()
                if left <= 0 or self.failure:
                    return False
                waiting.lock.wait(min(left, 0.1))
        return True

    # the writer thread -------------------------------------------------------------------------

    def _run(self) -> None:
        pending: list[dict[str, object]] = []  # not yet durable
        while True:
            ending = self._gather(pending)
            try:
                if not self._files.opened:
                    self._begin()
                self._write(pending)
            except OSError as error:
                self._fail(error)
                if ending:
                    lost = len(pending)
                    log.error("audit trail: %d lines are lost with this process", lost)  # noqa: TRY400 - the reason was told
                    return
                with self._waiting.lock:
                    self._waiting.lock.wait_for(lambda: self._waiting.closing, self._rules.retry_s)
                continue
            if self._written(pending, ending=ending):
                self._files.close()
                return

    def _written(self, pending: list[dict[str, object]], *, ending: bool) -> bool:
        """Tell those who wait; return whether there is nothing left to do."""
        pending.clear()
        if self.failure:
            log.warning("audit trail: it is written again")
            self.failure = ""
        with self._waiting.lock:
            self._waiting.writing = 0
            if not self._waiting.lines:
                self._waiting.hurry = False
            self._waiting.lock.notify_all()
            return ending and not self._waiting.lines

    def _gather(self, pending: list[dict[str, object]]) -> bool:
        """Wait for lines, then for those that come with them; tell whether it is the end."""
        waiting = self._waiting
        with waiting.lock:
            if self._files.opened and not pending:
                waiting.lock.wait_for(lambda: waiting.lines or waiting.closing)
                waiting.lock.wait_for(lambda: waiting.closing or waiting.hurry, self._rules.group_s)
            pending.extend(waiting.lines)
            waiting.lines.clear()
            waiting.writing = len(pending)
            return waiting.closing

    def _begin(self) -> None:
        """Open the trail and say so in it."""
        found = self._files.open()
        details = {"found": found} if found else None
        self.repaired = found
        self.record(OWN, Action.RECORDING_STARTED, "audit", details=details)

    def _write(self, pending: list[dict[str, object]]) -> None:
        """Make lines durable; raises OSError, they are then written again."""
        with self._waiting.lock:
            lost, since = self._waiting.lost, self._waiting.lost_since
        lines: Iterable[dict[str, object]] = pending
        if lost:
            lines = [*pending, self._lost_line(lost, since)]
        self._files.append(lines)
        if lost:
            with self._waiting.lock:
                self._waiting.lost -= lost
                if not self._waiting.lost:
                    self._waiting.lost_since = None

    def _lost_line(self, lost: int, since: datetime | None) -> dict[str, object]:
        details = {"lost": str(lost)}
        if since is not None:
            details["since"] = since.isoformat(timespec="milliseconds")
        return {
            "at": self._clock.now().isoformat(timespec="milliseconds"),
            "who": OWN,
            "action": "audit-lines-lost",
            "subject": "audit",
            "outcome": "failure",
            "details": details,
        }

    def _fail(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        if not self.failure:
            log.error("audit trail: it cannot be written, lines wait in memory: %s", reason)
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._counters.add, "audit_failures")
        self.failure = f"The audit trail cannot be written: {reason}."
        with self._waiting.lock:
            self._waiting.lock.notify_all()
