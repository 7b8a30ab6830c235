# SPDX-License-Identifier: Apache-2.0
"""Looking after one volume: its worker, its identity, its state.

The warden collects facts, from operations, from its probe, from the kernel and from the operator,
and does what `transitions.TABLE` says of them. It knows nothing of what they mean.
"""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from scrigno.core.errors import CommandError
from scrigno.core.events import VolumeChanged, WorkerReplaced

from .entrance import Adoption, Entered, Entrance, NotLetIn
from .kernel import UNTOLD, Ear, Place, Said, View
from .link import Abandoned, WorkerDiedError, WorkerLink
from .probing import DiskNames, probe, still_ours
from .protocol import Op
from .states import ErrorKind, VolumeError, VolumeState
from .surroundings import Surroundings, Timing
from .transitions import DOWN, TABLE, Act, Damping, Fact, weigh_return

if TYPE_CHECKING:
    from .operations import Volume

__all__ = ["Timing", "Warden"]

log = logging.getLogger(__name__)

DEATHS_WINDOW_S: Final = 60.0  # a worker that dies more often than…
DEATHS_LIMIT: Final = 5  # …this is treated as a failing volume
WATCH_PARTS: Final = 5  # while it holds it is probed at every fifth look
CLOCK_SLACK_S: Final = 0.01  # a timer may fire that much early
_READS: Final = frozenset({Op.READ, Op.STAT, Op.DIGEST, Op.WALK})
_OF_OPERATIONS: Final = {
    ErrorKind.IO: Fact.OPERATION_IO_ERROR,
    ErrorKind.FULL: Fact.OPERATION_NO_SPACE,
    ErrorKind.READONLY: Fact.OPERATION_READ_ONLY,
    ErrorKind.DENIED: Fact.OPERATION_NOT_PERMITTED,
    ErrorKind.TIMEOUT: Fact.OPERATION_SILENT,
    ErrorKind.ABSENT: Fact.UNMOUNTED,
    ErrorKind.FOREIGN: Fact.IDENTITY_FOREIGN,
}  # the others say nothing of the volume
_OF_OPENING: Final = {
    ErrorKind.ABSENT: Fact.IDENTITY_ABSENT,
    ErrorKind.FOREIGN: Fact.IDENTITY_FOREIGN,
}  # anything else: it cannot be opened
_REASON_CHANGES: Final = (Act.NOTE, Act.LET_GO, Act.STOP, Act.PROVE_AGAIN)


