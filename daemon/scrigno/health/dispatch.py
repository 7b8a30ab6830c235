# SPDX-License-Identifier: Apache-2.0
"""Who is told what: changes of alerts go to every channel whose level they reach.

Each channel has its own queue and its own task, so one that hangs holds up neither the others nor
the box. What cannot be sent waits on the disk and is tried again for three days. A channel that
fails is an alert itself, told by the others.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError

from .alerts import Change
from .channels import ChannelFailed, ChannelRules, MailRules, Senders
from .conditions import Condition, condition
from .ending import ended
from .messages import document_of, mail_of, test_mail
from .outbox import Item, Outbox

log = logging.getLogger(__name__)

GATHER_S: Final = 3.0  # one fault raises several alerts; they go into one message
# Right after a message the next one waits longer: a storm becomes two messages a minute.
QUIET_S: Final = 30.0
RETRY_FIRST_S: Final = 5.0
RETRY_MOST_S: Final = 3600.0
GIVEN_UP_AFTER_S: Final = 3 * 24 * 3600.0
FAILURES_BEFORE_ALERT: Final = 2  # a server that is restarted is no news
OWN_CODE: Final = "alert-channel-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyRules:
    """Who is told. Names of channels are unique; `box` stands in every message."""

    channels: tuple[ChannelRules, ...] = ()
    box: str = "Scrigno box"
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long is waited; tests are in a hurry."""

    gather_s: float = GATHER_S
    quiet_s: float = QUIET_S
    retry_first_s: float = RETRY_FIRST_S
    retry_most_s: float = RETRY_MOST_S
    given_up_after_s: float = GIVEN_UP_AFTER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatus:
    """How a channel does."""

    name: str
    waiting: int
    failures: int  # in a row
    reason: str  # of the last failure; "" when the last message went out whole


@dataclass(slots=True)
class _Course:
    """One channel on its way."""

    task: asyncio.Task[None]
    wake: asyncio.Event
    failures: int = 0
    reason: str = ""
    sent_s: float = float("-inf")


