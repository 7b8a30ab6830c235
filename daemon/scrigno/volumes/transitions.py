# SPDX-License-Identifier: Apache-2.0
"""The life of a volume as one table: what is learned, in which state, and what follows.

Pure: nothing here asks a clock, a disk or a worker. `warden` and `kernel` collect facts, `TABLE`
says what they mean, the warden does it. ONLINE is reached on three ways only: a first start whose
probe is good, a doubt that a probe dispels, and RECOVERING when everything is proved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .states import VolumeState as State

FALLS_WINDOW_S: Final = 3600.0
LIGHT_FREE: Final = 2  # returns from a doubt within the hour that cost no waiting


class Fact(StrEnum):
    """Everything that can be learned of a volume; the value says it in words."""

    # operations
    OPERATION_IO_ERROR = "a write failed"
    READ_ERROR = "a read failed"
    OPERATION_NO_SPACE = "a write found no room"
    OPERATION_READ_ONLY = "a write met a read-only file system"
    OPERATION_NOT_PERMITTED = "a write was not permitted"
    OPERATION_SILENT = "an operation was not answered in time"
    FOLDERS_VANISHED = "somebody else removes folders here"
    # the worker process
    WORKER_DIED = "its worker process has ended"
    WORKER_KEEPS_DYING = "its worker process ends again and again"
    OPENING_FAILED = "it cannot be opened"
    # the probe
    PROBE_GOOD = "the probe is good"
    KEEPS_FAILING = "the probe is good, but it has failed again and again"
    PROBE_SLOW = "the probe is slow"
    PROBE_IO_ERROR = "the probe failed"
    PROBE_READ_ONLY = "the probe may not write"
    PROBE_FULL = "the probe found no room"
    # identity
    IDENTITY_OURS = "it is the right volume"
    IDENTITY_ABSENT = "the volume is not at its path"
    IDENTITY_FOREIGN = "something else stands at its path"
    IDENTITY_STALE = "an old copy of it stands at its path"
    IDENTITY_OTHER_BOX = "a volume of another box stands at its path"
    IDENTITY_PARTED = "a disk that was replaced or retired stands at its path"
    UNMOUNTED = "it was unmounted"
    # the kernel
    MOUNTS_CHANGED = "something was mounted or unmounted"
    FS_SHUT_DOWN = "the file system has stopped itself"
    FS_EMERGENCY_READ_ONLY = "the file system refuses writes after an error"
    FS_REMOUNTED_READ_ONLY = "the file system is mounted read-only"
    FS_ERRORS_GREW = "the file system has found errors in itself"
    DEVICE_ERRORS_GREW = "a device of the file system has made errors"
    DEVICE_GONE = "the device has gone"
    DEVICE_READ_ONLY = "the device has become read-only"
    DEVICE_HANGS = "requests wait and none is completed"
    KERNEL_CONTENT = "the kernel has no complaint any more"
    # coming back
    NOT_PROVED = "it must prove itself"
    NOT_HELD = "it must hold for a while"
    NOT_CAUGHT_UP = "it gets what it has missed"
    MAY_RETURN = "it has proved itself, has held and has caught up"
    # the operator
    PAUSED = "it was paused"
    RESUMED = "it was resumed"
    FORCED = "it was told not to wait"
    ADOPTED = "it was told to take what stands at its path"
    RETIRED = "it was retired"


class Act(StrEnum):
    """What the warden does besides changing the state."""

    NOTHING = "nothing"  # the state's reason is kept when the state is
    NOTE = "note"  # keep the new reason
    LOOK = "look"  # probe at once
    PROVE = "prove"  # count one proof more
    PROVE_AGAIN = "prove again"  # proofs and holding begin anew
    UNHOLD = "unhold"  # forget the falls, so that nothing is waited for; look or try at once
    REPLACE = "replace"  # a new worker at once; what recovers proves itself anew
    LET_GO = "let go"  # no worker, no descriptor; try again after a while
    TRY = "try"  # try again now
    STOP = "stop"  # let go, and wait for the operator


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from a fact."""

    state: State
    act: Act = Act.NOTHING


TRUSTED: Final = (State.ONLINE, State.SUSPECT, State.READONLY, State.FULL)  # falls from here count
DOWN: Final = (State.OFFLINE, State.ABSENT, State.FOREIGN)  # no worker is in service
_UP: Final = (State.STARTING, *TRUSTED, State.RECOVERING)
_Row = dict[State, Step]


