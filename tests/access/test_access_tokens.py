# SPDX-License-Identifier: Apache-2.0
"""Tokens of programs, and the limited sessions of guests."""

import asyncio
from pathlib import Path

import pytest

from scrigno.access.access import Access, AccessRules
from scrigno.access.errors import ConnectionsExhausted, TooManyTokens
from scrigno.access.permissions import Permission
from scrigno.access.roles import BuiltIn
from scrigno.access.sessions import LIFETIMES, MOST_TOKENS, Kind
from scrigno.core.counters import Counters
from scrigno.core.sight import Sight

PASSWORD = "corretto cavallo batteria"
HOME = "10.0.0.1"
DAY = 86400.0
VIEW = frozenset({Permission.VIEW})
ONE_STUDY = Sight(study_uids=frozenset({"1.2.3"}))


@pytest.fixture
async def claimed(access: Access) -> Access:
    await access.claim_locally("anna", PASSWORD)
    return access


async def token_of(access: Access, user: str = "anna", *, until: float | None = None) -> str:
    account = await access.accounts.named(user)
    scopes = frozenset({Permission.VIEW, Permission.EXPORT, Permission.ADMIN})
    token, _ = await access.sessions.begin_token(
        account, "PACS bridge", scopes, expires_at=until, address=HOME
    )
    return token


async def guest_of(access: Access, lifetime_s: float = 3600.0) -> str:
    return await access.begin_limited(
        "share 7", {Permission.VIEW, Permission.ADMIN}, ONE_STUDY, lifetime_s, address="192.0.2.9"
    )


@pytest.mark.spec("AD-7", "IN-6")
async def test_a_token_can_do_no_more_than_its_scopes_nor_than_its_account(claimed: Access):
    session = claimed.session(await token_of(claimed))
    assert session is not None
    assert session.kind is Kind.TOKEN
    assert session.permissions == {Permission.VIEW, Permission.EXPORT, Permission.ADMIN}
    await claimed.add_account("bruno", PASSWORD, BuiltIn.VIEWER)
    session = claimed.session(await token_of(claimed, "bruno"))
    assert session is not None
    assert session.permissions == VIEW
    await claimed.change_account("bruno", role=BuiltIn.USER)
    assert session.permissions == {Permission.VIEW, Permission.EXPORT}


@pytest.mark.spec("AD-7")
async def test_a_token_ends_at_its_end_and_outlives_disuse_and_a_restart(
    claimed: Access, tmp_path: Path, clock
):
    forever = await token_of(claimed)
    short = await token_of(claimed, until=clock.now().timestamp() + 30 * DAY)
    clock.move(29 * DAY)
    assert claimed.session(short) is not None
    await claimed.close()
    again = Access(tmp_path, clock=clock, counters=Counters())
    await again.open()
    try:
        found = again.session(short)
        assert found is not None
        assert found.label == "PACS bridge"
        clock.move(1 * DAY)
        assert again.session(short) is None
        clock.move(2000 * DAY)
        assert again.session(forever) is not None
        content = await asyncio.to_thread((tmp_path / "access.db").read_bytes)
        assert forever.encode() not in content
    finally:
        await again.close()


@pytest.mark.spec("AD-7")
async def test_tokens_are_listed_apart_and_revoked_apart(claimed: Access):
    account = await claimed.accounts.named("anna")
    first, second = await token_of(claimed), await token_of(claimed)
    assert claimed.sessions.all() == []
    listed = claimed.sessions.tokens_of(account.id)
    assert len(listed) == 2
    assert await claimed.sessions.end_by_id(listed[0].id, of=account.id)
    assert not await claimed.sessions.end_by_id(listed[1].id, of=account.id + 1)
    alive = [claimed.session(each) is not None for each in (first, second)]
    assert sorted(alive) == [False, True]
    # a new password of the person's own leaves them, a reset or a disabled account ends them
    mine = (await claimed.login("anna", PASSWORD, address=HOME)).token
    session = claimed.session(mine)
    assert session is not None
    await claimed.change_password(session, PASSWORD, "another good long one", keep=mine)
    assert len(claimed.sessions.tokens_of(account.id)) == 1
    await claimed.reset_password("anna")
    assert claimed.sessions.tokens_of(account.id) == []
    assert claimed.session(mine) is None


@pytest.mark.spec("AD-7")
async def test_an_account_has_a_bounded_number_of_tokens(claimed: Access):
    for _ in range(MOST_TOKENS):
        await token_of(claimed)
    with pytest.raises(TooManyTokens):
        await token_of(claimed)


@pytest.mark.spec("VW-7", "IN-4")
async def test_a_guest_does_and_sees_only_what_was_given_and_for_as_long(
    claimed: Access, tmp_path: Path, clock
):
    token = await guest_of(claimed)
    session = claimed.session(token)
    assert session is not None
    assert session.guest
    assert session.permissions == VIEW  # nobody without an account administers
    assert session.sight == ONE_STUDY
    assert session.account.name == "guest: share 7"
    assert session.label == "share 7"
    clock.move(3599)
    assert claimed.session(token) is not None
    await claimed.close()
    again = Access(tmp_path, clock=clock, counters=Counters())
    await again.open()
    try:
        found = again.session(token)
        assert found is not None
        assert (found.guest, found.permissions, found.sight) == (True, VIEW, ONE_STUDY)
        assert found.account.name == "guest: share 7"
        clock.move(1)
        assert again.session(token) is None
    finally:
        await again.close()


@pytest.mark.spec("AD-8")
async def test_guests_and_programs_are_connections_like_any_other(claimed: Access, clock, limit):
    limit.most = 2
    guest = await guest_of(claimed)
    assert claimed.session(await token_of(claimed)) is not None
    with pytest.raises(ConnectionsExhausted):
        await claimed.login("anna", PASSWORD, address=HOME)
    with pytest.raises(ConnectionsExhausted):
        await guest_of(claimed)
    await claimed.sessions.end(guest)
    await claimed.login("anna", PASSWORD, address=HOME)
    with pytest.raises(ConnectionsExhausted, match="All 2 web connections"):
        await guest_of(claimed)


@pytest.mark.spec("AD-7")
async def test_how_long_a_log_in_is_good_for_is_a_setting(tmp_path: Path, clock):
    minutes = {"idle": 10.0}
    rules = AccessRules(
        lifetimes=lambda: {**LIFETIMES, Kind.COOKIE: (minutes["idle"] * 60, 3600.0)}
    )
    access = Access(tmp_path, clock=clock, counters=Counters(), rules=rules)
    await access.open()
    try:
        await access.claim_locally("anna", PASSWORD)
        token = (await access.login("anna", PASSWORD, address=HOME)).token
        clock.move(599)
        assert access.session(token) is not None
        minutes["idle"] = 5.0  # holds for sessions that run, too
        clock.move(301)
        assert access.session(token) is None
        token = (await access.login("anna", PASSWORD, address=HOME)).token
        for _ in range(13):
            clock.move(290)
            alive = access.session(token) is not None
        assert not alive
    finally:
        await access.close()
