# SPDX-License-Identifier: Apache-2.0
"""The state machine of the DICOM upper layer, PS3.8 section 9.2, as data.

`TABLE` is table 9-10 cell by cell: (event, state) to action; a pair that is not in it cannot
happen. What an action does is in tables 9-6 to 9-9 and in `upper.UpperLayer`; where it leads
is `NEXT_STATES`.
"""

from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final


class State(IntEnum):
    """PS3.8 tables 9-1 to 9-5."""

    STA1 = 1  # idle
    STA2 = 2  # transport connection open, awaiting A-ASSOCIATE-RQ
    STA3 = 3  # awaiting local A-ASSOCIATE response
    STA4 = 4  # awaiting transport connection opening to complete
    STA5 = 5  # awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ
    STA6 = 6  # association established, ready for data transfer
    STA7 = 7  # awaiting A-RELEASE-RP
    STA8 = 8  # awaiting local A-RELEASE response
    STA9 = 9  # release collision, requestor: awaiting local A-RELEASE response
    STA10 = 10  # release collision, acceptor: awaiting A-RELEASE-RP
    STA11 = 11  # release collision, requestor: awaiting A-RELEASE-RP
    STA12 = 12  # release collision, acceptor: awaiting local A-RELEASE response
    STA13 = 13  # awaiting the transport connection to close


class Event(IntEnum):
    """The rows of PS3.8 table 9-10."""

    ASSOCIATE_REQUEST = 1  # from the local user
    TRANSPORT_CONFIRMED = 2  # our connection opened
    ASSOCIATE_AC_RECEIVED = 3
    ASSOCIATE_RJ_RECEIVED = 4
    TRANSPORT_INDICATED = 5  # the peer's connection opened
    ASSOCIATE_RQ_RECEIVED = 6
    ASSOCIATE_ACCEPT = 7  # from the local user
    ASSOCIATE_REJECT = 8  # from the local user
    DATA_REQUEST = 9  # from the local user
    DATA_RECEIVED = 10
    RELEASE_REQUEST = 11  # from the local user
    RELEASE_RQ_RECEIVED = 12
    RELEASE_RP_RECEIVED = 13
    RELEASE_RESPONSE = 14  # from the local user
    ABORT_REQUEST = 15  # from the local user
    ABORT_RECEIVED = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19  # unrecognized or invalid


class Action(StrEnum):
    """PS3.8 tables 9-6 to 9-9."""

    AE1 = "AE-1"  # open the transport connection
    AE2 = "AE-2"  # send A-ASSOCIATE-RQ
    AE3 = "AE-3"  # tell the user: accepted
    AE4 = "AE-4"  # tell the user: rejected; close
    AE5 = "AE-5"  # start ARTIM
    AE6 = "AE-6"  # stop ARTIM; tell the user of the request, or send A-ASSOCIATE-RJ, start ARTIM
    AE7 = "AE-7"  # send A-ASSOCIATE-AC
    AE8 = "AE-8"  # send A-ASSOCIATE-RJ, start ARTIM
    DT1 = "DT-1"  # send P-DATA-TF
    DT2 = "DT-2"  # hand data to the user
    AR1 = "AR-1"  # send A-RELEASE-RQ
    AR2 = "AR-2"  # tell the user: release wanted
    AR3 = "AR-3"  # tell the user: released; close
    AR4 = "AR-4"  # send A-RELEASE-RP, start ARTIM
    AR5 = "AR-5"  # stop ARTIM
    AR6 = "AR-6"  # hand data to the user, who waits for the release
    AR7 = "AR-7"  # send P-DATA-TF before our A-RELEASE-RP
    AR8 = "AR-8"  # tell the user: release collision
    AR9 = "AR-9"  # send A-RELEASE-RP
    AR10 = "AR-10"  # tell the user: released
    AA1 = "AA-1"  # send A-ABORT (service user), restart ARTIM
    AA2 = "AA-2"  # stop ARTIM, close
    AA3 = "AA-3"  # tell the user: aborted by the peer; close
    AA4 = "AA-4"  # tell the user: connection lost
    AA5 = "AA-5"  # stop ARTIM
    AA6 = "AA-6"  # ignore
    AA7 = "AA-7"  # send A-ABORT
    AA8 = "AA-8"  # send A-ABORT (service provider), tell the user, start ARTIM


_S = State
NEXT_STATES: Final = MappingProxyType(
    {
        Action.AE1: (_S.STA4,),
        Action.AE2: (_S.STA5,),
        Action.AE3: (_S.STA6,),
        Action.AE4: (_S.STA1,),
        Action.AE5: (_S.STA2,),
        Action.AE6: (_S.STA3, _S.STA13),
        Action.AE7: (_S.STA6,),
        Action.AE8: (_S.STA13,),
        Action.DT1: (_S.STA6,),
        Action.DT2: (_S.STA6,),
        Action.AR1: (_S.STA7,),
        Action.AR2: (_S.STA8,),
        Action.AR3: (_S.STA1,),
        Action.AR4: (_S.STA13,),
        Action.AR5: (_S.STA1,),
        Action.AR6: (_S.STA7,),
        Action.AR7: (_S.STA8,),
        Action.AR8: (_S.STA9, _S.STA10),  # as requestor, as acceptor
        Action.AR9: (_S.STA11,),
        Action.AR10: (_S.STA12,),
        Action.AA1: (_S.STA13,),
        Action.AA2: (_S.STA1,),
        Action.AA3: (_S.STA1,),
        Action.AA4: (_S.STA1,),
        Action.AA5: (_S.STA1,),
        Action.AA6: (_S.STA13,),
        Action.AA7: (_S.STA13,),
        Action.AA8: (_S.STA13,),
    }
)
"""Where each action leads; where the paper gives two, the first is the usual one."""

# PS3.8 table 9-10. A dot is an empty cell.
_TABLE_9_10 = """
Sta:     1     2     3     4     5     6     7     8     9     10    11    12    13
Evt1     AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2     .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3     .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4     .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5     AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6     .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7     .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8     .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9     .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10    .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11    .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12    .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13    .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14    .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15    .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16    .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17    .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18    .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19    .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


def _read(table: str) -> dict[tuple[Event, State], Action]:
    cells: dict[tuple[Event, State], Action] = {}
    for line in table.strip().splitlines()[1:]:
        row, *actions = line.split()
        for state, action in zip(State, actions, strict=True):
            if action != ".":
                cells[Event(int(row.removeprefix("Evt"))), state] = Action(action)
    return cells


TABLE: Final = MappingProxyType(_read(_TABLE_9_10))

MAY_SEND_DATA: Final = frozenset(s for s in State if (Event.DATA_REQUEST, s) in TABLE)
TAKES_DATA: Final = frozenset(
    s for s in State if TABLE.get((Event.DATA_RECEIVED, s)) in {Action.DT2, Action.AR6}
)
