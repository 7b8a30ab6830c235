# SPDX-License-Identifier: Apache-2.0
"""One connection and its state machine: PDUs in and out, timers, flow control.

The table is `fsm.TABLE`; the methods `_ae1` to `_aa8` are its actions. The state is set to the
action's usual next state before the action runs, because telling the user may make the user
answer at once.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from typing_extensions import override

from .errors import UnreadablePdu
from .framing import PduReader
from .fsm import MAY_SEND_DATA, NEXT_STATES, TABLE, TAKES_DATA, Action, Event, State
from .limits import Limits
from .pdu import (
    NOT_SPECIFIED,
    RELEASE_RP,
    RELEASE_RQ,
    SERVICE_PROVIDER,
    SERVICE_USER,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    PduType,
    ReceivedAcceptance,
    ReceivedRequest,
    decode_abort,
    decode_associate_ac,
    decode_associate_rj,
    decode_associate_rq,
    encode_abort,
    encode_associate_rj,
)
from .service import CloseReason, PeerAddress, Rejection
from .watch import Watch

log = logging.getLogger(__name__)

_RECEIVED: Final = {
    PduType.ASSOCIATE_RQ: Event.ASSOCIATE_RQ_RECEIVED,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC_RECEIVED,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ_RECEIVED,
    PduType.P_DATA_TF: Event.DATA_RECEIVED,
    PduType.RELEASE_RQ: Event.RELEASE_RQ_RECEIVED,
    PduType.RELEASE_RP: Event.RELEASE_RP_RECEIVED,
    PduType.ABORT: Event.ABORT_RECEIVED,
}
_ARTIM_RUNS: Final = frozenset({State.STA2, State.STA13})
# Waiting for the peer's next step of a release, which has no timer in the paper.
_RELEASING: Final = frozenset({State.STA7, State.STA9, State.STA10, State.STA11, State.STA12})

_WRITE_HIGH: Final = 256 * 1024
_WRITE_LOW: Final = 64 * 1024
_KEEPALIVE: Final = (60, 15, 4)  # seconds of silence, seconds between probes, probes
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class ImpossibleEvent(RuntimeError):
    """Our own fault: an event in a state in which table 9-10 has no cell for it."""


class ReceiveBuffer:
    """The bytes a read fills; shared by all connections of one loop.

    The loop reads into it and hands it to the protocol within one call, so no connection ever
    sees another's bytes, and an idle connection holds no buffer at all.
    """

    def __init__(self, size: int = 256 * 1024) -> None:
        self.view = memoryview(bytearray(size))


class UpperLayerUser(Protocol):
    """The service user of PS3.8 section 7: it is told, and it answers by `UpperLayer.fire`."""

    def associate_indicated(self, received: ReceivedRequest) -> Rejection | None:
        """Take an A-ASSOCIATE-RQ; a Rejection says that the provider cannot accept it (AE-6)."""

    def associate_confirmed(self, received: ReceivedAcceptance) -> None:
        """The peer sent A-ASSOCIATE-AC."""

    def associate_refused(self, rejection: Rejection) -> None:
        """The peer sent A-ASSOCIATE-RJ."""

    def data_indicated(
        self, context_id: int, control: int, piece: memoryview, *, complete: bool
    ) -> None:
        """Take a piece of a fragment; the view dies when this returns."""

    def release_indicated(self) -> None:
        """The peer wants to release."""

    def ended(self, reason: CloseReason, words: str) -> None:
        """The association, or the attempt at one, is over."""

    def writable(self) -> None:
        """The peer reads again, or never will; whoever waited may look."""

    @property
    def busy(self) -> bool:
        """Tell whether the peer waits for us, so that its silence means nothing."""

    @property
    def inside_message(self) -> bool:
        """Tell whether the peer has begun a message and not ended it."""


class UpperLayer(asyncio.BufferedProtocol):
    """The DICOM upper layer of one connection, either role. Loop thread only."""

    def __init__(
        self,
        *,
        user: UpperLayerUser,
        limits: Limits,
        receive_buffer: ReceiveBuffer,
        requestor: bool,
        request_pdu: bytes = b"",
        made: Callable[["UpperLayer"], None] | None = None,
        gone: Callable[["UpperLayer"], None] | None = None,
    ) -> None:
        self.user = user
        self.state = State.STA1
        self.requestor = requestor
        self.peer = PeerAddress("", 0)
        self.watch = Watch(limits)
        self.write_paused = False
        self._limits = limits
        self._buffer = receive_buffer
        self._reader = PduReader(self, limits)
        self._made = made
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._quick_ack: Callable[[int, int, int], None] | None = None
        self._ended = False
        # Why reading is paused; empty when it is not.
        self._paused: set[object] = set()
        self._tls = False
        self._request_pdu = request_pdu
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # of ARTIM in Sta2 and Sta13, of the release in `_RELEASING`
        self._closed: asyncio.Event = asyncio.Event()

    # -- the transport ------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH, low=_WRITE_LOW)
        address = transport.get_extra_info("peername")
        if address:
            self.peer = PeerAddress(str(address[0]), int(address[1]))
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._tune(transport.get_extra_info("socket"))
        self.watch.restart(self._loop.time())
        if self.requestor:
            self.fire(Event.TRANSPORT_CONFIRMED)
        else:
            self.fire(Event.TRANSPORT_INDICATED)
        if self._made is not None:
            self._made(self)

    def _tune(self, sock: Any) -> None:
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        idle, interval, probes = _KEEPALIVE
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
        if _QUICKACK is not None:
            self._quick_ack = sock.setsockopt

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer.view

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self.watch.heard(self._loop.time(), nbytes, under_way=self._inside)
        if self._quick_ack is not None:
            # Senders have Nagle on: without this each image waits 40 ms for our delayed ACK.
            # The kernel falls back to delayed ACKs by itself, so it is said after each read.
            try:
                self._quick_ack(socket.IPPROTO_TCP, _QUICKACK or 0, 1)
            except OSError:
                self._quick_ack = None  # the peer is gone, as the next read will tell
        try:
            self._reader.feed(self._buffer.view[:nbytes])
        except UnreadablePdu as error:
            self.unreadable(error)
        if self._reader.tired:
            self._rest()

    def _rest(self) -> None:
        """Let the others have their turn before the reader goes on."""
        self.pause(self._rested)
        self._loop.call_soon(self._rested)

    def _rested(self) -> None:
        try:
            self._reader.go_on()
        except UnreadablePdu as error:
            self.unreadable(error)
        if self._reader.tired:
            self._loop.call_soon(self._rested)
        else:
            self.resume(self._rested)

    def unreadable(self, error: UnreadablePdu) -> None:
        """The peer sent what is no PDU or no message: Evt19. Nothing more is read."""
        self._reader.swallow()
        if self.state is not State.STA1:
            self.fire(Event.INVALID_PDU, error)

    @override
    def eof_received(self) -> bool:
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self.state is not State.STA1:
            words = type(exc).__name__ if exc is not None else "the peer closed the connection"
            self.fire(Event.TRANSPORT_CLOSED, words)
        self._stop_timer()
        self._transport = None
        self._quick_ack = None
        self.write_paused = False
        self.user.writable()
        self._closed.set()
        if self._gone is not None:
            self._gone(self)

    @override
    def pause_writing(self) -> None:
        self.write_paused = True
        self.watch.writing_stopped()

    @override
    def resume_writing(self) -> None:
        self.write_paused = False
        self.user.writable()

    # -- PDUs of the reader -------------------------------------------------------------------

    def pdu_received(self, kind: PduType, body: bytes) -> None:
        """Fire the event of a PDU that is not P-DATA-TF."""
        if self.state is not State.STA1:
            self.fire(_RECEIVED[kind], self._decoded(kind, body))

    def _decoded(self, kind: PduType, body: bytes) -> Any:
        """Return what the event is about; a PDU that is out of place is not looked into."""
        match kind, self.state:
            case PduType.ASSOCIATE_RQ, State.STA2:
                return decode_associate_rq(body, peer=self.peer, limits=self._limits, tls=self._tls)
            case PduType.ASSOCIATE_AC, State.STA5:
                return decode_associate_ac(body)
            case PduType.ASSOCIATE_RJ, State.STA5:
                return decode_associate_rj(body)
            case PduType.ABORT, _:
                return decode_abort(body)
            case _:
                return None

    def data_pdu_begins(self) -> bool:
        """Fire Evt10 when a P-DATA-TF is out of place; True when its data is wanted."""
        if self.state in TAKES_DATA:
            return True
        if self.state is not State.STA1:
            self.fire(Event.DATA_RECEIVED)
        return False

    def fragment_received(
        self, context_id: int, control: int, piece: memoryview, *, complete: bool
    ) -> None:
        """DT-2 and AR-6: hand data to the user."""
        if self.state in TAKES_DATA:
            self.user.data_indicated(context_id, control, piece, complete=complete)

    # -- for the user -------------------------------------------------------------------------

    def fire(self, event: Event, argument: Any = None) -> None:
        """Do what table 9-10 says; ImpossibleEvent where it is empty."""
        action = TABLE.get((event, self.state))
        if action is None:
            raise ImpossibleEvent(f"{event.name} in {self.state.name}")
        before = self.state
        self.state = NEXT_STATES[action][0]
        _ACTIONS[action](self, event, argument)
        if before is not self.state and self.state in _ARTIM_RUNS | _RELEASING | {State.STA6}:
            self._arm()

    def send_data(self, pdus: bytes) -> bool:
        """DT-1 and AR-7: write whole P-DATA-TF PDUs; False when the state forbids it."""
        if self.state not in MAY_SEND_DATA:
            return False
        self._write(pdus)
        return True

    def abort(
        self,
        reason: CloseReason,
        words: str,
        *,
        source: int = SERVICE_USER,
        reason_code: int = NOT_SPECIFIED,
    ) -> None:
        """End the association from our side, whatever its state; nothing happens twice."""
        if self.state in (State.STA1, State.STA13):
            return
        if self.state is State.STA2:
            self.fire(Event.ARTIM_EXPIRED)
            return
        self.fire(Event.ABORT_REQUEST, (reason, words, source, reason_code))

    async def wait_closed(self) -> None:
        """Wait until the connection is gone; our side closes it after the ARTIM time at most."""
        await self._closed.wait()

    def drop(self) -> None:
        """Close the connection at once, without a word."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self, why: object) -> None:
        """Stop reading until every `why` is resumed."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._paused.add(why)

    def resume(self, why: object) -> None:
        """Read again if nothing else stops it; harmless when `why` does not."""
        if why not in self._paused:
            return
        self._paused.discard(why)
        if self._paused:
            return
        self.watch.restart(self._loop.time())
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def hold(self) -> None:
        """Neither read nor deliver anything after the piece in hand until `release_hold`."""
        if not self._reader.held:
            self._reader.hold()
            self.pause(self._reader)

    def release_hold(self) -> None:
        """Deliver what was held back and read again."""
        if not self._reader.held:
            return
        try:
            self._reader.resume()
        except UnreadablePdu as error:
            self.unreadable(error)
        if self._reader.tired:
            self._rest()
        if not self._reader.held:
            self.resume(self._reader)

    # -- actions (PS3.8 tables 9-6 to 9-9) ----------------------------------------------------

    def _ae1(self, event: Event, argument: Any) -> None:
        """The connection is opened by `client.connect`, which then makes it known as Evt2."""

    def _ae2(self, event: Event, argument: Any) -> None:
        self._write(self._request_pdu)

    def _ae3(self, event: Event, argument: Any) -> None:
        self.user.associate_confirmed(argument)

    def _ae4(self, event: Event, argument: Any) -> None:
        self.user.associate_refused(argument)
        self._close()

    def _ae5(self, event: Event, argument: Any) -> None:
        self._start_artim()

    def _ae6(self, event: Event, argument: Any) -> None:
        self._stop_timer()
        rejection = self.user.associate_indicated(argument)
        if rejection is not None:
            self.state = State.STA13
            self._ae8(event, encode_associate_rj(rejection))

    def _ae7(self, event: Event, argument: Any) -> None:
        self._write(argument)

    def _ae8(self, event: Event, argument: Any) -> None:
        self._write(argument)
        self._start_artim()

    def _dt1(self, event: Event, argument: Any) -> None:
        self._write(argument)

    def _dt2(self, event: Event, argument: Any) -> None:
        """Data goes to the user by `fragment_received`, piece by piece."""

    def _ar1(self, event: Event, argument: Any) -> None:
        self._write(RELEASE_RQ)

    def _ar2(self, event: Event, argument: Any) -> None:
        self.user.release_indicated()

    def _ar3(self, event: Event, argument: Any) -> None:
        self._tell_ended(CloseReason.RELEASED, "")
        self._close()

    def _ar4(self, event: Event, argument: Any) -> None:
        self._write(RELEASE_RP)
        self._start_artim()
        self._tell_ended(CloseReason.RELEASED, "")

    def _ar5(self, event: Event, argument: Any) -> None:
        self._stop_timer()

    def _ar8(self, event: Event, argument: Any) -> None:
        if not self.requestor:
            self.state = State.STA10
        self.user.release_indicated()

    def _ar9(self, event: Event, argument: Any) -> None:
        self._write(RELEASE_RP)

    def _ar10(self, event: Event, argument: Any) -> None:
        self.user.release_indicated()

    def _aa1(self, event: Event, argument: Any) -> None:
        if event is Event.ABORT_REQUEST:
            reason, words, source, code = argument
        else:
            reason, words = CloseReason.PROTOCOL_ERROR, _words(event, argument)
            source, code = SERVICE_USER, NOT_SPECIFIED
        self._write(encode_abort(source, code))
        self._start_artim()
        self._tell_ended(reason, words)

    def _aa2(self, event: Event, argument: Any) -> None:
        self._stop_timer()
        match event:
            case Event.ABORT_REQUEST:
                self._tell_ended(argument[0], argument[1])
            case Event.ABORT_RECEIVED:
                self._tell_ended(CloseReason.ABORTED_BY_PEER, "before it asked for an association")
            case _:
                self._tell_ended(CloseReason.TIMEOUT, "no A-ASSOCIATE-RQ in time")
        self.drop()

    def _aa3(self, event: Event, argument: Any) -> None:
        source, reason = argument
        self._tell_ended(CloseReason.ABORTED_BY_PEER, f"A-ABORT source {source}, reason {reason}")
        self._close()

    def _aa4(self, event: Event, argument: Any) -> None:
        self._tell_ended(CloseReason.CONNECTION_LOST, str(argument or ""))

    def _aa5(self, event: Event, argument: Any) -> None:
        self._stop_timer()
        self._tell_ended(CloseReason.CONNECTION_LOST, "before it asked for an association")

    def _aa6(self, event: Event, argument: Any) -> None:
        """Ignore the PDU."""

    def _aa7(self, event: Event, argument: Any) -> None:
        if not self.write_paused:
            self._write(encode_abort(SERVICE_PROVIDER, _abort_reason(event, argument)))

    def _aa8(self, event: Event, argument: Any) -> None:
        self._write(encode_abort(SERVICE_PROVIDER, _abort_reason(event, argument)))
        self._start_artim()
        self._tell_ended(CloseReason.PROTOCOL_ERROR, _words(event, argument))

    # -- help ---------------------------------------------------------------------------------

    def _write(self, pdu: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pdu)

    def _close(self) -> None:
        self._stop_timer()
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # close() would wait for a peer that may never read
        else:
            self._transport.close()

    def _tell_ended(self, reason: CloseReason, words: str) -> None:
        if self._ended:
            return
        self._ended = True
        # The end must be heard, and what still comes is only thrown away.
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused.clear()
        if self._reader.held:
            self._reader.swallow()
        self.user.ended(reason, words)
        self.user.writable()

    # -- time: one timer, set again only when it fires ----------------------------------------

    def _start_artim(self) -> None:
        self._stop_timer()
        self._due = self._loop.time() + self._limits.artim_s

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Start the timer that fits the state just entered."""
        now = self._loop.time()
        if self.state in _RELEASING:
            self._stop_timer()
            self._due = now + self._limits.artim_s
        if self._timer is None and self._transport is not None:
            due = self._next_look(now) if self.state is State.STA6 else self._due
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self.state in _ARTIM_RUNS:
            self.fire(Event.ARTIM_EXPIRED)
        elif self.state in _RELEASING:
            self.abort(CloseReason.TIMEOUT, "the release was not answered in time")
        elif self._transport is not None and self.state in MAY_SEND_DATA:
            late = self._verdict(now, self._transport)
            if late:
                self.abort(CloseReason.TIMEOUT, late)
            else:
                self.watch.new_window(now)
                self._timer = self._loop.call_at(self._next_look(now), self._tick)

    def _next_look(self, now: float) -> float:
        occupied = bool(self._paused) or self.user.busy or self._inside or self.write_paused
        return self.watch.next_look(now, occupied=occupied)

    def _verdict(self, now: float, transport: asyncio.Transport) -> str:
        """Return why the peer is too late, in words; empty when it is not."""
        if self.write_paused:
            return self.watch.unread(transport.get_write_buffer_size())
        if self._paused:
            return ""
        return self.watch.too_late(now, inside=self._inside, busy=self.user.busy)

    @property
    def _inside(self) -> bool:
        """Tell whether the peer has begun a PDU or a message and not ended it."""
        return self.user.inside_message or self._reader.inside_pdu


