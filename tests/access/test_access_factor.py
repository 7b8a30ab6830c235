# SPDX-License-Identifier: Apache-2.0
"""The steps of a log-in after the password: codes, recovery codes, new passwords."""

import base64
from dataclasses import dataclass
from pathlib import Path

import pytest

from factor_codes import code_of
from scrigno.access.access import TEMPORARY_S, Access, AccessRules
from scrigno.access.entrance import LoggedIn
from scrigno.access.errors import (
    FactorRefused,
    LoginExpired,
    LoginUnfinished,
    PasswordExpired,
    Step,
    TooManyAttempts,
    WeakPassword,
    WrongCode,
    WrongCredentials,
)
from scrigno.access.roles import BuiltIn
from scrigno.core.counters import Counters

PASSWORD = "corretto cavallo batteria"
HOME = "10.0.0.1"


@dataclass
class Anna:
    """An administrator with an authenticator app."""

    access: Access
    clock: object
    secret: str
    recovery: list[str]

    def code(self, *, later: float = 0.0) -> str:
        return code_of(self.secret, self.clock.now().timestamp() + later)

    async def password(self) -> LoginUnfinished:
        with pytest.raises(LoginUnfinished) as stopped:
            await self.access.login("anna", PASSWORD, address=HOME)
        return stopped.value


async def set_up(access: Access, user: str, clock) -> tuple[str, list[str]]:
    account = await access.accounts.named(user)
    made = await access.factors.begin_totp(account)
    await access.factors.confirm_totp(account.id, code_of(made.secret, clock.now().timestamp()))
    return made.secret, await access.factors.new_recovery_codes(account.id)


@pytest.fixture
async def anna(access: Access, clock) -> Anna:
    await access.claim_locally("anna", PASSWORD)
    secret, recovery = await set_up(access, "anna", clock)
    clock.move(60)
    return Anna(access, clock, secret, recovery)


def test_the_test_makes_the_codes_of_the_rfc():
    # RFC 6238 appendix B, SHA-1, the last six digits
    secret = base64.b32encode(b"12345678901234567890").decode()
    assert code_of(secret, 59) == "287082"
    assert code_of(secret, 1111111109) == "081804"
    assert code_of(secret, 20000000000) == "353130"


@pytest.mark.spec("AD-7")
async def test_the_password_alone_gives_no_session_and_the_code_does(anna: Anna):
    stopped = await anna.password()
    assert stopped.step is Step.SECOND_FACTOR
    assert stopped.methods == ("totp", "recovery-code")
    assert anna.access.sessions.all() == []
    assert anna.access.session(stopped.ticket) is None
    made = await anna.access.entrance.by_code(stopped.ticket, anna.code())
    assert isinstance(made, LoggedIn)
    assert anna.access.session(made.token) is not None
    with pytest.raises(LoginExpired):  # the ticket is used up
        await anna.access.entrance.by_code(stopped.ticket, anna.code(later=30))


@pytest.mark.spec("AD-7")
async def test_a_code_counts_once_even_within_its_half_minute(anna: Anna, clock):
    # ASVS 6.5.1
    code = anna.code()
    await anna.access.entrance.by_code((await anna.password()).ticket, code)
    again = await anna.password()
    with pytest.raises(WrongCode):
        await anna.access.entrance.by_code(again.ticket, code)
    # nor one of an earlier step than that, though the clock of the telephone would excuse it
    with pytest.raises(WrongCode):
        await anna.access.entrance.by_code(again.ticket, anna.code(later=-30))
    clock.move(30)
    await anna.access.entrance.by_code(again.ticket, anna.code())


@pytest.mark.spec("AD-7")
@pytest.mark.parametrize(("drift", "right"), [(-30, True), (30, True), (-60, False), (90, False)])
async def test_a_clock_may_be_wrong_by_half_a_minute_and_no_more(anna: Anna, drift, right):
    # ASVS 6.5.5
    stopped = await anna.password()
    if right:
        await anna.access.entrance.by_code(stopped.ticket, anna.code(later=drift))
    else:
        with pytest.raises(WrongCode):
            await anna.access.entrance.by_code(stopped.ticket, anna.code(later=drift))