class Warden:
    """Owns one volume's worker and state; one task. Loop thread only."""

    def __init__(self, volume: "Volume", around: Surroundings) -> None:
        """Start nothing yet."""
        self.volume = volume
        self.shown = asyncio.Event()  # set when the first state is known
        self.place: Place | None = None  # while it is in service: where the kernel is to look
        self._around = around
        self._timing = around.timing
        self._loop = asyncio.get_running_loop()
        self._entrance = Entrance(
            volume,
            registry=around.registry,
            regaining=around.regaining,
            claims=around.claims,
            kernel=around.kernel,
            clock=around.clock,
        )
        self._damping = Damping(first_s=self._timing.hold_s, most_s=self._timing.hold_most_s)
        self._ear: Ear | None = None
        self._link: WorkerLink | None = None  # also before it is in service
        self._abandoned = Abandoned()
        self._deaths: list[float] = []
        self._leave: Act | None = None  # LET_GO, REPLACE or STOP: this time of service is over
        self._stopped = False  # by the operator
        self._wake = asyncio.Event()
        self._retry_s = self._timing.retry_s
        self._look = False  # probe, whatever else
        self._ask = False  # ask the worker whether path and marker are as they were
        self._proofs = 0
        self._well_since = 0.0  # in RECOVERING: nothing went wrong since
        self._probed_at = 0.0
        self._adoption: Adoption | None = None  # an order that waits
        self._ordered: Adoption | None = None  # the one this time of service began with
        self._disks = DiskNames(volume, around.devices_of)
        self._task: asyncio.Task[None] | None = None
        volume.on_error = self._heard
        volume.on_low_space = self._low_space

    # -- from outside ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look after it."""
        self._task = self._loop.create_task(
            self._look_after(), name=f"warden of {self.volume.name}"
        )

    async def close(self) -> None:
        """Stop, and let the worker go. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._disks.close()
        self._entrance.leave()
        link, self._link, self.volume.link = self._link, None, None
        self.volume.set_served(served=False)
        if link is not None:
            await link.close()
        await self.gone()

    async def gone(self) -> None:
        """Wait a moment until workers that were let go have ended and hold nothing open."""
        await self._abandoned.gone(self._link)

    def mounts_changed(self) -> None:
        """Check, or try again, at once."""
        self._happened(Fact.MOUNTS_CHANGED)

    def hear(self, view: View) -> None:
        """Hear what the kernel says of it now."""
        link, ear = self.volume.link, self._ear
        if link is None or ear is None:
            return
        for said in ear.hear(view, silent_s=link.silent_s()):
            self._happened(said.fact, said.words)
        if view.kind in UNTOLD:
            self._ask = True
            self.volume.doubt.set()

    def stop(self, fact: Fact, words: str) -> None:
        """Take it out of service until `resume` (PAUSED) or `adopt` (RETIRED)."""
        self._stopped = True
        self._happened(fact, words)

    def resume(self) -> None:
        """Let it prove itself and come back."""
        self._stopped = False
        self._happened(Fact.RESUMED)

    def force(self) -> None:
        """Do not wait for it to hold; it must still be the right one, prove itself and catch up."""
        self._happened(Fact.FORCED)

    async def adopt(self, *, force: bool) -> None:
        """Make what stands at the path this volume; raises CommandError or VolumeError."""
        if self._adoption is not None:
            raise CommandError(f"volume {self.volume.name}: it is being adopted already.")
        adoption = self._adoption = Adoption(force=force)
        self._stopped = False
        self._happened(Fact.ADOPTED)
        try:
            async with asyncio.timeout(3 * self._timing.op_timeout_s):
                await adoption.done
        except TimeoutError as error:
            raise VolumeError(
                self.volume.name, ErrorKind.TIMEOUT, "it does not answer, it was not adopted"
            ) from error
        finally:
            self._adoption = None

    # -- facts and what follows --------------------------------------------------------------

    def _happened(self, fact: Fact, words: str = "") -> None:
        """Do what the table says."""
        volume, now = self.volume, self._loop.time()
        step = TABLE[volume.state, fact]
        if step.state is not volume.state:
            if step.act is not Act.STOP:  # an operator's wish is no failure
                self._damping.note(volume.state, step.state, now)
            if step.state is VolumeState.RECOVERING:
                self._proofs, self._well_since = 0, now
            self._become(step.state, "" if step.state is VolumeState.ONLINE else words or fact)
        elif step.act in _REASON_CHANGES:
            volume.reason = words or fact
        match step.act:
            case Act.LOOK:
                self._look = True
                volume.doubt.set()
            case Act.PROVE:
                self._proofs += 1
            case Act.PROVE_AGAIN:
                self._proofs, self._well_since = 0, now
            case Act.UNHOLD:
                self._damping.forget()
                self._look = True
                volume.doubt.set()
                self._wake.set()
            case Act.TRY:
                self._wake.set()
            case Act.REPLACE | Act.LET_GO | Act.STOP:
                self._proofs, self._well_since = 0, now
                self._depart(step.act)
            case Act.NOTHING | Act.NOTE:
                pass

    def _depart(self, act: Act) -> None:
        self._leave = act
        volume, link = self.volume, self._link
        volume.link = None
        volume.set_served(served=False)
        if link is not None:
            link.lose(ErrorKind.OFFLINE, volume.reason)  # whatever waits for it goes elsewhere
        volume.doubt.set()
        if act is Act.STOP:
            self._wake.set()

    def _become(self, state: VolumeState, reason: str) -> None:
        volume = self.volume
        before, volume.state, volume.reason = volume.state, state, str(reason)
        volume.since_s, volume.since = self._loop.time(), self._around.clock.now()
        self.shown.set()
        level = logging.INFO if state is VolumeState.ONLINE else logging.WARNING
        log.log(level, "volume %s: %s → %s%s", volume.name, before, state, reason and f": {reason}")
        self._around.bus.publish(
            VolumeChanged(
                volume=volume.name, before=before.value, after=state.value, reason=volume.reason
            )
        )

    def _heard(self, error: VolumeError, op: Op | None) -> None:
        """React to an operation that failed; the probe that follows has the last word."""
        fact = _OF_OPERATIONS.get(error.kind)
        if fact is None:
            return
        if isinstance(error, WorkerDiedError):
            self.volume.doubt.set()
        elif op in _READS and error.kind in (ErrorKind.IO, ErrorKind.DENIED):
            self._happened(Fact.READ_ERROR, error.what)
        elif self.volume.link is not None:  # else it is late: what it tells is known
            self._happened(fact, error.what)

    def _low_space(self) -> None:
        if self.volume.state is VolumeState.ONLINE:
            self._look = True
            self.volume.doubt.set()

    def _link_lost(self, failure: VolumeError) -> None:
        if self.volume.state in DOWN:  # it was not in service yet
            self._happened(Fact.OPENING_FAILED, failure.what)
            return
        if not isinstance(failure, WorkerDiedError):
            self._happened(Fact.OPERATION_SILENT, failure.what)
            return
        self._around.counters.add("volume_worker_deaths", volume=self.volume.name)
        now = self._loop.time()
        self._deaths = [*(d for d in self._deaths if now - d < DEATHS_WINDOW_S), now]
        # the process, not the disk: a new one is made at once and asked a single probe
        often = len(self._deaths) > DEATHS_LIMIT
        worker = f"volume {self.volume.name}"
        self._around.bus.publish(WorkerReplaced(worker=worker, reason=failure.what))
        self._happened(Fact.WORKER_KEEPS_DYING if often else Fact.WORKER_DIED, failure.what)

    # -- the life of a volume ----------------------------------------------------------------

    async def _look_after(self) -> None:
        while True:
            if self._stopped:
                await self._wake.wait()
                self._wake.clear()
                continue
            try:
                await self._serve()
            except Exception as error:  # of our own side: no process, no state directory, a fault
                log.exception("volume %s: looking after it failed", self.volume.name)
                self._happened(Fact.OPENING_FAILED, str(error))
            self._let_go()
            await self._pause()

    async def _serve(self) -> None:
        """Start a worker, identify, prove, then watch; returns when the table says LET_GO."""
        await self._abandoned.room()
        if self._stopped:
            return
        volume = self.volume
        volume.doubt.clear()
        self._wake.clear()
        self._leave = None
        link = self._link = WorkerLink(
            volume.name,
            volume.spec.path,
            op_timeout_s=self._timing.op_timeout_s,
            lost=volume.doubt,
        )
        entered = await self._enter(link)
        if entered is None or self._leave is not None:
            return
        self.place = entered.place
        if entered.view is not None:
            self._ear = Ear(
                entered.view,
                accepted_errors=entered.accepted_errors,
                hang_s=self._timing.hang_s,
            )
        said = await self._probed(link)
        answers = said.fact is not Fact.PROBE_IO_ERROR
        if answers and self._goes_on(link):
            await self._disks.learn(entered.place.path)
        if answers and self._goes_on(link):
            volume.link = link
            self._happened(Fact.IDENTITY_OURS, "it answers again and is being watched")
        self._told(link, said)
        if self._leave is None:
            volume.set_served(served=True)
            if self._ordered is not None:
                self._ordered.succeed()
        while self._leave is None:
            await self._watch(link)

    def _goes_on(self, link: WorkerLink) -> bool:
        return self._leave is None and link.failure is None

    async def _enter(self, link: WorkerLink) -> Entered | None:
        ordered = self._ordered = self._adoption
        try:
            return await self._entrance.enter(link, ordered)
        except NotLetIn as refused:
            self._happened(refused.fact, refused.words)
        except VolumeError as error:
            if self._leave is None and isinstance(link.failure, WorkerDiedError):
                self._link_lost(link.failure)
            if self._leave is None:
                self._happened(_OF_OPENING.get(error.kind, Fact.OPENING_FAILED), error.what)
        return None

    async def _watch(self, link: WorkerLink) -> None:
        """Wait for a doubt or for the next look, and look."""
        recovering = self.volume.state is VolumeState.RECOVERING
        doubted = await self._doubt_within(
            min(self._timing.proof_every_s, self._due_in_s()) if recovering else self._due_in_s()
        )
        if self._leave is not None:
            return
        if link.failure is not None:
            self._link_lost(link.failure)
            return
        if self._adoption is not None:
            self._adoption.succeed()  # it is ours already
        if self._look or (doubted and not self._ask) or self._is_due(link):
            self._told(link, await self._probed(link))
        elif self._ask:
            self._ask = False
            self._told(link, await still_ours(link))
        if recovering and self._leave is None:
            self._weigh_return()
        self._retry_s = self._timing.retry_s

    async def _doubt_within(self, seconds: float) -> bool:
        doubt = self.volume.doubt
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await doubt.wait()
        except TimeoutError:
            return False
        doubt.clear()
        return True

    def _due_in_s(self) -> float:
        """Return when the next probe is due."""
        timing = self._timing
        match self.volume.state:
            case VolumeState.RECOVERING if self._proofs >= timing.proofs:
                every_s = timing.proof_every_s * WATCH_PARTS
            case VolumeState.RECOVERING | VolumeState.SUSPECT:
                every_s = timing.proof_every_s
            case _:
                every_s = timing.probe_every_s
        return self._probed_at + every_s - self._loop.time()

    def _is_due(self, link: WorkerLink) -> bool:
        if self._due_in_s() > CLOCK_SLACK_S:
            return False
        fresh = self._loop.time() - link.last_write < self._timing.fresh_write_s
        if fresh and self.volume.state is VolumeState.ONLINE:
            self._probed_at = self._loop.time()  # a real write stands for a probe
            return False
        return True

    def _weigh_return(self) -> None:
        now, timing = self._loop.time(), self._timing
        held_s, hold_s = now - self._well_since, self._damping.hold_s(now)
        fact = weigh_return(
            proofs=self._proofs,
            wanted=timing.proofs,
            held_s=held_s,
            hold_s=hold_s,
            caught_up=self._around.caught_up(self.volume.name),
        )
        words = {
            Fact.NOT_PROVED: f"it answers again: {self._proofs} of {timing.proofs} probes are good",
            Fact.NOT_HELD: f"it answers again and is being watched: {held_s:.0f} of {hold_s:.0f} s",
            Fact.NOT_CAUGHT_UP: "it is well and gets the images it has missed",
        }
        self._happened(fact, words.get(fact, ""))

    async def _probed(self, link: WorkerLink) -> Said:
        self._look = self._ask = False
        self._probed_at = self._loop.time()
        probed = await probe(
            self.volume,
            link,
            ear=self._ear,
            slow_s=self._timing.slow_probe_s,
            flapping=self._damping.flapping(self._probed_at),
        )
        if probed.vanished:
            words = f"{probed.vanished} folders were removed here by somebody else"
            log.warning("volume %s: %s", self.volume.name, words)
            self._around.counters.add(
                "volume_folders_vanished", probed.vanished, volume=self.volume.name
            )
            self._happened(Fact.FOLDERS_VANISHED, words)
        return probed.said

    def _told(self, link: WorkerLink, said: Said | None) -> None:
        """Take in what a probe or a check said, or that the link was lost by it."""
        if self._leave is not None:
            return
        if link.failure is not None:
            self._link_lost(link.failure)
        elif said is not None:
            self._happened(said.fact, said.words)

    # -- leaving and trying again ------------------------------------------------------------

    def _let_go(self) -> None:
        volume, link = self.volume, self._link
        volume.link = self._link = self._ear = self.place = None
        ordered, self._ordered = self._ordered, None
        if ordered is not None:
            ordered.fail(VolumeError(volume.name, ErrorKind.OFFLINE, volume.reason))
        volume.set_served(served=False)
        self._look = self._ask = False
        self._entrance.leave()
        if link is not None:
            # also when it answers: a worker that holds descriptors would keep a dead
            # filesystem from being unmounted
            link.lose(ErrorKind.OFFLINE, volume.reason)
            self._abandoned.add(link)
        if volume.state in DOWN:
            volume.settled.set()  # nobody need wait for a new worker

    async def _pause(self) -> None:
        if self._leave is Act.REPLACE:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._retry_s):
                await self._wake.wait()
        self._wake.clear()
        self._retry_s = min(max(self._retry_s, 0.25) * 2, self._timing.retry_most_s)
