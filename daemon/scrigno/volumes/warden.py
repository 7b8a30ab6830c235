# SPDX-License-Identifier: Apache-2.0
"""Looking after one volume: its worker, its identity, its state.

STARTING → ONLINE; ONLINE → SUSPECT (an error, a slow probe) → ONLINE or OFFLINE (the probe tells);
any → OFFLINE when nothing is answered in time; READONLY and FULL as the kernel says, until a probe
is content; ABSENT and FOREIGN when identity fails. OFFLINE, ABSENT, FOREIGN → RECOVERING when the
disk answers and is the right one → ONLINE after it has proved itself. Return is damped: each fall
within the hour doubles the time it must hold.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus, VolumeChanged

from .files import reserve_bytes
from .link import EXIT_GRACE_S, WorkerDiedError, WorkerLink
from .marker import Marker, Remembered, Verdict, judge
from .protocol import Op, pack, unpack
from .registry import Registry
from .states import ErrorKind, VolumeError, VolumeState

if TYPE_CHECKING:
    from scrigno.host.process import Process

    from .volume import Volume

log = logging.getLogger(__name__)

ABANDONED_LIMIT: Final = 4  # workers stuck in the kernel at once; more would not learn more
FALLS_WINDOW_S: Final = 3600.0
DEATHS_WINDOW_S: Final = 60.0  # a worker that dies more often than…
DEATHS_LIMIT: Final = 5  # …this is treated as a failing volume
_STATE_OF_FAILURE: Final = {
    ErrorKind.ABSENT: VolumeState.ABSENT,
    ErrorKind.FOREIGN: VolumeState.FOREIGN,
}
_PROBED_STATES: Final = {
    ErrorKind.READONLY: VolumeState.READONLY,
    ErrorKind.FULL: VolumeState.FULL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient a warden is; seconds."""

    op_timeout_s: float = 10.0  # no sign of life of a request: hung (design, section 4)
    probe_every_s: float = 15.0  # MinIO's interval
    fresh_write_s: float = 5.0  # a real write this recent stands for a probe
    slow_probe_s: float = 2.0  # a slower probe makes it SUSPECT
    retry_s: float = 1.0  # after a fall; doubles up to…
    retry_most_s: float = 15.0
    proofs: int = 3  # probes in a row before it is trusted again
    proof_every_s: float = 1.0
    hold_s: float = 10.0  # it must hold this long after its first fall; doubles with each…
    hold_most_s: float = 3600.0


