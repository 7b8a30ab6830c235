# SPDX-License-Identifier: Apache-2.0
"""Log-in, back-off, sessions and their ends."""

import asyncio
from pathlib import Path

import pytest

from scrigno.access.access import Access
from scrigno.access.backoff import Backoff
from scrigno.access.errors import (
    BadUserName,
    ConnectionsExhausted,
    LastAdministrator,
    TooManyAttempts,
    WrongCredentials,
)
from scrigno.access.roles import BuiltIn
from scrigno.access.sessions import Kind
from scrigno.core.counters import Counters

PASSWORD = "corretto cavallo batteria"
HOME = "10.0.0.1"


@pytest.fixture
async def claimed(access: Access) -> Access:
    await access.claim_locally("anna", PASSWORD)
    return access


async def login(access: Access, **more) -> str:
    return (await access.login("anna", PASSWORD, address=HOME, **more)).token


async def guess(access: Access, address: str = "10.6.6.6") -> None:
    await access.login("anna", "wrong guess 123", address=address)


@pytest.mark.spec("AD-7")
async def test_a_log_in_gives_a_token_that_names_its_account(claimed: Access):
    token = await login(claimed)
    session = claimed.session(token)
    assert session is not None
    assert session.account.name == "anna"
    assert len(token) >= 43
    assert claimed.session(token + "x") is None
    assert claimed.session("") is None


@pytest.mark.spec("AD-7")
async def test_neither_password_nor_token_stands_in_the_state_directory(
    claimed: Access, tmp_path: Path
):
    token = await login(claimed)

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    content = await asyncio.to_thread(stored)
    assert token.encode() not in content
    assert PASSWORD.encode() not in content
    assert b"$argon2id$v=19$m=19456,t=2,p=1$" in content


@pytest.mark.spec("AD-7")
async def test_wrong_guesses_wait_longer_each_time_and_a_right_one_at_home_does_not(
    claimed: Access, clock
):
    await login(claimed)
    waits = []
    for _ in range(9):
        try:
            await guess(claimed)
        except TooManyAttempts as error:
            waits.append(error.retry_after_s)
            clock.move(error.retry_after_s)
            with pytest.raises(WrongCredentials):
                await guess(claimed)
        except WrongCredentials:
            pass
    assert waits == [1, 2, 4, 8, 16, 32]
    await login(claimed)


async def test_the_wait_ends_at_a_minute_and_never_locks_for_good(claimed: Access, clock):
    backoff = Backoff(free=2, clock=clock)
    for _ in range(100):
        backoff.attempt("x")
    assert backoff.wait_s("x") == 60
    clock.move(61)
    assert backoff.wait_s("x") == 0
    for _ in range(3):
        with pytest.raises(WrongCredentials):
            await guess(claimed)
    clock.move(61)
    await claimed.login("anna", PASSWORD, address="10.6.6.6")


@pytest.mark.spec("AD-7")
async def test_a_thousand_guesses_at_one_moment_are_not_a_thousand_free_guesses(claimed: Access):
    results = await asyncio.gather(*(guess(claimed) for _ in range(1000)), return_exceptions=True)
    wrong = sum(isinstance(each, WrongCredentials) for each in results)
    assert wrong == 3
    assert all(isinstance(each, WrongCredentials | TooManyAttempts) for each in results)


async def test_guesses_from_many_addresses_slow_the_account_but_not_its_owner(claimed: Access):
    await login(claimed)
    outcomes = []
    for i in range(24):
        try:
            await guess(claimed, address=f"10.9.0.{i}")
        except (WrongCredentials, TooManyAttempts) as error:
            outcomes.append(type(error))
    assert outcomes[-1] is TooManyAttempts
    await login(claimed)


async def test_an_unknown_user_costs_as_long_and_reads_the_same(claimed: Access):
    loop = asyncio.get_running_loop()

    async def measured(user: str, address: str) -> tuple[float, str]:
        start = loop.time()
        with pytest.raises(WrongCredentials) as caught:
            await claimed.login(user, "no idea at all", address=address)
        return loop.time() - start, caught.value.sentence()

    known = [await measured("anna", f"10.1.0.{i}") for i in range(5)]
    unknown = [await measured(f"nobody{i}", f"10.2.0.{i}") for i in range(5)]
    assert {words for _, words in known} == {words for _, words in unknown}
    assert min(seconds for seconds, _ in unknown) > min(seconds for seconds, _ in known) / 3


@pytest.mark.spec("AD-7")
async def test_a_session_ends_by_disuse_by_age_and_by_log_out(claimed: Access, clock):
    token = await login(claimed)
    clock.move(3 * 3600)
    assert claimed.session(token) is not None
    clock.move(4.5 * 3600)
    assert claimed.session(token) is None
    token = await login(claimed)
    for _ in range(9):
        clock.move(2 * 3600)
        alive = claimed.session(token) is not None
    assert not alive
    token = await login(claimed)
    await claimed.sessions.end(token)
    assert claimed.session(token) is None


@pytest.mark.spec("AD-7")
async def test_sessions_outlive_a_restart_and_killed_ones_do_not(
    claimed: Access, tmp_path: Path, clock
):
    kept, killed = await login(claimed), await login(claimed, kind=Kind.BEARER)
    victim = next(each for each in claimed.sessions.all() if each.kind is Kind.BEARER)
    assert await claimed.sessions.end_by_id(victim.id)
    assert not await claimed.sessions.end_by_id("none")
    await claimed.close()
    again = Access(tmp_path, clock=clock, counters=Counters())
    await again.open()
    try:
        assert again.session(kept) is not None
        assert again.session(killed) is None
    finally:
        await again.close()


@pytest.mark.spec("AD-7")
async def test_a_changed_password_ends_the_other_sessions(claimed: Access):
    mine, other = await login(claimed), await login(claimed)
    session = claimed.session(mine)
    assert session is not None
    with pytest.raises(WrongCredentials):
        await claimed.change_password(session, "not the old one", "a new long one", keep=mine)
    await claimed.change_password(session, PASSWORD, "a new long one", keep=mine)
    assert claimed.session(mine) is not None
    assert claimed.session(other) is None
    await claimed.login("anna", "a new long one", address=HOME)


@pytest.mark.spec("AD-8")
async def test_the_limit_of_web_connections_is_told_and_ends_with_a_rest(
    claimed: Access, clock, limit
):
    limit.most = 2
    first, second = await login(claimed), await login(claimed)
    with pytest.raises(ConnectionsExhausted, match="All 2 web connections"):
        await login(claimed)
    await claimed.sessions.end(first)
    third = await login(claimed)
    clock.move(299)
    assert claimed.session(third) is not None
    clock.move(10)
    await login(claimed)
    with pytest.raises(ConnectionsExhausted):
        claimed.session(second)
    limit.most = None
    assert claimed.session(second) is not None


@pytest.mark.spec("AD-7")
async def test_accounts_come_and_go_and_the_last_administrator_stays(claimed: Access):
    await claimed.add_account("Bruno", PASSWORD, BuiltIn.USER)
    with pytest.raises(BadUserName):
        await claimed.add_account("BRUNO", PASSWORD, BuiltIn.USER)
    with pytest.raises(BadUserName):
        await claimed.add_account("bad\nname", PASSWORD, BuiltIn.USER)
    token = (await claimed.login("bruno", PASSWORD, address=HOME)).token
    await claimed.remove_account("bruno")
    assert claimed.session(token) is None
    with pytest.raises(LastAdministrator):
        await claimed.remove_account("anna")
    assert [each.name for each in await claimed.accounts.all()] == ["anna"]
