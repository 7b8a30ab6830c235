# SPDX-License-Identifier: Apache-2.0
"""One association, either role: messages in and out, operations, sinks."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from scrigno.core.counters import Counters

from . import commandset, dimse
from .errors import UnreadablePdu
from .fsm import TABLE, Event, State
from .invoker import Invoker
from .limits import Limits
from .pdu import (
    INVALID_PARAMETER,
    UNEXPECTED_PARAMETER,
    ReceivedAcceptance,
    ReceivedRequest,
)
from .performer import Performer
from .service import (
    Acceptance,
    AcceptedContext,
    AssociationHandler,
    AssociationRequest,
    CloseReason,
    Command,
    Rejection,
)
from .upper import UpperLayer

if TYPE_CHECKING:
    from .incoming import Incoming

log = logging.getLogger(__name__)

# How an end is logged; what the peer or the network did in between is no fault of the box.
_LEVELS: Final = {
    CloseReason.RELEASED: logging.DEBUG,
    CloseReason.PROTOCOL_ERROR: logging.WARNING,
    CloseReason.TIMEOUT: logging.WARNING,
}
_COMMAND_BIT: Final = 1
_LAST_BIT: Final = 2


class Association(Invoker):
    """What the room above holds of an association. Loop thread only."""

    def __init__(
        self,
        *,
        upper: UpperLayer,
        request: AssociationRequest,
        acceptance: Acceptance,
        peer_max_pdu: int,
        limits: Limits,
        counters: Counters,
        over: Callable[["Association"], None] | None = None,
    ) -> None:
        invokes, performs = _windows(request, acceptance, limits, requestor=upper.requestor)
        most = limits.max_sent_pdu
        super().__init__(
            upper,
            max_pdu=min(peer_max_pdu or most, most),
            window=invokes,
            limits=limits,
            counters=counters,
        )
        self.request = request
        self.acceptance = acceptance
        self.peer = upper.peer
        self.peer_max_pdu = peer_max_pdu
        self.contexts = _accepted(request, acceptance, requestor=upper.requestor)
        self._over = over
        self._performer = Performer(self, window=performs, max_identifier=limits.max_identifier)
        self._release_wanted = False
        # What arrives: a command set in pieces, then its data set.
        self._command_bytes = bytearray()
        self._command_context = 0
        self._incoming: Incoming | None = None
        self._counted_bytes = 0

    @override
    def __repr__(self) -> str:
        request = self.request
        return (
            f"<Association {request.calling_ae!r} to {request.called_ae!r},"
            f" {self.peer.host}:{self.peer.port}, {self._ended or 'alive'}>"
        )

    # -- what it is ---------------------------------------------------------------------------

    @property
    def end(self) -> tuple[CloseReason, str] | None:
        """Return why it ended, with words for the log, or None while it lasts."""
        return None if self._ended is None else (self._ended, self._ended_words)

    @property
    def busy(self) -> bool:
        """Tell whether requests run, in either direction."""
        return self._performer.busy or self._waits_for_answers

    @property
    def inside_message(self) -> bool:
        """Tell whether the peer has begun a message and not ended it."""
        return self._incoming is not None or bool(self._command_bytes)

    def attach(self, handler: AssociationHandler) -> None:
        """Have `handler` serve what the peer asks; told at once if it is over already."""
        self._performer.handler = handler
        if self._ended is not None:
            self._tell_closed(self._ended)

    # -- the upper layer's user ---------------------------------------------------------------

    def associate_indicated(self, received: ReceivedRequest) -> Rejection | None:
        """Cannot happen: table 9-10 sends a second A-ASSOCIATE-RQ to AA-8."""
        raise AssertionError

    def associate_confirmed(self, received: ReceivedAcceptance) -> None:
        """Cannot happen: table 9-10 sends a second A-ASSOCIATE-AC to AA-8."""
        raise AssertionError

    def associate_refused(self, rejection: Rejection) -> None:
        """Cannot happen: table 9-10 sends a late A-ASSOCIATE-RJ to AA-8."""
        raise AssertionError

    def data_indicated(
        self, context_id: int, control: int, piece: memoryview, *, complete: bool
    ) -> None:
        """Take a piece of a command set or data set; raises UnreadablePdu (PS3.8 annex E.2)."""
        last = complete and bool(control & _LAST_BIT)
        if control & _COMMAND_BIT:
            self._take_command(context_id, piece, last=last)
            return
        incoming = self._incoming
        if incoming is None or incoming.command.context_id != context_id:
            raise UnreadablePdu("data set without its command set", UNEXPECTED_PARAMETER)
        incoming.write(piece)
        if last:
            self._incoming = None
            self._count_bytes()
            incoming.end()

    def release_indicated(self) -> None:
        """Answer the peer's release as soon as complete objects are answered (Sta8)."""
        self._release_wanted = True
        self._performer.cancel_operations()
        self._release_if_done()

    def ended(self, reason: CloseReason, words: str) -> None:
        """Clean up, once: sink, operations, our requests; then tell the handler."""
        if self._ended is not None:
            return
        self._ended, self._ended_words = reason, words
        self._count_bytes()
        self._counters.add("dicom_associations_closed", reason=reason.value)
        log.log(_LEVELS.get(reason, logging.INFO), "association %r: %s", self, words or "over")
        if self._incoming is not None:
            incoming, self._incoming = self._incoming, None
            try:
                incoming.discard(reason.value)
            except Exception:
                log.exception("association %r: the sink failed to discard", self)
        self._command_bytes = bytearray()
        self._performer.cancel_operations()
        self._lose_requests(self._lost_words())
        self._tell_closed(reason)
        self.writable()
        if self._over is not None:
            self._over(self)

    def _tell_closed(self, reason: CloseReason) -> None:
        handler, self._performer.handler = self._performer.handler, None
        if handler is None:
            return
        try:
            handler.closed(reason)
        except Exception:
            log.exception("association %r: its handler failed to close", self)

    def _count_bytes(self) -> None:
        received = self._upper.watch.received_bytes
        self._counters.add("dicom_received_bytes", received - self._counted_bytes)
        self._counted_bytes = received

    # -- messages that arrive -----------------------------------------------------------------

    def _take_command(self, context_id: int, piece: memoryview, *, last: bool) -> None:
        collected = self._command_bytes
        if self._incoming is not None:
            raise UnreadablePdu("command set inside a data set", UNEXPECTED_PARAMETER)
        if context_id not in self.contexts:
            raise UnreadablePdu(f"context {context_id} was not accepted", INVALID_PARAMETER)
        if collected and context_id != self._command_context:
            raise UnreadablePdu("two command sets interleaved", UNEXPECTED_PARAMETER)
        if len(collected) + len(piece) > self._limits.max_command:
            raise UnreadablePdu(f"command set over {self._limits.max_command} bytes")
        if last and not collected:
            self._take_message(commandset.decode_command(bytes(piece), context_id))
            return
        self._command_context = context_id
        collected += piece
        if last:
            complete = bytes(collected)
            self._command_bytes = bytearray()
            self._take_message(commandset.decode_command(complete, context_id))

    def _take_message(self, command: Command) -> None:
        if command.field & dimse.RESPONSE:
            self._incoming = self._take_response(command)
        elif command.field == dimse.C_CANCEL_RQ:
            self._incoming = self._performer.take_cancel(command)
        else:
            self._incoming = self._performer.take(command)

    def hold(self) -> None:
        """A request beyond the window waits: nothing more is read."""
        self._upper.hold()

    def go_on(self, beyond: Command) -> None:
        """There is room for the request that waited."""
        if self._ended is None:
            self._incoming = self._performer.take(beyond)
            self._upper.release_hold()

    def pause_reading(self, why: object) -> None:
        """A sink is over its high-water mark."""
        self._upper.pause(why)

    def resume_reading(self, why: object) -> None:
        """The sink is below its low-water mark; harmless after the end."""
        self._upper.resume(why)

    def request_over(self) -> None:
        """A request of the peer's was answered, or never will be."""
        self._release_if_done()
        if not self.busy:
            self.writable()

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self._counters.add(name)

    def _release_if_done(self) -> None:
        if (
            self._release_wanted
            and not self._performer.finishing
            and (Event.RELEASE_RESPONSE, self._upper.state) in TABLE
        ):
            self._upper.fire(Event.RELEASE_RESPONSE)

    # -- the end ------------------------------------------------------------------------------

    async def release(self, *, timeout_s: float | None = None) -> None:
        """Send A-RELEASE-RQ and wait until the association is over; never raises for that.

        A peer that does not answer within `timeout_s` (default: the ARTIM time) is aborted.
        """
        if self._upper.state is State.STA6:
            self._upper.fire(Event.RELEASE_REQUEST)
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self._ended is not None)
        except TimeoutError:
            self._upper.abort(CloseReason.TIMEOUT, "the release was not answered in time")
        await self._upper.wait_closed()

    async def quiet(self) -> None:
        """Wait until no request runs and no message is half there, or the association is over."""
        await self._until(lambda: self._ended is not None or not (self.busy or self.inside_message))

    @property
    def has_tasks(self) -> bool:
        """Tell whether `finish` of a complete object, or a cancelled operation, still runs."""
        return bool(self._performer.tasks)

    def when_tasks_done(self, call: Callable[["Association"], None]) -> None:
        """Call once when `has_tasks` turns false."""

        def done(_: object) -> None:
            if not self.has_tasks:
                call(self)

        for task in self._performer.tasks:
            task.add_done_callback(done)

    async def wait_tasks(self) -> None:
        """Wait for what still runs: `finish` of complete objects, and cancelled operations."""
        while self._performer.tasks:
            await asyncio.wait(self._performer.tasks)

    def cancel_tasks(self) -> None:
        """Cancel what still runs, `finish` included; the server's last resort."""
        for task in tuple(self._performer.tasks):
            task.cancel()