@pytest.mark.spec("AD-7")
async def test_guessing_codes_ends_the_log_in_and_then_takes_longer_and_longer(anna: Anna, clock):
    stopped = await anna.password()
    for guess in range(5):
        with pytest.raises(WrongCode):
            await anna.access.entrance.by_code(stopped.ticket, f"00000{guess}")
    with pytest.raises(LoginExpired):
        await anna.access.entrance.by_code(stopped.ticket, anna.code())
    # a new ticket does not start the count anew
    waits = []
    for _ in range(40):
        again = await anna.password()
        try:
            await anna.access.entrance.by_code(again.ticket, "000000")
        except TooManyAttempts as error:
            waits.append(error.retry_after_s)
            clock.move(error.retry_after_s)
        except WrongCode:
            pass
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == 60
    clock.move(60)
    again = await anna.password()
    assert await anna.access.entrance.by_code(again.ticket, anna.code())  # never for good


@pytest.mark.spec("AD-7")
@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "１２３４５６", "12 34"])
async def test_what_is_no_code_is_refused_as_a_wrong_one(anna: Anna, code):
    stopped = await anna.password()
    with pytest.raises(WrongCode):
        await anna.access.entrance.by_code(stopped.ticket, code)


@pytest.mark.spec("AD-7")
async def test_a_recovery_code_stands_in_once_and_is_kept_as_a_password_is(
    anna: Anna, tmp_path: Path
):
    assert len(set(anna.recovery)) == 10
    typed = anna.recovery[3].lower().replace("0", "o").replace("1", "l")
    await anna.access.entrance.by_recovery_code((await anna.password()).ticket, typed)
    having = await anna.access.factors.having(1)
    assert having.recovery_codes == 9
    again = await anna.password()
    with pytest.raises(WrongCode):
        await anna.access.entrance.by_recovery_code(again.ticket, anna.recovery[3])
    content = b"".join(each.read_bytes() for each in tmp_path.glob("access.db*"))
    assert anna.recovery[4].replace("-", "").encode() not in content
    # new ones take the place of all earlier ones
    await anna.access.factors.new_recovery_codes(1)
    with pytest.raises(WrongCode):
        await anna.access.entrance.by_recovery_code(again.ticket, anna.recovery[4])


@pytest.mark.spec("AD-7")
async def test_a_ticket_lives_five_minutes_and_dies_with_the_account(anna: Anna, clock):
    stopped = await anna.password()
    clock.move(301)
    with pytest.raises(LoginExpired):
        await anna.access.entrance.by_code(stopped.ticket, anna.code())
    stopped = await anna.password()
    await anna.access.add_account("bruno", PASSWORD, BuiltIn.ADMINISTRATOR)
    await anna.access.change_account("anna", disabled=True)
    with pytest.raises(WrongCredentials):
        await anna.access.entrance.by_code(stopped.ticket, anna.code())
    assert anna.access.sessions.all() == []


@pytest.mark.spec("AD-7")
async def test_an_app_counts_only_after_a_code_of_it_and_is_not_replaced_in_silence(
    access: Access, clock
):
    account = await access.claim_locally("anna", PASSWORD)
    made = await access.factors.begin_totp(account)
    assert made.uri == f"otpauth://totp/Scrigno%3Aanna?secret={made.secret}&issuer=Scrigno"
    assert len(base64.b32decode(made.secret)) == 20
    assert await access.login("anna", PASSWORD, address=HOME)
    with pytest.raises(WrongCode):
        await access.factors.confirm_totp(account.id, "000000")
    await access.factors.confirm_totp(account.id, code_of(made.secret, clock.now().timestamp()))
    with pytest.raises(LoginUnfinished):
        await access.login("anna", PASSWORD, address=HOME)
    with pytest.raises(FactorRefused):
        await access.factors.begin_totp(account)


@pytest.mark.spec("AD-7")
async def test_an_administrator_takes_a_lost_telephone_away_and_ends_the_sessions(
    anna: Anna, clock
):
    made = await anna.access.entrance.by_code((await anna.password()).ticket, anna.code())
    await anna.access.reset_factors("anna")
    assert anna.access.session(made.token) is None
    assert await anna.access.login("anna", PASSWORD, address=HOME)


