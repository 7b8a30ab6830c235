# SPDX-License-Identifier: Apache-2.0
"""Whether the last run came to its end: `<state_dir>/running` stands there while the daemon runs.

A process that is killed, or a machine whose power fails, leaves it behind; what it says tells the
two apart. Images are safe either way; but nobody should learn of a crash only from the log.
"""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.host.files import write_durably

log = logging.getLogger(__name__)

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # random(4): another one after each boot


class LastRun:
    """Keeps the mark. Blocking; a state directory that cannot be written is no reason to stop."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        """Touch nothing yet."""
        self._path = state_dir / "running"
        self._clock = clock

    def begin(self) -> str:
        """Set the mark; returns in words how the last run ended, "" when it was stopped."""
        ended = ""
        with suppress(OSError):
            ended = self._judged(self._path.read_text("utf-8", "replace"))
        mark = {
            "process": os.getpid(),
            "boot": _boot(),
            "since": self._clock.now().isoformat(timespec="seconds"),
        }
        try:
            write_durably(self._path, json.dumps(mark).encode())
        except OSError as error:
            log.warning("state: the mark of this run cannot be set: %s", error.strerror)
        if ended:
            log.error("the last run did not come to its end: %s", ended)
        return ended

    def end(self) -> None:
        """Take the mark away: this run was stopped in order."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("state: the mark of this run cannot be removed: %s", error.strerror)

    def _judged(self, text: str) -> str:
        try:
            mark = json.loads(text)
            since, boot = str(mark["since"]), str(mark["boot"])
        except (ValueError, KeyError, TypeError):
            return "the process ended without being stopped"
        if boot != _boot():
            return f"the machine went down while the archive ran (since {since})"
        return f"the process ended without being stopped (it ran since {since})"


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
