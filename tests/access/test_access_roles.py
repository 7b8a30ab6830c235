# SPDX-License-Identifier: Apache-2.0
"""Roles, added permissions and sights; what a change does to sessions that run."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from scrigno.access.access import DATABASE_NAME, Access
from scrigno.access.errors import (
    BadRole,
    BadUserName,
    LastAdministrator,
    RoleInUse,
    UnknownRole,
    WrongCredentials,
)
from scrigno.access.permissions import EVERY_PERMISSION, Permission
from scrigno.access.roles import BuiltIn, Role
from scrigno.access.sessions import Kind
from scrigno.core.counters import Counters
from scrigno.core.sight import EVERYTHING, Sight

PASSWORD = "corretto cavallo batteria"
HOME = "10.0.0.1"
CARDIOLOGY = Role(
    name="Cardiology",
    about="Hearts only",
    permissions=frozenset({Permission.VIEW, Permission.REPORT}),
    sight=Sight(modalities=("XA", "US"), institutions=("Ospedale Nord",)),
)


@pytest.fixture
async def claimed(access: Access) -> Access:
    await access.claim_locally("anna", PASSWORD)
    await access.add_account("bruno", PASSWORD, BuiltIn.USER)
    return access


async def session_of(access: Access, user: str):
    made = await access.login(user, PASSWORD, address=HOME)
    session = access.session(made.token)
    assert session is not None
    return session


@pytest.mark.spec("AD-7")
async def test_a_box_has_four_roles_and_only_one_of_them_may_do_everything(claimed: Access):
    known = {each.name: each for each in await claimed.roles.all()}
    assert set(known) == set(BuiltIn)
    assert known[BuiltIn.ADMINISTRATOR].permissions == EVERY_PERMISSION
    assert known[BuiltIn.VIEWER].permissions == {Permission.VIEW}
    for name in (BuiltIn.USER, BuiltIn.TECHNICIAN, BuiltIn.VIEWER):
        assert not known[name].permissions & {Permission.ADMIN, Permission.AUDIT}
        assert Permission.DELETE not in known[name].permissions


@pytest.mark.spec("AD-7")
async def test_a_role_says_what_its_accounts_may_do_and_see_from_this_moment_on(claimed: Access):
    session = await session_of(claimed, "bruno")
    assert Permission.SHARE in session.permissions
    assert session.sight is EVERYTHING
    await claimed.accounts.add_role(CARDIOLOGY)
    await claimed.change_account("bruno", role="cardiology")
    assert session.permissions == {Permission.VIEW, Permission.REPORT}
    assert session.sight == CARDIOLOGY.sight
    narrower = Role(name="CARDIOLOGY", permissions=frozenset(), sight=Sight(sources=("CATH1",)))
    await claimed.change_role(narrower)
    assert session.permissions == frozenset()
    assert session.sight == Sight(sources=("CATH1",))
    await claimed.change_account("bruno", added=frozenset({Permission.EXPORT}))
    assert session.permissions == {Permission.EXPORT}
    # whoever may administer sees everything: he could give himself the right
    await claimed.change_account("bruno", added=frozenset({Permission.ADMIN}))
    assert session.sight is EVERYTHING


@pytest.mark.spec("AD-7")
async def test_roles_with_a_sight_outlive_a_restart_and_hide_what_is_not_understood(
    claimed: Access, tmp_path: Path, clock
):
    await claimed.accounts.add_role(CARDIOLOGY)
    await claimed.change_account("bruno", role="Cardiology")
    token = (await claimed.login("bruno", PASSWORD, address=HOME)).token
    await claimed.close()

    def spoil() -> None:
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db, db:
            db.execute("""UPDATE role SET sight = '{"phase_of_moon":["full"]}'
                       WHERE name = 'Cardiology'""")

    for expected in (CARDIOLOGY.sight, Sight(study_uids=frozenset())):
        again = Access(tmp_path, clock=clock, counters=Counters())
        await again.open()
        session = again.session(token)
        assert session is not None
        assert session.sight == expected
        await again.close()
        spoil()


@pytest.mark.spec("AD-7")
async def test_a_disabled_account_is_out_at_once_and_comes_back_when_enabled(claimed: Access):
    made = await claimed.login("bruno", PASSWORD, address=HOME)
    await claimed.change_account("bruno", disabled=True)
    assert claimed.session(made.token) is None  # ASVS 7.4.2
    with pytest.raises(WrongCredentials):
        await claimed.login("bruno", PASSWORD, address=HOME)
    await claimed.change_account("bruno", disabled=False)
    assert claimed.session(made.token) is None
    assert await session_of(claimed, "bruno")


@pytest.mark.spec("AD-7")
async def test_the_last_administrator_stays_whatever_is_tried(claimed: Access):
    operators = Role(name="Operators", permissions=frozenset({Permission.ADMIN}))
    await claimed.accounts.add_role(operators)
    for attempt in (
        lambda: claimed.change_account("anna", role=BuiltIn.VIEWER),
        lambda: claimed.change_account("anna", disabled=True),
        lambda: claimed.remove_account("anna"),
    ):
        with pytest.raises(LastAdministrator):
            await attempt()
    # an administrator by another role counts, and that role may then not lose the right
    await claimed.change_account("bruno", role="Operators")
    await claimed.change_account("anna", role=BuiltIn.VIEWER)
    with pytest.raises(LastAdministrator):
        await claimed.change_role(Role(name="Operators", permissions=frozenset({Permission.VIEW})))
    with pytest.raises(BadRole):
        await claimed.change_role(Role(name="administrator", permissions=frozenset()))
    known = {each.name: each for each in await claimed.accounts.all()}
    assert known["bruno"].administers
    assert not known["anna"].administers
    # a disabled one does not count
    await claimed.change_account("anna", added=frozenset({Permission.ADMIN}))
    await claimed.change_account("anna", disabled=True)
    with pytest.raises(LastAdministrator):
        await claimed.remove_account("bruno")


@pytest.mark.spec("AD-7")
async def test_a_role_is_removed_only_when_nobody_has_it(claimed: Access):
    await claimed.accounts.add_role(CARDIOLOGY)
    with pytest.raises(BadRole):
        await claimed.accounts.add_role(Role(name="cardiology"))
    with pytest.raises(BadRole):
        await claimed.accounts.add_role(Role(name="a\nb\x00"))
    with pytest.raises(BadRole):
        await claimed.accounts.add_role(Role(name="x", sight=Sight(modalities=("",))))
    await claimed.change_account("bruno", role="Cardiology")
    with pytest.raises(RoleInUse):
        await claimed.accounts.remove_role("Cardiology")
    await claimed.change_account("bruno", role=BuiltIn.USER)
    await claimed.accounts.remove_role("Cardiology")
    with pytest.raises(UnknownRole):
        await claimed.change_account("bruno", role="Cardiology")
    with pytest.raises(BadRole):
        await claimed.accounts.remove_role(BuiltIn.VIEWER)


@pytest.mark.spec("AD-7")
async def test_accounts_and_sessions_of_the_first_release_keep_what_they_had(tmp_path: Path, clock):
    first = Access(tmp_path, clock=clock, counters=Counters())
    await first.open()
    await first.claim_locally("anna", PASSWORD)
    await first.add_account("bruno", PASSWORD, BuiltIn.USER)
    tokens = [
        (await first.login(user, PASSWORD, address=HOME, kind=Kind.BEARER)).token
        for user in ("anna", "bruno")
    ]
    await first.close()

    def back_to_the_first_schema() -> None:
        db = sqlite3.connect(tmp_path / DATABASE_NAME)
        db.executescript("""
            CREATE TABLE old AS SELECT digest, id, account_id, kind, created_at, used_at, address,
                agent FROM session;
            DROP TABLE session; ALTER TABLE old RENAME TO session;
            DROP TABLE passkey; DROP TABLE recovery_code; DROP TABLE totp; DROP TABLE role;
            DROP INDEX account_by_subject;
            ALTER TABLE account DROP COLUMN added; ALTER TABLE account DROP COLUMN must_change;
            ALTER TABLE account DROP COLUMN password_until;
            ALTER TABLE account DROP COLUMN provider; ALTER TABLE account DROP COLUMN subject;
            ALTER TABLE account DROP COLUMN used_at;
            UPDATE schema_info SET version = 1, compat = 1;
            DELETE FROM _sqlite_migrations WHERE name LIKE '0002%';
        """)
        db.close()

    back_to_the_first_schema()
    again = Access(tmp_path, clock=clock, counters=Counters())
    await again.open()
    try:
        anna, bruno = (again.session(token) for token in tokens)
        assert anna is not None
        assert bruno is not None
        assert anna.permissions == EVERY_PERMISSION
        assert Permission.VIEW in bruno.permissions
        assert Permission.ADMIN not in bruno.permissions
    finally:
        await again.close()


@pytest.mark.spec("AD-7")
@pytest.mark.parametrize("name", ["operator", "Scrigno", "ＮＯＢＯＤＹ", "guest: share", "GUEST:x"])
async def test_no_account_has_a_name_that_the_trail_gives_to_others(claimed: Access, name: str):
    with pytest.raises(BadUserName):
        await claimed.add_account(name, PASSWORD, BuiltIn.USER)
