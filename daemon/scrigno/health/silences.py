# SPDX-License-Identifier: Apache-2.0
"""What nobody wants to be told about for a while. Ends are kept by the monotonic clock."""

from datetime import UTC, datetime, timedelta
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.errors import CommandError

from .alerts import Alert, Silence
from .codes import CLASSES, Level

LONGEST_SILENCE: Final = timedelta(days=90)


class Silences:
    """The silences in force. Loop thread only."""

    def __init__(self, clock: Clock) -> None:
        """Start with none."""
        self._clock = clock
        self._silences: dict[int, tuple[Silence, float]] = {}

    def in_force(self) -> list[Silence]:
        """Return them, oldest first."""
        return [silence for silence, _ in self._silences.values()]

    def cover(self, alert: Alert) -> bool:
        """Tell whether nobody is told about it now."""
        return any(silence.covers(alert) for silence, _ in self._silences.values())

    def begin(self, silence: Silence) -> None:
        """Put one in force. Raises CommandError when it names nothing or ends at no good time."""
        if silence.alert_id is None and not silence.code and not silence.subject:
            raise CommandError("A silence needs an alert, a code or a subject.")
        if silence.code and silence.code not in CLASSES:
            raise CommandError(f"There is no alert {silence.code}.")
        now = self._clock.now()
        if not now < silence.until <= now + LONGEST_SILENCE:
            raise CommandError(
                "The end of a silence must lie ahead,"
                f" at most {LONGEST_SILENCE.days} days from now."
            )
        self.restore(silence, now)

    def restore(self, silence: Silence, now: datetime) -> None:
        """Put one of the last run in force again, for as long as is left of it."""
        left = min(silence.until.astimezone(UTC) - now, LONGEST_SILENCE)
        end_s = self._clock.monotonic() + left.total_seconds()
        self._silences[silence.silence_id] = (silence, end_s)

    def end(self, silence_id: int) -> Silence:
        """Take one away. Raises CommandError."""
        if silence_id not in self._silences:
            raise CommandError(f"There is no silence {silence_id}.")
        return self._silences.pop(silence_id)[0]

    def forget(self, silence_id: int) -> None:
        """Take one away if it is there."""
        self._silences.pop(silence_id, None)

    def ended(self) -> list[int]:
        """Return those whose time is over."""
        now_s = self._clock.monotonic()
        return [one for one, (_, end_s) in self._silences.items() if now_s >= end_s]


def keeps_a_risk_quiet(silence: Silence, covered: tuple[Alert, ...]) -> bool:
    """Tell whether it hides a critical alert about images that could be lost, now or later."""
    if any(alert.data_at_risk and alert.level is Level.CRITICAL for alert in covered):
        return True
    if silence.alert_id is not None:
        return False
    about = CLASSES.get(silence.code)
    return about is None or (about.data_at_risk and about.level is Level.CRITICAL)