def _abort_reason(event: Event, argument: Any) -> int:
    if isinstance(argument, UnreadablePdu):
        return argument.abort_reason
    return UNRECOGNIZED_PDU if event is Event.INVALID_PDU else UNEXPECTED_PDU


def _words(event: Event, argument: Any) -> str:
    if isinstance(argument, UnreadablePdu):
        return argument.reason
    return f"{event.name} was not expected"


_ACTIONS: Final[dict[Action, Callable[[UpperLayer, Event, Any], None]]] = {
    Action.AE1: UpperLayer._ae1,
    Action.AE2: UpperLayer._ae2,
    Action.AE3: UpperLayer._ae3,
    Action.AE4: UpperLayer._ae4,
    Action.AE5: UpperLayer._ae5,
    Action.AE6: UpperLayer._ae6,
    Action.AE7: UpperLayer._ae7,
    Action.AE8: UpperLayer._ae8,
    Action.DT1: UpperLayer._dt1,
    Action.DT2: UpperLayer._dt2,
    Action.AR1: UpperLayer._ar1,
    Action.AR2: UpperLayer._ar2,
    Action.AR3: UpperLayer._ar3,
    Action.AR4: UpperLayer._ar4,
    Action.AR5: UpperLayer._ar5,
    Action.AR6: UpperLayer._dt2,
    Action.AR7: UpperLayer._dt1,
    Action.AR8: UpperLayer._ar8,
    Action.AR9: UpperLayer._ar9,
    Action.AR10: UpperLayer._ar10,
    Action.AA1: UpperLayer._aa1,
    Action.AA2: UpperLayer._aa2,
    Action.AA3: UpperLayer._aa3,
    Action.AA4: UpperLayer._aa4,
    Action.AA5: UpperLayer._aa5,
    Action.AA6: UpperLayer._aa6,
    Action.AA7: UpperLayer._aa7,
    Action.AA8: UpperLayer._aa8,
}