class Dispatcher:
    """Takes changes from the book and sees that they are told. Loop thread only."""

    def __init__(
        self,
        *,
        rules: Callable[[], NotifyRules],
        outbox: Outbox,
        senders: Senders,
        clock: Clock,
        counters: Counters,
        pace: Pace | None = None,
    ) -> None:
        """`rules` is asked at each message; the outbox must be open."""
        self._rules = rules
        self._outbox = outbox
        self._senders = senders
        self._clock = clock
        self._counters = counters
        self._pace = pace or Pace()
        self._courses: dict[str, _Course] = {}
        self._writer: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.dropped: Callable[[str, int], None] = lambda channel, count: None

    def start(self) -> None:
        """Begin to send; returns at once."""
        self._writer = asyncio.create_task(self._keep_writing(), name="alert-outbox")
        self.reconfigure()

    async def close(self) -> None:
        """Stop sending, keep what waits; idempotent."""
        tasks = [course.task for course in self._courses.values()]
        self._courses = {}
        await ended(tasks)
        writer, self._writer = self._writer, None
        if writer is not None:
            self._stop.set()
            self._outbox.touch()
            await asyncio.gather(writer, return_exceptions=True)

    def reconfigure(self) -> None:
        """Take up what the rules say now; call it when the settings changed."""
        if self._writer is None:
            return
        names = {channel.name for channel in self._rules().channels}
        for name in self._courses.keys() - names:
            self._courses.pop(name).task.cancel()
        for name, count in self._outbox.keep_only(names).items():
            self._counters.add("alert_messages_dropped", count, channel=name)
            log.warning("alert channel %s is gone, %d messages with it", name, count)
        for name in names:
            course = self._courses.get(name)
            if course is None:
                wake = asyncio.Event()
                task = asyncio.create_task(self._run(name, wake), name=f"alert-channel-{name}")
                self._courses[name] = _Course(task=task, wake=wake)
            else:
                course.wake.set()  # the server may be another one now: try at once

    def take(self, change: Change) -> None:
        """Queue a change for every channel that is to tell it; returns at once."""
        alert = change.alert
        if alert is None or not change.tell:
            return
        item = Item(change=change, queued_at=self._clock.now())
        for channel in self._rules().channels:
            of_itself = alert.code == OWN_CODE and alert.subject == channel.name
            if of_itself or alert.level.rank < channel.level.rank:
                continue
            self._count_dropped(channel.name, self._outbox.put(channel.name, item))
            course = self._courses.get(channel.name)
            if course is not None and not course.failures:
                course.wake.set()

    async def test(self, channel: str | ChannelRules) -> str:
        """Send a test message now; return "" or in words why it did not go out.

        `channel` is the name of one in force or rules that are not in force yet. Raises
        CommandError for a name that is not known.
        """
        rules = self._rules()
        found = next((each for each in rules.channels if each.name == channel), None)
        if not isinstance(channel, str):
            found = channel
        if found is None:
            raise CommandError(f"There is no channel {channel}.")
        try:
            if isinstance(found, MailRules):
                mail = test_mail(box=rules.box, language=rules.language)
                return await self._senders.mail(found, mail)
            document = document_of(
                (), box=rules.box, language=rules.language, now=self._clock.now(), test=True
            )
            await self._senders.post(found, document)
        except ChannelFailed as error:
            return error.sentence()
        return ""

    def statuses(self) -> list[ChannelStatus]:
        """Return how each channel does, by name."""
        return [
            ChannelStatus(
                name=name,
                waiting=len(self._outbox.waiting(name)),
                failures=course.failures,
                reason=course.reason,
            )
            for name, course in sorted(self._courses.items())
        ]

    def conditions(self) -> list[Condition]:
        """Return which channels fail."""
        return [
            condition(OWN_CODE, subject=each.name, reason=each.reason, waiting=each.waiting)
            for each in self.statuses()
            if each.reason and (each.failures >= FAILURES_BEFORE_ALERT or not each.failures)
        ]

    # inside ---------------------------------------------------------------------------------

    async def _keep_writing(self) -> None:
        while not self._stop.is_set():
            await self._outbox.changed()
            if not await self._outbox.write():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.quiet_s):
                        await self._stop.wait()

    async def _run(self, name: str, wake: asyncio.Event) -> None:
        while True:
            if not self._outbox.waiting(name):
                await wake.wait()
            wake.clear()
            if not self._outbox.waiting(name):
                continue
            course = self._courses[name]
            soon = self._clock.monotonic() - course.sent_s < self._pace.quiet_s
            await asyncio.sleep(self._pace.quiet_s if soon else self._pace.gather_s)
            self._give_up(name)
            items = self._outbox.waiting(name)
            rules = self._rules()
            channel = next((each for each in rules.channels if each.name == name), None)
            if channel is None or not items:
                continue
            try:
                refused = await self._send(channel, rules, items)
            except ChannelFailed as error:
                await self._failed(name, course, error.sentence())
                continue
            course.failures, course.reason = 0, refused
            course.sent_s = self._clock.monotonic()
            self._outbox.done(name, items)
            self._counters.add("alert_messages_sent", channel=name)

    async def _send(self, channel: ChannelRules, rules: NotifyRules, items: Sequence[Item]) -> str:
        """Send what waits as one message; return what was refused although it went out."""
        now = self._clock.now()
        if isinstance(channel, MailRules):
            mail = mail_of(items, box=rules.box, language=rules.language, now=now)
            return await self._senders.mail(channel, mail)
        await self._senders.post(
            channel, document_of(items, box=rules.box, language=rules.language, now=now)
        )
        return ""

    async def _failed(self, name: str, course: _Course, reason: str) -> None:
        course.failures += 1
        course.reason = reason
        self._counters.add("alert_message_failures", channel=name)
        if course.failures == FAILURES_BEFORE_ALERT:
            log.warning("alert channel %s: %s", name, reason)
        delay_s = min(
            self._pace.retry_first_s * 2 ** min(course.failures - 1, 30), self._pace.retry_most_s
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await course.wake.wait()

    def _give_up(self, name: str) -> None:
        """Let go what has waited for days: whoever reads it then would be misled."""
        now = self._clock.now()
        old = [
            item
            for item in self._outbox.waiting(name)
            if (now - item.queued_at).total_seconds() > self._pace.given_up_after_s
        ]
        if old:
            self._outbox.done(name, old)
            self._count_dropped(name, len(old))

    def _count_dropped(self, name: str, count: int) -> None:
        if count:
            self._counters.add("alert_messages_dropped", count, channel=name)
            log.warning("alert channel %s: %d messages were given up", name, count)
            self.dropped(name, count)