def _stay(act: Act, *states: State) -> _Row:
    return {state: Step(state, act) for state in states}


def _to(target: State, act: Act, *states: State) -> _Row:
    return {state: Step(target, act) for state in states}


_LOST: Final = _to(State.OFFLINE, Act.LET_GO, *_UP)
_SOMEBODY_ELSE: Final = _to(State.FOREIGN, Act.LET_GO, *State)
_REFUSED: Final = {
    **_stay(Act.LOOK, State.STARTING),
    **_to(State.READONLY, Act.LOOK, State.ONLINE, State.SUSPECT, State.FULL, State.RECOVERING),
}
# The kernel's word needs no probe, and outlasts good ones: it is said again until it changes.
_NO_WRITES: Final = _to(
    State.READONLY,
    Act.NOTHING,
    State.STARTING,
    State.ONLINE,
    State.SUSPECT,
    State.FULL,
    State.RECOVERING,
)
_STOPPED: Final = _to(State.OFFLINE, Act.STOP, *State)
_STILL_RECOVERING: Final = _stay(Act.NOTE, State.RECOVERING)

# A state that a row does not name: nothing happens.
_ROWS: Final[Mapping[Fact, _Row]] = {
    Fact.OPERATION_IO_ERROR: {
        **_stay(Act.LOOK, State.STARTING, State.SUSPECT, State.READONLY, State.FULL),
        **_to(State.SUSPECT, Act.LOOK, State.ONLINE),
        **_stay(Act.PROVE_AGAIN, State.RECOVERING),
    },
    # One bad sector is a file's trouble, for which readers have other copies: the probe tells.
    Fact.READ_ERROR: _stay(Act.LOOK, *_UP),
    Fact.OPERATION_NO_SPACE: {
        **_stay(Act.LOOK, State.STARTING, State.READONLY),
        **_to(State.FULL, Act.LOOK, State.ONLINE, State.SUSPECT, State.RECOVERING),
    },
    Fact.OPERATION_READ_ONLY: _REFUSED,
    Fact.OPERATION_NOT_PERMITTED: _REFUSED,
    Fact.OPERATION_SILENT: _LOST,
    Fact.FOLDERS_VANISHED: _stay(Act.NOTE, State.ONLINE),
    Fact.WORKER_DIED: {
        **_stay(Act.REPLACE, *_UP),
        **_to(State.SUSPECT, Act.REPLACE, State.ONLINE),
    },
    Fact.WORKER_KEEPS_DYING: _LOST,
    Fact.OPENING_FAILED: _to(State.OFFLINE, Act.LET_GO, *State),
    Fact.PROBE_GOOD: {
        **_to(State.ONLINE, Act.NOTHING, State.STARTING, State.SUSPECT),
        # it has missed copies meanwhile
        **_to(State.RECOVERING, Act.PROVE, State.READONLY, State.FULL, State.RECOVERING),
    },
    Fact.KEEPS_FAILING: {
        **_to(State.RECOVERING, Act.PROVE_AGAIN, State.SUSPECT),
        **_to(State.RECOVERING, Act.PROVE, State.READONLY, State.FULL, State.RECOVERING),
    },
    Fact.PROBE_SLOW: {
        **_to(State.SUSPECT, Act.NOTHING, State.STARTING, State.ONLINE),
        **_stay(Act.NOTE, State.SUSPECT),
        **_stay(Act.PROVE_AGAIN, State.RECOVERING),
    },
    Fact.PROBE_IO_ERROR: {
        **_to(State.OFFLINE, Act.LET_GO, *State),
        **_to(State.SUSPECT, Act.LOOK, State.ONLINE),  # a second probe confirms
    },
    Fact.PROBE_READ_ONLY: {**_NO_WRITES, **_stay(Act.NOTE, State.READONLY)},
    Fact.PROBE_FULL: {
        **_to(State.FULL, Act.NOTHING, *_UP),
        **_stay(Act.NOTE, State.FULL),
    },
    Fact.IDENTITY_OURS: _to(State.RECOVERING, Act.PROVE_AGAIN, *DOWN),
    Fact.IDENTITY_ABSENT: _to(State.ABSENT, Act.LET_GO, *State),
    Fact.IDENTITY_FOREIGN: _SOMEBODY_ELSE,
    Fact.IDENTITY_STALE: _SOMEBODY_ELSE,
    Fact.IDENTITY_OTHER_BOX: _SOMEBODY_ELSE,
    Fact.IDENTITY_PARTED: _SOMEBODY_ELSE,
    Fact.UNMOUNTED: _to(State.ABSENT, Act.LET_GO, *_UP),
    Fact.MOUNTS_CHANGED: {**_stay(Act.LOOK, *_UP), **_stay(Act.TRY, *DOWN)},
    Fact.FS_SHUT_DOWN: _LOST,
    Fact.FS_EMERGENCY_READ_ONLY: _NO_WRITES,
    Fact.FS_REMOUNTED_READ_ONLY: _NO_WRITES,
    Fact.FS_ERRORS_GREW: _NO_WRITES,
    Fact.DEVICE_ERRORS_GREW: _stay(Act.LOOK, *_UP),  # a mirror goes on without that leg
    Fact.DEVICE_GONE: _LOST,
    Fact.DEVICE_READ_ONLY: _NO_WRITES,
    Fact.DEVICE_HANGS: {
        **_to(State.SUSPECT, Act.LOOK, State.ONLINE),
        **_stay(Act.PROVE_AGAIN, State.RECOVERING),
    },
    Fact.KERNEL_CONTENT: _stay(Act.LOOK, State.READONLY),
    Fact.NOT_PROVED: _STILL_RECOVERING,
    Fact.NOT_HELD: _STILL_RECOVERING,
    Fact.NOT_CAUGHT_UP: _STILL_RECOVERING,
    Fact.MAY_RETURN: _to(State.ONLINE, Act.NOTHING, State.RECOVERING),
    Fact.PAUSED: _STOPPED,
    Fact.RETIRED: _STOPPED,
    Fact.RESUMED: _stay(Act.TRY, State.OFFLINE),
    Fact.FORCED: _stay(
        Act.UNHOLD,
        State.SUSPECT,
        State.READONLY,
        State.FULL,
        State.RECOVERING,
        State.OFFLINE,
        State.ABSENT,
    ),
    Fact.ADOPTED: {**_stay(Act.LOOK, *_UP), **_stay(Act.TRY, *DOWN)},
}

