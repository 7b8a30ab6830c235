# SPDX-License-Identifier: Apache-2.0
"""First boot: nobody gets in without the setup code, and only once."""

import asyncio
from pathlib import Path

import pytest

from scrigno.access.access import Access
from scrigno.access.common import COMMON
from scrigno.access.errors import (
    AlreadyClaimed,
    TooManyAttempts,
    WeakPassword,
    WrongCredentials,
    WrongSetupCode,
)
from scrigno.access.passwords import require_strong
from scrigno.access.roles import BuiltIn
from scrigno.access.setup_code import SetupCode
from scrigno.core.counters import Counters

PASSWORD = "corretto cavallo batteria"


@pytest.mark.spec("AD-1", "AD-7")
async def test_a_new_box_has_no_account_that_one_could_log_in_with(access: Access):
    assert not access.claimed
    assert await access.accounts.all() == []
    with pytest.raises(WrongCredentials):
        await access.login("admin", "password", address="10.0.0.1")


@pytest.mark.spec("AD-1")
async def test_the_setup_code_makes_the_first_administrator_once(access: Access, tmp_path: Path):
    code = await access.setup_code()
    account = await access.claim(code.lower().replace("-", " "), "Anna", PASSWORD, address="a")
    assert (account.name, account.role, access.claimed) == ("Anna", BuiltIn.ADMINISTRATOR, True)
    assert not (tmp_path / "setup-code").exists()
    with pytest.raises(AlreadyClaimed):
        await access.claim(code, "Eva", PASSWORD, address="a")
    with pytest.raises(AlreadyClaimed):
        await access.setup_code()


async def test_two_claims_at_the_same_moment_make_one_account(access: Access):
    code = await access.setup_code()
    results = await asyncio.gather(
        access.claim(code, "anna", PASSWORD, address="a"),
        access.claim(code, "bruno", PASSWORD, address="b"),
        return_exceptions=True,
    )
    assert sum(isinstance(each, AlreadyClaimed) for each in results) == 1
    assert len(await access.accounts.all()) == 1


@pytest.mark.spec("AD-1")
def test_the_setup_code_is_random_and_for_its_owner_only(tmp_path: Path, clock):
    codes = set()
    for i in range(20):
        codes.add(SetupCode(tmp_path / str(i), clock=clock).current())
    assert len(codes) == 20
    assert all(len(code) == 11 and code[5] == "-" for code in codes)
    assert (tmp_path / "0" / "setup-code").stat().st_mode & 0o777 == 0o600


@pytest.mark.spec("AD-1")
def test_the_setup_code_lives_a_day_and_ten_tries(tmp_path: Path, clock):
    setup = SetupCode(tmp_path, clock=clock)
    first = setup.current()
    clock.move(23 * 3600)
    assert SetupCode(tmp_path, clock=clock).current() == first
    clock.move(2 * 3600)
    second = setup.current()
    assert second != first
    for _ in range(9):
        assert not setup.matches("00000-00000")
    assert setup.current() == second
    assert not setup.matches("00000-00000")
    assert setup.current() != second
    assert not setup.matches(second)


@pytest.mark.parametrize("torn", [b"", b"{", b'{"code": "X"}', b'{"code":"A","made_at":"x"}'])
def test_a_torn_setup_code_is_made_anew(tmp_path: Path, clock, torn: bytes):
    (tmp_path / "setup-code").write_bytes(torn)
    setup = SetupCode(tmp_path, clock=clock)
    assert not setup.matches("")
    assert setup.matches(setup.current())


async def test_wrong_setup_codes_cost_time(access: Access):
    for _ in range(3):
        with pytest.raises(WrongSetupCode):
            await access.claim("00000-00000", "eva", PASSWORD, address="10.0.0.9")
    with pytest.raises(TooManyAttempts):
        await access.claim(await access.setup_code(), "eva", PASSWORD, address="10.0.0.9")
    await access.claim(await access.setup_code(), "anna", PASSWORD, address="10.0.0.1")


@pytest.mark.spec("AD-1")
async def test_the_claim_is_there_after_a_restart(access: Access, tmp_path: Path, clock):
    await access.claim_locally("anna", PASSWORD)
    await access.close()
    again = Access(tmp_path, clock=clock, counters=Counters())
    await again.open()
    try:
        assert again.claimed
        assert (await again.login("ANNA", PASSWORD, address="a")).account.name == "anna"
    finally:
        await again.close()


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("short", "short"),
        ("x" * 129, "long"),
        ("password", "common"),
        ("Password1!", "common"),
        ("12345678", "common"),
        ("aaaaaaaaab", "common"),
        ("SonicDICOM", "common"),
        ("radiologie-anna", "user-name"),
    ],
)
@pytest.mark.spec("AD-7")
def test_weak_passwords_are_refused_with_their_rule(password: str, rule: str):
    with pytest.raises(WeakPassword) as caught:
        require_strong(password, "radiologie-anna")
    assert caught.value.rule == rule


@pytest.mark.spec("AD-7")
def test_the_three_thousand_most_common_passwords_are_refused():
    # ASVS 6.2.4
    assert len(COMMON) >= 3000
    for password in COMMON:
        if len(password) >= 8:
            with pytest.raises(WeakPassword):
                require_strong(password.upper(), "anna")


@pytest.mark.parametrize(
    "password", [PASSWORD, "日本語のパスワード", "tr0ub4dor&3", "mật khẩu dài"]
)
def test_good_passwords_of_any_script_are_taken(password: str):
    require_strong(password, "anna")


async def test_a_refused_password_does_not_use_up_the_setup_code(access: Access):
    code = await access.setup_code()
    for _ in range(12):
        with pytest.raises(WeakPassword):
            await access.claim(code, "anna", "password", address="a")
    assert await access.setup_code() == code
