# SPDX-License-Identifier: Apache-2.0
"""The state table of PS3.8 section 9.2, cell by cell."""

import asyncio
import socket

import pytest
from pynetdicom.fsm import TRANSITION_TABLE

from scrigno.dicomnet.errors import UnreadablePdu
from scrigno.dicomnet.fsm import NEXT_STATES, TABLE, Action, Event, State
from scrigno.dicomnet.limits import Limits
from scrigno.dicomnet.service import CloseReason, Rejection
from scrigno.dicomnet.upper import ImpossibleEvent, ReceiveBuffer, UpperLayer


def test_the_table_is_the_one_of_the_standard_as_pynetdicom_transcribed_it() -> None:
    ours = {(f"Evt{e.value}", f"Sta{s.value}"): a.value for (e, s), a in TABLE.items()}
    assert ours == TRANSITION_TABLE


# PS3.8 tables 9-6 to 9-9, read again for this test: where an action leads, what it writes first,
# whether it closes, and whether ARTIM runs afterwards.
EXPECTED = {
    "AE-1": ("Sta4", None, False, False),
    "AE-2": ("Sta5", "RQ", False, False),
    "AE-3": ("Sta6", None, False, False),
    "AE-4": ("Sta1", None, True, False),
    "AE-5": ("Sta2", None, False, True),
    "AE-6": ("Sta3", None, False, False),
    "AE-7": ("Sta6", "AC", False, False),
    "AE-8": ("Sta13", "RJ", False, True),
    "DT-1": ("Sta6", "DATA", False, False),
    "DT-2": ("Sta6", None, False, False),
    "AR-1": ("Sta7", "05", False, False),
    "AR-2": ("Sta8", None, False, False),
    "AR-3": ("Sta1", None, True, False),
    "AR-4": ("Sta13", "06", False, True),
    "AR-5": ("Sta1", None, False, False),
    "AR-6": ("Sta7", None, False, False),
    "AR-7": ("Sta8", "DATA", False, False),
    "AR-8": ("Sta9", None, False, False),
    "AR-9": ("Sta11", "06", False, False),
    "AR-10": ("Sta12", None, False, False),
    "AA-1": ("Sta13", "0700 00000004 0000 00", False, True),
    "AA-2": ("Sta1", None, True, False),
    "AA-3": ("Sta1", None, True, False),
    "AA-4": ("Sta1", None, False, False),
    "AA-5": ("Sta1", None, False, False),
    "AA-6": ("Sta13", None, False, True),
    "AA-7": ("Sta13", "0700 00000004 0000 02", False, True),
    "AA-8": ("Sta13", "0700 00000004 0000 02", False, True),
}

# What the user must be told, by action.
TOLD = {
    "AE-3": "confirmed",
    "AE-4": "refused",
    "AE-6": "indicated",
    "AR-2": "release",
    "AR-8": "release",
    "AR-10": "release",
    "AR-3": CloseReason.RELEASED,
    "AR-4": CloseReason.RELEASED,
    "AA-3": CloseReason.ABORTED_BY_PEER,
    "AA-4": CloseReason.CONNECTION_LOST,
    "AA-8": CloseReason.PROTOCOL_ERROR,
}