TABLE: Final[Mapping[tuple[State, Fact], Step]] = {
    (state, fact): _ROWS[fact].get(state, Step(state)) for fact in Fact for state in State
}


def weigh_return(
    *, proofs: int, wanted: int, held_s: float, hold_s: float, caught_up: bool
) -> Fact:
    """Tell whether a volume that recovers may take images again, and what is missing if not."""
    if proofs < wanted:
        return Fact.NOT_PROVED
    if held_s < hold_s:
        return Fact.NOT_HELD
    return Fact.MAY_RETURN if caught_up else Fact.NOT_CAUGHT_UP


class Damping:
    """How long a volume must hold before it returns: the more often it went, the longer.

    A fall (OFFLINE, ABSENT, FOREIGN) costs `first_s`, each further one within the hour doubles
    it, up to `most_s`. A doubt (SUSPECT, READONLY, FULL) counts from the third on.
    """

    def __init__(self, *, first_s: float, most_s: float) -> None:
        """Begin with nothing known."""
        self._first_s = first_s
        self._most_s = most_s
        self._went: list[tuple[float, bool]] = []  # when, and whether it was a fall

    def note(self, before: State, after: State, now: float) -> None:
        """Hear of a change of state at `now` (monotonic seconds)."""
        if after in DOWN and before in TRUSTED:
            if before is not State.ONLINE and self._went and not self._went[-1][1]:
                self._went.pop()  # the doubt has become this fall
            self._went.append((now, True))
        elif before is State.ONLINE and after is not State.RECOVERING:
            self._went.append((now, False))

    def forget(self) -> None:
        """Hold nothing against it any more."""
        self._went.clear()

    def hold_s(self, now: float) -> float:
        """Return how long it must hold, counted from when it was well again."""
        self._went = [one for one in self._went if now - one[0] < FALLS_WINDOW_S]
        falls = sum(fell for _, fell in self._went)
        counted = falls + max(0, len(self._went) - falls - LIGHT_FREE)
        if not counted:
            return 0.0
        return min(self._first_s * 2.0 ** (counted - 1), self._most_s)

    def flapping(self, now: float) -> bool:
        """Tell whether it has been in doubt so often that a good probe is no proof any more."""
        recent = [fell for at, fell in self._went if now - at < FALLS_WINDOW_S]
        return len(recent) - sum(recent) > LIGHT_FREE