def _accepted(
    request: AssociationRequest, acceptance: Acceptance, *, requestor: bool
) -> Mapping[int, AcceptedContext]:
    """Return the contexts in force with our roles (PS3.7 annex D.3.3.4)."""
    contexts: dict[int, AcceptedContext] = {}
    for proposed in request.contexts:
        syntax = acceptance.contexts.get(proposed.context_id)
        if not isinstance(syntax, str) or syntax not in proposed.transfer_syntaxes:
            continue
        scu, scp = True, False  # of the requestor, without role selection
        uid = proposed.abstract_syntax
        if uid in request.roles and uid in acceptance.roles:
            scu = request.roles[uid][0] and acceptance.roles[uid][0]
            scp = request.roles[uid][1] and acceptance.roles[uid][1]
        contexts[proposed.context_id] = AcceptedContext(
            proposed.context_id,
            uid,
            syntax,
            as_scu=scu if requestor else scp,
            as_scp=scp if requestor else scu,
        )
    return contexts


def _windows(
    request: AssociationRequest, acceptance: Acceptance, limits: Limits, *, requestor: bool
) -> tuple[int, int]:
    """Return how many requests we may have outstanding, and how many the peer (D.3.3.3)."""
    if request.async_ops is None or acceptance.async_ops is None:
        return 1, 1
    invoked, performed = (
        min(agreed or limits.max_operations, limits.max_operations)
        for agreed in acceptance.async_ops
    )
    return (invoked, performed) if requestor else (performed, invoked)
