# SPDX-License-Identifier: Apache-2.0
"""Events told to other programs, signed, tried again, kept when they cannot be told (SPEC IN-6).

What happened is written to the disk before it is sent; a message may arrive twice, so it carries
an id. Headers and signature are those of the Standard Webhooks specification 1.0.0. Bodies hold
ids and UIDs only: whoever wants more asks the API with rights of its own.

Each endpoint has a task of its own. A refusal of one message (4xx) holds up this message only;
an endpoint that cannot be reached, or fails (5xx, 408, 429), rests longer and longer.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.db.errors import DatabaseError

from .conditions import Condition, condition
from .ending import ended
from .outgoing import Outgoing, OutgoingFailed, OutgoingRefused
from .webhook_store import Attempt, Delivery, DeliveryState, Growing, Message, WebhookStore

log = logging.getLogger(__name__)

# After the first attempt: 5 s, 30 s, 2 min … then every 6 hours, for three days in all.
RETRIES_S: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0)
GIVEN_UP_AFTER_S: Final = 3 * 86400.0
REST_MOST_S: Final = 300.0  # an endpoint that fails is tried at least this often
TICK_S: Final = 1.0
FLUSH_PAUSE_S: Final = 0.5
BATCH: Final = 50
TIDY_EVERY_S: Final = 3600.0
MOST_IN_MEMORY: Final = 10_000  # while the file cannot be written
MOST_JOBS_KNOWN: Final = 10_000
MOST_ANSWER_BYTES: Final = 64 << 10
FAILURES_BEFORE_ALERT: Final = 3
GONE: Final = 410
RESTS: Final = frozenset({408, 425, 429})
OWN_CODE: Final = "webhook-failed"

STUDY_RECEIVED: Final = "study.received"
STUDY_COMPLETE: Final = "study.complete"
TEST: Final = "test"


class UnknownWebhook(CommandError):
    """No endpoint has that name."""

    code = "unknown-webhook"


class UnknownDelivery(CommandError):
    """No delivery has that number, or it waits to be sent already."""

    code = "unknown-delivery"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRules:
    """Who is told what; no kind named means all."""

    name: str
    url: str
    secret: str = field(default="", repr=False)
    kinds: frozenset[str] = frozenset()

    def wants(self, kind: str) -> bool:
        """Tell whether this endpoint is told of such events."""
        return not self.kinds or kind in self.kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRules:
    """Everything the settings say about webhooks."""

    endpoints: tuple[EndpointRules, ...] = ()
    complete_after_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPace:
    """How long is waited; tests are in a hurry."""

    tick_s: float = TICK_S
    flush_pause_s: float = FLUSH_PAUSE_S
    retries_s: tuple[float, ...] = RETRIES_S
    rest_most_s: float = REST_MOST_S
    given_up_after_s: float = GIVEN_UP_AFTER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """How an endpoint does; `failures` in a row, `reason` of the last one."""

    name: str
    waiting: int
    delivered: int
    dead: int
    failures: int
    reason: str


@dataclass(slots=True)
class _Course:
    task: asyncio.Task[None]
    wake: asyncio.Event
    failures: int = 0
    reason: str = ""


class Webhooks:
    """Takes events, keeps them and sees that they are told. Loop thread only."""

    def __init__(
        self,
        *,
        store: WebhookStore,
        rules: Callable[[], WebhookRules],
        outgoing: Outgoing,
        clock: Clock,
        counters: Counters,
        pace: WebhookPace | None = None,
    ) -> None:
        """`rules` is asked at each event."""
        self._store = store
        self._rules = rules
        self._outgoing = outgoing
        self._clock = clock
        self._counters = counters
        self._pace = pace or WebhookPace()
        self._growing: dict[str, Growing] = {}
        self._dirty: set[str] = set()
        self._pending: list[Message] = []
        self._unwritten = asyncio.Event()
        self._writing = asyncio.Lock()  # what is pending is written once: protects the two above
        self._courses: dict[str, _Course] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._jobs: OrderedDict[str, str] = OrderedDict()
        self._counts: dict[tuple[str, str], int] = {}

    async def open(self) -> None:
        """Read what the last run left; raises DatabaseError."""
        await self._store.open()
        self._growing = {each.study_uid: each for each in await self._store.growing()}

    def start(self) -> None:
        """Begin to write and send; returns at once."""
        writing = asyncio.create_task(self._keep_writing(), name="webhooks-write")
        timing = asyncio.create_task(self._keep_time(), name="webhooks-time")
        self._tasks = [writing, timing]
        self.reconfigure()

    async def close(self) -> None:
        """Stop sending, write what is in memory; idempotent."""
        courses, self._courses = self._courses, {}
        tasks, self._tasks = self._tasks, []
        await ended([*tasks, *(each.task for each in courses.values())])
        if tasks:
            with contextlib.suppress(DatabaseError):
                await self._flush()
        await self._store.close()

    def reconfigure(self) -> None:
        """Take up what the rules say now."""
        if not self._tasks:
            return
        names = {each.name for each in self._rules().endpoints}
        for name in self._courses.keys() - names:
            self._courses.pop(name).task.cancel()
        for name in names:
            course = self._courses.get(name)
            if course is None:
                wake = asyncio.Event()
                task = asyncio.create_task(self._run(name, wake), name=f"webhook-{name}")
                self._courses[name] = _Course(task=task, wake=wake)
            else:
                course.wake.set()

    # what happens ------------------------------------------------------------------------------

    def stored(self, study_uid: str) -> None:
        """Hear of an image: the study is new or grows."""
        now = self._now()
        found = self._growing.get(study_uid)
        if found is None:
            found = Growing(study_uid=study_uid, first_at=now, last_at=now, instances=0)
            self._growing[study_uid] = found
            self.tell(STUDY_RECEIVED, {"study_instance_uid": study_uid})
        found.last_at = now
        found.instances += 1
        self._dirty.add(study_uid)
        self._unwritten.set()

    def job(self, job_id: str, state: str) -> None:
        """Hear of a job; only another state than before is told."""
        if self._jobs.get(job_id) == state:
            return
        self._jobs[job_id] = state
        self._jobs.move_to_end(job_id)
        while len(self._jobs) > MOST_JOBS_KNOWN:
            self._jobs.popitem(last=False)
        self.tell("job.changed", {"job_id": job_id, "state": state})

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Queue an event for every endpoint that wants it; ids and UIDs only. Returns at once."""
        wanted = [each for each in self._rules().endpoints if each.wants(kind)]
        for endpoint in wanted:
            self._queue(endpoint.name, kind, data)

    def _queue(self, endpoint: str, kind: str, data: Mapping[str, Any]) -> str:
        message = Message(
            message_id=f"msg_{secrets.token_hex(12)}",
            endpoint=endpoint,
            kind=kind,
            data=data,
            created_at=self._clock.now(),
        )
        if len(self._pending) >= MOST_IN_MEMORY:
            self._counters.add("webhook_messages_dropped", endpoint=endpoint)
            return message.message_id
        self._pending.append(message)
        self._unwritten.set()
        return message.message_id

    # what people ask ---------------------------------------------------------------------------

    async def test(self, endpoint: str) -> tuple[int | None, str]:
        """Send a test message now, past the queue; returns the answer's status and what failed.

        Raises UnknownWebhook.
        """
        found = self._endpoint(endpoint)
        message = Message(
            message_id=f"msg_{secrets.token_hex(12)}",
            endpoint=found.name,
            kind=TEST,
            data={},
            created_at=self._clock.now(),
        )
        return await self._post(found, message.message_id, message.body())

    async def replay(self, delivery_id: int) -> None:
        """Send a delivery again; raises UnknownDelivery, DatabaseError."""
        if not await self._store.replay(self._now(), delivery_id=delivery_id):
            raise UnknownDelivery(f"There is no delivery {delivery_id} that could be sent again.")
        self._wake_all()

    async def replay_dead(self, endpoint: str) -> int:
        """Send every dead letter of an endpoint again; raises UnknownWebhook, DatabaseError."""
        count = await self._store.replay(self._now(), endpoint=self._endpoint(endpoint).name)
        self._wake_all()
        return count

    async def deliveries(self, **wanted: Any) -> list[Delivery]:
        """Return a page of the log, as `WebhookStore.page`."""
        return await self._store.page(**wanted)

    async def delivery(self, delivery_id: int) -> tuple[Delivery, list[Attempt]]:
        """Return one delivery with its attempts; raises UnknownDelivery."""
        found = await self._store.one(delivery_id)
        if found is None:
            raise UnknownDelivery(f"There is no delivery {delivery_id}.")
        return found

    async def statuses(self) -> list[EndpointStatus]:
        """Return how each endpoint does, by name; raises DatabaseError."""
        counts = await self._store.counts()
        return [
            EndpointStatus(
                name=name,
                waiting=counts.get((name, DeliveryState.WAITING), 0),
                delivered=counts.get((name, DeliveryState.DELIVERED), 0),
                dead=counts.get((name, DeliveryState.DEAD), 0),
                failures=course.failures,
                reason=course.reason,
            )
            for name, course in sorted(self._courses.items())
        ]

    def conditions(self) -> list[Condition]:
        """Return which endpoints fail."""
        return [
            condition(OWN_CODE, subject=name, reason=course.reason, count=course.failures)
            for name, course in sorted(self._courses.items())
            if course.failures >= FAILURES_BEFORE_ALERT
        ]

    def _endpoint(self, name: str) -> EndpointRules:
        found = next((each for each in self._rules().endpoints if each.name == name), None)
        if found is None:
            raise UnknownWebhook(f"There is no webhook {name[:64]!r} that is switched on.")
        return found

    # inside ------------------------------------------------------------------------------------

    async def _keep_writing(self) -> None:
        while True:
            await self._unwritten.wait()
            try:
                await self._flush()
            except DatabaseError as error:
                log.error("webhooks: %s", error.reason)  # noqa: TRY400 - the reason says it all
                self._unwritten.set()
                await asyncio.sleep(10 * self._pace.tick_s)
            await asyncio.sleep(self._pace.flush_pause_s)

    async def _flush(self, complete: Sequence[str] = ()) -> None:
        """Write what is in memory; raises DatabaseError and then keeps it."""
        async with self._writing:
            await self._flush_alone(complete)

    async def _flush_alone(self, complete: Sequence[str]) -> None:
        self._unwritten.clear()
        messages, dirty = list(self._pending), set(self._dirty)
        grown = [self._growing[uid] for uid in dirty if uid in self._growing]
        if not (messages or grown or complete):
            return
        buried = await self._store.put(messages, grown=grown, complete=complete)
        del self._pending[: len(messages)]
        self._dirty -= dirty
        if buried:
            self._counters.add("webhook_messages_dead", buried)
        for name in {each.endpoint for each in messages}:
            course = self._courses.get(name)
            if course is not None and not course.failures:
                course.wake.set()

    async def _keep_time(self) -> None:
        """Find studies that are complete; forget what is old."""
        tidied = float("-inf")
        while True:
            await asyncio.sleep(self._pace.tick_s)
            try:
                await self._complete()
                if self._clock.monotonic() - tidied > TIDY_EVERY_S:
                    tidied = self._clock.monotonic()
                    names = [each.name for each in self._rules().endpoints]
                    await self._store.bury(keep=names, now=self._now())
                    await self._store.tidy(self._now())
            except DatabaseError as error:
                log.warning("webhooks: %s", error.reason)

    async def _complete(self) -> None:
        now, after = self._now(), self._rules().complete_after_s
        # A clock that went back must not keep a study from ever being complete.
        done = [e for e in self._growing.values() if not -1 <= now - e.last_at < after]
        if not done:
            return
        for each in done:
            del self._growing[each.study_uid]
            self._dirty.discard(each.study_uid)
            self.tell(
                STUDY_COMPLETE,
                {"study_instance_uid": each.study_uid, "instances_received": each.instances},
            )
        try:
            await self._flush([each.study_uid for each in done])
        except DatabaseError:
            # the messages wait in memory; the rows are found again after a restart
            self._unwritten.set()
            raise

    async def _run(self, name: str, wake: asyncio.Event) -> None:
        while True:
            try:
                delay = await self._send_due(name)
            except DatabaseError as error:
                log.warning("webhook %s: %s", name, error.reason)
                delay = 30.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await wake.wait()
            wake.clear()

    async def _send_due(self, name: str) -> float | None:
        """Send what is due; return how long there is nothing to do, None: until woken."""
        course = self._courses[name]
        for delivery in await self._store.due(name, self._now(), BATCH):
            endpoint = next((e for e in self._rules().endpoints if e.name == name), None)
            if endpoint is None:
                return None
            if not await self._deliver(endpoint, delivery, course):
                return self._rest_s(course.failures)
        due = await self._store.next_due(name)
        return None if due is None else max(0.05, due - self._now())

    def _rest_s(self, failures: int) -> float:
        retries = self._pace.retries_s
        return min(retries[min(failures, len(retries)) - 1], self._pace.rest_most_s)

    async def _deliver(self, endpoint: EndpointRules, delivery: Delivery, course: _Course) -> bool:
        """Try once and note it; False when the endpoint itself fails and should rest."""
        began = self._clock.monotonic()
        status, reason = await self._post(endpoint, delivery.message_id, delivery.body)
        took_ms = round(1000 * (self._clock.monotonic() - began))
        now = self._now()
        state, due_at = self._next(delivery, status, reason, now)
        await self._store.tried(
            delivery,
            at=now,
            status=status,
            reason=reason,
            took_ms=took_ms,
            state=state,
            due_at=due_at,
        )
        self._counters.add("webhook_attempts", endpoint=endpoint.name, outcome=state)
        if state is DeliveryState.DEAD:
            self._counters.add("webhook_messages_dead")
            log.warning(
                "webhook %s: delivery %d is given up: %s", endpoint.name, delivery.id, reason
            )
        rests = status is None or status >= 500 or status in RESTS
        if not rests:
            course.failures, course.reason = 0, ""
            return True
        course.failures += 1
        course.reason = reason
        if course.failures == FAILURES_BEFORE_ALERT:
            log.warning("webhook %s: %s", endpoint.name, reason)
        return False

    def _next(
        self, delivery: Delivery, status: int | None, reason: str, now: float
    ) -> tuple[DeliveryState, float]:
        if not reason:
            return DeliveryState.DELIVERED, now
        waited = now - delivery.created_at.timestamp()
        if status == GONE or waited > self._pace.given_up_after_s:
            return DeliveryState.DEAD, now
        retries = self._pace.retries_s
        return DeliveryState.WAITING, now + retries[min(delivery.attempts, len(retries) - 1)]

    async def _post(
        self, endpoint: EndpointRules, message_id: str, body: str
    ) -> tuple[int | None, str]:
        """Post one message; returns the status and, when it was not taken, why."""
        content = body.encode()
        timestamp = int(self._clock.now().timestamp())
        headers = {
            "Content-Type": "application/json",
            **signed(endpoint.secret, message_id, timestamp, content),
        }
        try:
            answer = await self._outgoing.request(
                "POST", endpoint.url, headers=headers, body=content, most_bytes=MOST_ANSWER_BYTES
            )
        except (OutgoingFailed, OutgoingRefused) as error:
            return None, error.reason
        if 200 <= answer.status < 300:
            return answer.status, ""
        words = "redirects, which is not followed" if 300 <= answer.status < 400 else "answered"
        return answer.status, f"the other side {words}: {answer.status}"

    def _wake_all(self) -> None:
        for course in self._courses.values():
            course.wake.set()

    def _now(self) -> float:
        return self._clock.now().timestamp()


def signed(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks 1.0.0: id, time, and HMAC-SHA256 of all three.

    A secret that begins with `whsec_` is base64; any other is used as it is. The receiver compares
    the signature and refuses a time that is more than five minutes away.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if secret:
        content = f"{message_id}.{timestamp}.".encode() + body
        digest = hmac.new(_key(secret), content, hashlib.sha256).digest()
        headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()