class Warden:
    """Owns one volume's worker and state; one task. Loop thread only."""

    def __init__(
        self,
        volume: "Volume",
        *,
        registry: Registry,
        claims: dict[str, str],
        timing: Timing,
        counters: Counters,
        bus: EventBus,
        clock: Clock,
    ) -> None:
        """`claims` (uuid → volume name in service) is shared by all wardens."""
        self.volume = volume
        self.shown = asyncio.Event()  # set when the first state is known
        self._registry = registry
        self._claims = claims
        self._timing = timing
        self._counters = counters
        self._bus = bus
        self._clock = clock
        self._abandoned: list[Process] = []  # killed, and perhaps stuck in the kernel
        self._falls: list[float] = []
        self._deaths: list[float] = []
        self._in_service = False
        self._wake = asyncio.Event()
        self._retry_s = timing.retry_s
        self._trusted = True  # nothing has gone wrong since it last proved itself
        self._adoption: tuple[bool, asyncio.Future[None]] | None = None
        self._task: asyncio.Task[None] | None = None
        volume.on_error = self._heard

    # -- from outside ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look after it."""
        self._task = asyncio.get_running_loop().create_task(
            self._look_after(), name=f"warden of {self.volume.name}"
        )

    async def close(self) -> None:
        """Stop, and let the worker go. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        link, self.volume.link = self.volume.link, None
        self.volume.served.clear()
        if link is not None:
            await link.close()
        dying = [gone.ended for gone in self._abandoned if gone.returncode is None]
        if dying:
            await asyncio.wait(dying, timeout=EXIT_GRACE_S)

    def look_now(self) -> None:
        """Something about mounts has changed: check, or try again, at once."""
        self._wake.set()
        self.volume.doubt.set()

    async def adopt(self, *, force: bool) -> None:
        """Make what stands at the path this volume; raises CommandError or VolumeError."""
        if self._adoption is not None:
            raise CommandError(f"volume {self.volume.name}: it is being adopted already")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._adoption = (force, done)
        self.look_now()
        try:
            async with asyncio.timeout(3 * self._timing.op_timeout_s):
                await done
        except TimeoutError as error:
            raise VolumeError(
                self.volume.name, ErrorKind.TIMEOUT, "it does not answer, it was not adopted"
            ) from error
        finally:
            self._adoption = None

    # -- the life of a volume ----------------------------------------------------------------

    async def _look_after(self) -> None:
        while True:
            try:
                await self._serve()
            except VolumeError as error:
                self._fell(error)
            except OSError as error:
                # of our own side: no process, no descriptor, the state directory
                self._fell(VolumeError(self.volume.name, ErrorKind.OFFLINE, str(error)))
            self._let_go()
            await self._pause()

    async def _serve(self) -> None:
        """Start a worker, identify, prove, then probe for ever; ends by VolumeError."""
        await self._room_for_a_worker()
        volume = self.volume
        volume.doubt.clear()
        self._wake.clear()
        link = WorkerLink(
            volume.name,
            volume.spec.path,
            op_timeout_s=self._timing.op_timeout_s,
            lost=volume.doubt,
        )
        try:
            await self._identify(link)
        except BaseException:
            link.lose(ErrorKind.OFFLINE, "it was not let into service")
            self._abandoned.append(link.process)
            raise
        volume.link = link
        await self._prove()
        await self._watch(link)

    async def _watch(self, link: WorkerLink) -> None:
        volume, timing = self.volume, self._timing
        loop = asyncio.get_running_loop()
        while True:
            doubted = True
            try:
                async with asyncio.timeout(timing.probe_every_s):
                    await volume.doubt.wait()
            except TimeoutError:
                doubted = False
            volume.doubt.clear()
            if link.failure is not None:
                raise link.failure
            if self._adoption is not None and not self._adoption[1].done():
                self._adopted()  # it is ours already
                continue
            fresh = loop.time() - link.last_write < timing.fresh_write_s
            if doubted or not fresh or volume.state is not VolumeState.ONLINE:
                self._become(*await self._probed())
            self._retry_s = timing.retry_s

    async def _prove(self) -> None:
        """Let it into service: at once when it never fell, else after proofs and damping."""
        timing = self._timing
        loop = asyncio.get_running_loop()
        state, reason = await self._probed()
        if not self._trusted:
            held_until = (self._falls[-1] if self._falls else 0.0) + self._hold_s()
            proofs = 1
            while proofs < timing.proofs or loop.time() < held_until:
                self._become(VolumeState.RECOVERING, "it answers again and is being watched")
                self.volume.served.set()
                await asyncio.sleep(timing.proof_every_s)
                state, reason = await self._probed()
                proofs += 1
        self._trusted = self._in_service = True
        self._become(state, reason)
        self.volume.served.set()

    async def _probed(self) -> tuple[VolumeState, str]:
        """Probe; answer the state that follows, or raise what takes it out of service."""
        volume = self.volume
        try:
            seconds = await volume.probe()
        except VolumeError as error:
            state = _PROBED_STATES.get(error.kind)
            if state is None:
                raise
            return state, error.what
        if seconds > self._timing.slow_probe_s:
            return VolumeState.SUSPECT, f"a probe took {seconds:.1f} s"
        if (volume.free_bytes or 0) < reserve_bytes(volume.total_bytes or 0):
            return VolumeState.FULL, "only its reserve is free"
        return VolumeState.ONLINE, ""

    def _heard(self, error: VolumeError) -> None:
        """React to an operation that failed: at once, the probe that follows has the last word."""
        match error.kind:
            case ErrorKind.IO:
                if self.volume.state in (VolumeState.ONLINE, VolumeState.RECOVERING):
                    self._become(VolumeState.SUSPECT, error.what)
            case ErrorKind.FULL | ErrorKind.READONLY:
                if self.volume.state is VolumeState.ONLINE:
                    self._become(_PROBED_STATES[error.kind], error.what)
            case ErrorKind.ABSENT | ErrorKind.FOREIGN:
                if self.volume.link is not None:
                    self._become(_STATE_OF_FAILURE[error.kind], error.what)
            case ErrorKind.TIMEOUT:
                self._become(VolumeState.OFFLINE, error.what)
            case ErrorKind.DENIED | ErrorKind.NO_ROOM:
                return
            case ErrorKind.MISSING | ErrorKind.BUSY | ErrorKind.OFFLINE:
                return
        self.volume.doubt.set()

    # -- identity ----------------------------------------------------------------------------

    async def _identify(self, link: WorkerLink) -> None:
        """Tell who stands at the path; adopt an empty folder never used; arm the worker."""
        volume, registry = self.volume, self._registry
        facts = unpack((await link.call(Op.OPEN, b"")).body)
        volume.device = facts["device"]
        space = facts["space"]
        volume.total_bytes, volume.free_bytes = space["total_bytes"], space["free_bytes"]
        found = None if facts["marker"] is None else Marker.parse(facts["marker"])
        taken = frozenset(uuid for uuid, name in self._claims.items() if name != volume.name)
        remembered = registry.remembered(volume.name)
        judgement = judge(
            name=volume.name,
            owner=registry.owner,
            remembered=remembered,
            found=found,
            empty=facts["empty"],
            taken=taken,
            trouble=facts["trouble"],
        )
        marker = found
        if judgement.verdict is Verdict.EMPTY:
            marker = self._fresh_marker()
        elif judgement.verdict is not Verdict.OURS:
            marker = self._taken_over(found, taken, judgement.reason)
            if marker is None:
                kind = (
                    ErrorKind.ABSENT if judgement.verdict is Verdict.ABSENT else ErrorKind.FOREIGN
                )
                raise VolumeError(volume.name, kind, judgement.reason)
        if marker is None:
            raise VolumeError(volume.name, ErrorKind.ABSENT, "it has no marker")
        self._claims[marker.uuid] = volume.name
        await self._into_service(link, marker)
        self._adopted()

    async def _into_service(self, link: WorkerLink, marker: Marker) -> None:
        marker = marker.next_generation()
        try:
            # the disk first: a crash in between leaves it a generation ahead, which is no clone
            await link.call(Op.MARK, pack(marker.document()))
        except VolumeError as error:
            if error.kind not in _PROBED_STATES:
                raise
            marker = replace(marker, generation=marker.generation - 1)
        entry = Remembered(uuid=marker.uuid, generation=marker.generation)
        await asyncio.to_thread(self._registry.remember, self.volume.name, entry, self._clock.now())
        await link.call(Op.ARM, pack({"uuid": marker.uuid}))
        self.volume.uuid, self.volume.generation = marker.uuid, marker.generation

    def _fresh_marker(self) -> Marker:
        spec = self.volume.spec
        log.info("volume %s: adopting the empty folder %s", spec.name, spec.path)
        return Marker.new(
            owner=self._registry.owner,
            name=spec.name,
            role=spec.role.value,
            now=self._clock.now(),
        )

    def _taken_over(
        self, found: Marker | None, taken: frozenset[str], reason: str
    ) -> Marker | None:
        """Return the marker under which an operator's adoption goes on, None when there is none."""
        if self._adoption is None or self._adoption[1].done():
            return None
        force, done = self._adoption
        spec = self.volume.spec
        if found is None:
            return self._fresh_marker()
        if found.uuid in taken or not (force or found.owner == self._registry.owner):
            done.set_exception(
                CommandError(
                    f"volume {spec.name}: {reason}.",
                    next_step="" if found.uuid in taken else "Use --force to take it over.",
                )
            )
            return None
        log.warning("volume %s: taking over %s as ordered (%s)", spec.name, spec.path, reason)
        remembered = self._registry.remembered(spec.name)
        generation = max(found.generation, remembered.generation if remembered else 0)
        return replace(
            found,
            owner=self._registry.owner,
            name=spec.name,
            role=spec.role.value,
            generation=generation,
        )

    def _adopted(self) -> None:
        if self._adoption is not None and not self._adoption[1].done():
            self._adoption[1].set_result(None)

    # -- falling and trying again ------------------------------------------------------------

    def _fell(self, error: VolumeError) -> None:
        if self._adoption is not None and not self._adoption[1].done():
            self._adoption[1].set_exception(error)
        now = asyncio.get_running_loop().time()
        if isinstance(error, WorkerDiedError) and self._in_service and self._died_rarely(now):
            # the process, not the disk: a new one is made at once and asked a single probe
            self._counters.add("volume_worker_deaths", volume=self.volume.name)
            self._become(VolumeState.SUSPECT, error.what)
            self._retry_s = 0.0
            return
        if self._in_service:
            self._falls.append(now)
            self._trusted = False
        self._in_service = False
        self._become(_STATE_OF_FAILURE.get(error.kind, VolumeState.OFFLINE), error.what)

    def _died_rarely(self, now: float) -> bool:
        self._deaths = [*(d for d in self._deaths if now - d < DEATHS_WINDOW_S), now]
        return len(self._deaths) <= DEATHS_LIMIT

    def _hold_s(self) -> float:
        now = asyncio.get_running_loop().time()
        self._falls = [fall for fall in self._falls if now - fall < FALLS_WINDOW_S]
        if not self._falls:
            return 0.0
        doubled: float = self._timing.hold_s * 2 ** (len(self._falls) - 1)
        return min(doubled, self._timing.hold_most_s)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._retry_s):
                await self._wake.wait()
        self._wake.clear()
        self._retry_s = min(max(self._retry_s, 0.25) * 2, self._timing.retry_most_s)

    def _let_go(self) -> None:
        volume = self.volume
        volume.served.clear()
        link, volume.link = volume.link, None
        for uuid in [uuid for uuid, name in self._claims.items() if name == volume.name]:
            del self._claims[uuid]
        if link is not None:
            # also when it answers: a worker that holds descriptors would keep a dead
            # filesystem from being unmounted
            link.lose(ErrorKind.OFFLINE, volume.reason)
            self._abandoned.append(link.process)

    async def _room_for_a_worker(self) -> None:
        """Wait while too many killed workers are stuck in the kernel: the disk still hangs."""
        while True:
            self._abandoned = [gone for gone in self._abandoned if gone.returncode is None]
            if len(self._abandoned) < ABANDONED_LIMIT:
                return
            await asyncio.wait(
                [gone.ended for gone in self._abandoned], return_when=asyncio.FIRST_COMPLETED
            )

    def _become(self, state: VolumeState, reason: str) -> None:
        volume = self.volume
        before, volume.state, volume.reason = volume.state, state, reason
        self.shown.set()
        if before is state:
            return
        level = logging.INFO if state is VolumeState.ONLINE else logging.WARNING
        log.log(level, "volume %s: %s → %s%s", volume.name, before, state, reason and f": {reason}")
        self._bus.publish(
            VolumeChanged(volume=volume.name, before=before.value, after=state.value, reason=reason)
        )
