# SPDX-License-Identifier: Apache-2.0
"""The table of a volume's life, written out a second time in words, and what must never happen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrigno.volumes.states import VolumeState as State
from scrigno.volumes.transitions import DOWN, TABLE, TRUSTED, Act, Damping, Fact, weigh_return

pytestmark = pytest.mark.spec("ST-3")

# One line for each fact: what follows in each state. A lone dot is "nothing happens"; a lone word
# is what is done while the state stays; STATE is a change; STATE:word is both.
EXPECTED = """
fact                     starting        online          suspect         readonly        full            recovering      offline         absent          foreign
operation_io_error       look            SUSPECT:look    look            look            look            prove-again     .               .               .
read_error               look            look            look            look            look            look            .               .               .
operation_no_space       look            FULL:look       FULL:look       look            .               FULL:look       .               .               .
operation_read_only      look            READONLY:look   READONLY:look   .               READONLY:look   READONLY:look   .               .               .
operation_not_permitted  look            READONLY:look   READONLY:look   .               READONLY:look   READONLY:look   .               .               .
operation_silent         OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  .               .               .
folders_vanished         .               note            .               .               .               .               .               .               .
worker_died              replace         SUSPECT:replace replace         replace         replace         replace         .               .               .
worker_keeps_dying       OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  .               .               .
opening_failed           OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  let-go          OFFLINE:let-go  OFFLINE:let-go
probe_good               ONLINE          .               ONLINE          RECOVERING:prove RECOVERING:prove prove         .               .               .
keeps_failing            .               .               RECOVERING:prove-again RECOVERING:prove RECOVERING:prove prove  .               .               .
probe_slow               SUSPECT         SUSPECT         note            .               .               prove-again     .               .               .
probe_io_error           OFFLINE:let-go  SUSPECT:look    OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  let-go          OFFLINE:let-go  OFFLINE:let-go
probe_read_only          READONLY        READONLY        READONLY        note            READONLY        READONLY        .               .               .
probe_full               FULL            FULL            FULL            FULL            note            FULL            .               .               .
identity_ours            .               .               .               .               .               .               RECOVERING:prove-again RECOVERING:prove-again RECOVERING:prove-again
identity_absent          ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   let-go          ABSENT:let-go
identity_foreign         FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  let-go
identity_stale           FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  let-go
identity_other_box       FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  let-go
identity_parted          FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  FOREIGN:let-go  let-go
unmounted                ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   ABSENT:let-go   .               .               .
mounts_changed           look            look            look            look            look            look            try             try             try
fs_shut_down             OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  .               .               .
fs_emergency_read_only   READONLY        READONLY        READONLY        .               READONLY        READONLY        .               .               .
fs_remounted_read_only   READONLY        READONLY        READONLY        .               READONLY        READONLY        .               .               .
fs_errors_grew           READONLY        READONLY        READONLY        .               READONLY        READONLY        .               .               .
device_errors_grew       look            look            look            look            look            look            .               .               .
device_gone              OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  OFFLINE:let-go  .               .               .
device_read_only         READONLY        READONLY        READONLY        .               READONLY        READONLY        .               .               .
device_hangs             .               SUSPECT:look    .               .               .               prove-again     .               .               .
kernel_content           .               .               .               look            .               .               .               .               .
not_proved               .               .               .               .               .               note            .               .               .
not_held                 .               .               .               .               .               note            .               .               .
not_caught_up            .               .               .               .               .               note            .               .               .
may_return               .               .               .               .               .               ONLINE          .               .               .
paused                   OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    stop            OFFLINE:stop    OFFLINE:stop
resumed                  .               .               .               .               .               .               try             .               .
forced                   .               .               unhold          unhold          unhold          unhold          unhold          unhold          .
adopted                  look            look            look            look            look            look            try             try             try
retired                  OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    OFFLINE:stop    stop            OFFLINE:stop    OFFLINE:stop
"""  # noqa: E501 - a table


def _pairs():
    head, *rows = [line.split() for line in EXPECTED.strip().splitlines()]
    for fact, *cells in rows:
        for state, cell in zip(head[1:], cells, strict=True):
            yield pytest.param(state, fact, cell, id=f"{fact} while {state}")


def _meant(state: str, cell: str) -> tuple[State, Act]:
    if cell == ".":
        return State(state), Act.NOTHING
    target, _, act = cell.partition(":") if cell[0].isupper() else (state, ":", cell)
    return State(target.lower()), Act(act.replace("-", " ") or "nothing")


@pytest.mark.parametrize(("state", "fact", "cell"), tuple(_pairs()))
def test_every_fact_in_every_state_has_the_consequence_that_is_written_here(
    state: str, fact: str, cell: str
) -> None:
    step = TABLE[State(state), Fact[fact.upper()]]
    assert (step.state, step.act) == _meant(state, cell)


def test_no_pair_is_left_out() -> None:
    written = {(State(p.values[0]), Fact[p.values[1].upper()]) for p in _pairs()}
    assert written == set(TABLE) == {(state, fact) for state in State for fact in Fact}


FACTS = st.sampled_from(list(Fact))
STATES = st.sampled_from(list(State))


@given(st.sampled_from(DOWN), st.lists(FACTS, max_size=40))
def test_a_volume_that_is_down_serves_again_only_after_identity_and_everything_else(
    state: State, facts: list[Fact]
) -> None:
    identified = returned = False
    for fact in facts:
        before, state = state, TABLE[state, fact].state
        if before in DOWN and state not in DOWN:
            assert fact is Fact.IDENTITY_OURS
            assert state is State.RECOVERING
            identified = True
        if state in DOWN:
            identified = returned = False
        if before is State.RECOVERING and state is State.ONLINE:
            assert fact is Fact.MAY_RETURN
            returned = True
        if state is State.ONLINE:
            assert identified
            assert returned or before is not State.RECOVERING
    assert state is not State.STARTING


@given(STATES, st.lists(FACTS, max_size=20))
def test_a_wrong_disk_is_let_go_at_once_and_never_in_a_state_that_takes_images(
    state: State, facts: list[Fact]
) -> None:
    wrong = (
        Fact.IDENTITY_FOREIGN,
        Fact.IDENTITY_STALE,
        Fact.IDENTITY_OTHER_BOX,
        Fact.IDENTITY_PARTED,
    )
    for fact in wrong:
        step = TABLE[state, fact]
        assert (step.state, step.act) == (State.FOREIGN, Act.LET_GO)
    state = State.FOREIGN
    for fact in facts:
        state = TABLE[state, fact].state
        if fact is Fact.IDENTITY_OURS:
            return
        assert state in DOWN


@given(STATES, FACTS)
def test_whoever_goes_down_lets_go_of_the_disk_so_that_it_can_be_unmounted(
    state: State, fact: Fact
) -> None:
    step = TABLE[state, fact]
    if step.state in DOWN and state not in DOWN:
        assert step.act in (Act.LET_GO, Act.STOP)
    if step.act is Act.REPLACE:
        assert step.state not in DOWN


@pytest.mark.parametrize(
    ("proofs", "held_s", "caught_up", "fact"),
    [
        (2, 999, True, Fact.NOT_PROVED),
        (3, 59, True, Fact.NOT_HELD),
        (3, 60, False, Fact.NOT_CAUGHT_UP),
        (3, 60, True, Fact.MAY_RETURN),
    ],
)
def test_a_return_needs_proofs_time_and_every_missed_copy(
    proofs: int, held_s: float, caught_up: bool, fact: Fact
) -> None:
    weighed = weigh_return(proofs=proofs, wanted=3, held_s=held_s, hold_s=60, caught_up=caught_up)
    assert weighed is fact


def test_each_fall_within_the_hour_doubles_the_time_to_hold_up_to_an_hour() -> None:
    damping = Damping(first_s=60, most_s=3600)
    assert damping.hold_s(0) == 0
    held = []
    for number in range(8):
        damping.note(State.ONLINE, State.OFFLINE, number)
        held.append(damping.hold_s(number))
    assert held == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert damping.hold_s(3602) == 960  # five are remembered still
    assert damping.hold_s(3606.5) == 60
    assert damping.hold_s(3608) == 0
    damping.note(State.ONLINE, State.ABSENT, 4000)
    damping.forget()
    assert damping.hold_s(4000) == 0


def test_a_doubt_that_becomes_a_fall_is_one_fall_and_two_doubts_are_free() -> None:
    damping = Damping(first_s=60, most_s=3600)
    damping.note(State.ONLINE, State.SUSPECT, 1)
    damping.note(State.SUSPECT, State.OFFLINE, 2)
    assert damping.hold_s(3) == 60
    damping.forget()
    for at in (1, 2):
        damping.note(State.ONLINE, State.FULL, at)
        assert damping.hold_s(at) == 0
        assert not damping.flapping(at)
    damping.note(State.ONLINE, State.SUSPECT, 3)
    assert damping.hold_s(3) == 60
    assert damping.flapping(3)
    damping.note(State.STARTING, State.OFFLINE, 4)  # it was not in service
    assert damping.hold_s(4) == 60


TROUBLES = st.sampled_from(
    [
        [Fact.OPERATION_IO_ERROR, Fact.PROBE_IO_ERROR],
        [Fact.OPERATION_IO_ERROR],
        [Fact.OPERATION_SILENT],
        [Fact.UNMOUNTED],
        [Fact.FS_SHUT_DOWN],
        [Fact.PROBE_SLOW],
        [Fact.OPERATION_NO_SPACE],
        [Fact.OPERATION_READ_ONLY],
        [Fact.DEVICE_HANGS],
        [Fact.WORKER_DIED],
    ]
)


@given(st.lists(TROUBLES, min_size=20, max_size=20))
def test_twenty_times_ten_seconds_on_and_off_show_at_most_three_times_as_online(
    troubles: list[list[Fact]],
) -> None:
    # the warden in miniature: it probes each second and weighs the return
    damping = Damping(first_s=60, most_s=3600)
    state, online, since, proofs = State.STARTING, 0, 0.0, 0

    def happened(fact: Fact, now: float) -> None:
        nonlocal state, online, since, proofs
        step = TABLE[state, fact]
        if step.state is not state:
            damping.note(state, step.state, now)
            online += step.state is State.ONLINE
            if step.state is State.RECOVERING:
                since, proofs = now, 0
        state = step.state
        if step.act is Act.PROVE:
            proofs += 1
        elif step.act in (Act.PROVE_AGAIN, Act.REPLACE):
            since, proofs = now, 0

    now = 0.0
    for trouble in troubles:
        for _ in range(10):
            now += 1
            if state in DOWN:
                happened(Fact.IDENTITY_OURS, now)
            happened(Fact.KEEPS_FAILING if damping.flapping(now) else Fact.PROBE_GOOD, now)
            happened(
                weigh_return(
                    proofs=proofs,
                    wanted=3,
                    held_s=now - since,
                    hold_s=damping.hold_s(now),
                    caught_up=True,
                ),
                now,
            )
        for fact in trouble:
            happened(fact, now)
        now += 10
    assert online <= 3
    assert set(TRUSTED).isdisjoint(DOWN)