@pytest.mark.spec("AD-7")
async def test_who_must_have_a_second_factor_sets_it_up_before_there_is_a_session(
    tmp_path: Path, clock
):
    # ASVS 6.3.3
    rules = AccessRules(factor_needed=lambda account: account.administers)
    access = Access(tmp_path, clock=clock, counters=Counters(), rules=rules)
    await access.open()
    try:
        await access.claim_locally("anna", PASSWORD)
        await access.add_account("bruno", PASSWORD, BuiltIn.USER)
        assert await access.login("bruno", PASSWORD, address=HOME)
        with pytest.raises(LoginUnfinished) as stopped:
            await access.login("anna", PASSWORD, address=HOME)
        ticket = stopped.value.ticket
        assert stopped.value.step is Step.ENROL
        secret = (await access.entrance.enrol(ticket)).secret
        with pytest.raises(WrongCode):
            await access.entrance.enrolled(ticket, "000000")
        made = await access.entrance.enrolled(ticket, code_of(secret, clock.now().timestamp()))
        assert access.session(made.token) is not None
        assert len(made.recovery_codes) == 10
        # whoever knows only the password cannot set up another one
        with pytest.raises(LoginUnfinished) as stopped:
            await access.login("anna", PASSWORD, address=HOME)
        with pytest.raises(LoginExpired):
            await access.entrance.enrol(stopped.value.ticket)
        with pytest.raises(LoginExpired):
            await access.entrance.enrolled(stopped.value.ticket, "000000")
    finally:
        await access.close()


@pytest.mark.spec("AD-7")
async def test_a_temporary_password_is_random_ends_by_itself_and_is_changed_at_its_first_use(
    access: Access, clock
):
    # ASVS 6.4.1, 6.4.6
    await access.claim_locally("anna", PASSWORD)
    _, first = await access.invite_account("bruno", BuiltIn.USER)
    _, second = await access.reset_password("bruno")
    assert first != second
    assert len(second.replace("-", "")) == 12
    with pytest.raises(WrongCredentials):
        await access.login("bruno", first, address=HOME)
    with pytest.raises(LoginUnfinished) as stopped:
        await access.login("bruno", second, address=HOME)
    assert stopped.value.step is Step.NEW_PASSWORD
    assert access.sessions.all() == []
    ticket = stopped.value.ticket
    with pytest.raises(WeakPassword):
        await access.entrance.new_password(ticket, "short")
    with pytest.raises(WrongCredentials):
        await access.entrance.new_password(ticket, second)
    made = await access.entrance.new_password(ticket, "a sentence of his own")
    assert access.session(made.token) is not None
    clock.move(TEMPORARY_S * 2)
    assert await access.login("bruno", "a sentence of his own", address=HOME)
    _, third = await access.reset_password("bruno")
    clock.move(TEMPORARY_S)
    with pytest.raises(PasswordExpired):
        await access.login("bruno", third, address=HOME)
    with pytest.raises(WrongCredentials):  # only who has it hears that it is over
        await access.login("bruno", "not the temporary one", address=HOME)


@pytest.mark.spec("AD-7")
async def test_with_a_second_factor_a_new_password_comes_after_it(anna: Anna, clock):
    _, temporary = await anna.access.reset_password("anna")
    with pytest.raises(LoginUnfinished) as stopped:
        await anna.access.login("anna", temporary, address=HOME)
    assert stopped.value.step is Step.SECOND_FACTOR
    with pytest.raises(LoginExpired):
        await anna.access.entrance.new_password(stopped.value.ticket, "chosen by a thief")
    ticket = stopped.value.ticket
    with pytest.raises(LoginUnfinished) as stopped:
        await anna.access.entrance.by_code(ticket, anna.code())
    assert stopped.value.step is Step.NEW_PASSWORD
    made = await anna.access.entrance.new_password(stopped.value.ticket, "chosen by Anna herself")
    assert anna.access.session(made.token) is not None