class RecordingTransport(asyncio.Transport):
    """A connection that goes nowhere and remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.shut = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.shut

    def close(self) -> None:
        self.shut = True

    def abort(self) -> None:
        self.shut = True


class RecordingUser:
    """Is told, and answers nothing."""

    busy = False
    inside_message = False

    def __init__(self, rejection: Rejection | None = None) -> None:
        self.told: list[object] = []
        self.rejection = rejection

    def associate_indicated(self, received: object) -> Rejection | None:
        self.told.append("indicated")
        return self.rejection

    def associate_confirmed(self, received: object) -> None:
        self.told.append("confirmed")

    def associate_refused(self, rejection: object) -> None:
        self.told.append("refused")

    def data_indicated(self, *_: object, **__: object) -> None:
        self.told.append("data")

    def release_indicated(self) -> None:
        self.told.append("release")

    def ended(self, reason: CloseReason, words: str) -> None:
        self.told.append(reason)

    def writable(self) -> None:
        pass


def layer(
    state: State, *, requestor: bool = True, user: RecordingUser | None = None
) -> tuple[UpperLayer, RecordingUser, RecordingTransport]:
    user = user or RecordingUser()
    transport = RecordingTransport()
    upper = UpperLayer(
        user=user,
        limits=Limits(artim_s=60),
        receive_buffer=ReceiveBuffer(64),
        requestor=requestor,
        request_pdu=b"RQ",
    )
    upper._transport = transport
    upper.state = state
    if state in (State.STA2, State.STA13):
        upper._start_artim()
        upper._arm()
    return upper, user, transport


ARGUMENTS: dict[Event, object] = {
    Event.ASSOCIATE_ACCEPT: b"AC",
    Event.ASSOCIATE_REJECT: b"RJ",
    Event.DATA_REQUEST: b"DATA",
    Event.ABORT_REQUEST: (CloseReason.ABORTED_BY_US, "", 0, 0),
    Event.ABORT_RECEIVED: (0, 0),
    Event.INVALID_PDU: UnreadablePdu("garbage", 1),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
async def test_every_cell_of_the_table_does_what_the_paper_says(event: Event, state: State) -> None:
    upper, user, transport = layer(state)
    try:
        action = TABLE.get((event, state))
        if action is None:
            with pytest.raises(ImpossibleEvent):
                upper.fire(event, ARGUMENTS.get(event))
            assert upper.state is state
            assert not transport.written
            assert not user.told
            return
        upper.fire(event, ARGUMENTS.get(event))
        next_state, written, closes, artim = EXPECTED[action.value]
        assert upper.state.name == next_state.upper()
        if written is None:
            assert not transport.written
        elif written in ("RQ", "AC", "RJ", "DATA"):
            assert transport.written == [written.encode()]
        else:
            assert transport.written[0].startswith(bytes.fromhex(written))
            assert len(transport.written[0]) == 10
        assert transport.shut is closes
        runs = upper._timer is not None and upper.state in (State.STA2, State.STA13)
        assert runs is artim
        if action.value in TOLD:
            assert user.told == [TOLD[action.value]]
    finally:
        upper._stop_timer()


def test_every_action_leads_where_the_paper_says() -> None:
    assert {a.value for a in Action} == set(EXPECTED)
    for action, states in NEXT_STATES.items():
        assert states[0].name == EXPECTED[action.value][0].upper()
    assert NEXT_STATES[Action.AE6] == (State.STA3, State.STA13)
    assert NEXT_STATES[Action.AR8] == (State.STA9, State.STA10)


async def test_a_request_the_provider_cannot_accept_is_rejected_by_action_ae_6() -> None:
    upper, _, transport = layer(
        State.STA2, requestor=False, user=RecordingUser(Rejection(1, 2, 2, ""))
    )
    upper.fire(Event.ASSOCIATE_RQ_RECEIVED, None)
    assert upper.state is State.STA13
    assert transport.written == [bytes.fromhex("0300000000040001 0202".replace(" ", ""))]
    assert upper._timer is not None
    upper._stop_timer()


async def test_a_release_collision_leads_the_acceptor_another_way_than_the_requestor() -> None:
    upper, user, transport = layer(State.STA7, requestor=False)
    upper.fire(Event.RELEASE_RQ_RECEIVED)
    assert upper.state is State.STA10
    upper.fire(Event.RELEASE_RP_RECEIVED)
    assert upper.state is State.STA12
    upper.fire(Event.RELEASE_RESPONSE)
    assert upper.state is State.STA13
    assert [pdu[:1] for pdu in transport.written] == [b"\6"]
    assert user.told == ["release", "release", CloseReason.RELEASED]
    upper._stop_timer()


async def test_an_end_is_told_once() -> None:
    upper, user, _ = layer(State.STA6)
    upper.fire(Event.INVALID_PDU, UnreadablePdu("garbage", 1))
    upper.fire(Event.ABORT_RECEIVED, (0, 0))
    assert user.told == [CloseReason.PROTOCOL_ERROR]


class RecordingSocket:
    """Remembers the options it was given."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))


async def test_acknowledgements_are_quick_after_each_read_and_nothing_of_ours_is_delayed() -> None:
    sock = RecordingSocket()
    upper, _, transport = layer(State.STA1, requestor=False)
    transport._extra = {"socket": sock, "peername": ("192.0.2.1", 4711)}  # type: ignore[attr-defined]
    upper.connection_made(transport)
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in sock.options
    for _ in range(3):
        sock.options.clear()
        upper.get_buffer(-1)[:1] = b"\1"
        upper.buffer_updated(1)
        assert sock.options == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)]
        upper._reader._partial.clear()
    upper._stop_timer()
