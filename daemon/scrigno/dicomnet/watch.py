# SPDX-License-Identifier: Apache-2.0
"""Whether a peer has been silent or slow for too long: numbers in, a verdict out, no clock."""

from .limits import Limits


class Watch:
    """What is known of one connection's pace. Times are the loop's, in seconds.

    It is looked at when the connection's one timer fires; a read only notes the time. So silence
    in the middle of a message is found within twice `Limits.message_idle_s`.
    """

    __slots__ = (
        "_began_at",
        "_heard_at",
        "_limits",
        "_unsent",
        "_window_at",
        "_window_bytes",
        "received_bytes",
    )

    def __init__(self, limits: Limits) -> None:
        self.received_bytes = 0
        self._limits = limits
        self._heard_at = 0.0
        self._began_at = 0.0  # of the message that is under way
        self._window_at = 0.0  # of the throughput window, and the bytes received before it
        self._window_bytes = 0
        self._unsent = 0  # bytes in our write buffer at the last look

    def restart(self, now: float) -> None:
        """Begin to count: the connection opened, or we read again after a pause of ours."""
        self._heard_at = now
        self.new_window(now)

    def new_window(self, now: float) -> None:
        """Measure the throughput from now on."""
        self._window_at = now
        self._window_bytes = self.received_bytes

    def heard(self, now: float, count: int, *, under_way: bool) -> None:
        """Note `count` bytes; `under_way`: they go on with a message that had begun before."""
        self._heard_at = now
        if not under_way:
            self._began_at = now
        self.received_bytes += count

    def writing_stopped(self) -> None:
        """The write buffer filled up just now."""
        self._unsent = 0

    def next_look(self, now: float, *, occupied: bool) -> float:
        """Return when to look again. `occupied`: a message, an operation or a pause is on."""
        soon = now + self._limits.message_idle_s
        if occupied:
            return soon
        due = self._heard_at + self._limits.association_idle_s
        return min(max(due, now + 0.001), soon)

    def unread(self, unsent: int) -> str:
        """Return why a peer that lets our write buffer fill is too late; empty when it is not."""
        stuck = 0 < self._unsent <= unsent
        self._unsent = unsent
        return "it does not read what we send" if stuck else ""

    def too_late(self, now: float, *, inside: bool, busy: bool) -> str:
        """Return why the peer is too late, in words; empty when it is not.

        `inside`: the peer has begun a message; `busy`: it waits for us, so silence is in order.
        """
        silent = now - self._heard_at
        if inside:
            if silent >= self._limits.message_idle_s:
                return f"silent for {silent:.0f} s in the middle of a message"
            return self._too_slow(now)
        if not busy and silent >= self._limits.association_idle_s:
            return f"idle for {silent:.0f} s"
        return ""

    def _too_slow(self, now: float) -> str:
        """Judge the throughput of the window, if one message ran all the while."""
        span = now - self._window_at
        # The loop may call a moment early, hence not quite the whole of the time.
        whole = span >= 0.9 * self._limits.message_idle_s
        if not whole or self._began_at > self._window_at:
            return ""
        count = self.received_bytes - self._window_bytes
        if count < self._limits.min_bytes_per_s * span:
            return f"{count} bytes in {span:.0f} s are too slow"
        return ""
