# SPDX-License-Identifier: Apache-2.0
"""From a user name to a session, step by step: password, second factor, new password.

There is no session before the last step. A log-in that is on its way is known by a ticket, which
lives five minutes, in memory only, and dies with a handful of wrong codes.
"""

import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters

from .accounts import Account, Accounts, fold
from .backoff import Backoff
from .errors import (
    ConfirmPassword,
    ConnectionsExhausted,
    LoginExpired,
    LoginUnfinished,
    PasswordExpired,
    Step,
    TooManyAttempts,
    UnknownAccount,
    WrongCode,
    WrongCredentials,
)
from .factors import Factors, NewSecret
from .passkeys import Challenge, Passkeys, Place
from .passwords import Hasher, require_strong
from .sessions import Kind, Session, Sessions

log = logging.getLogger(__name__)

TICKET_S: Final = 300.0  # ASVS 5.0 6.5.5: at most ten minutes
MOST_TICKETS: Final = 10_000
WRONG_CODES: Final = 5  # then the password is asked for again
FRESH_S: Final = 600.0  # whoever has no password here confirms a change by a new log-in
MOST_TRUSTED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A fresh session; `token` is known to the caller only."""

    token: str
    account: Account
    kind: Kind
    recovery_codes: tuple[str, ...] = ()  # shown once, when a second factor was just set up


class LoginHeard(Protocol):
    """Is told how each log-in ended."""

    def __call__(self, address: str, *, right: bool) -> None:
        """Hear of one; must be quick."""


def _nobody_hears(address: str, *, right: bool) -> None:
    pass


def _nothing(account: Account, address: str) -> None:
    pass


@dataclass(slots=True, kw_only=True)
class _Pending:
    account_id: int
    address: str
    agent: str
    kind: Kind
    until: float
    passed: bool = False  # the second factor
    wrong: int = 0
    challenge: Challenge | None = None
    recovery_codes: tuple[str, ...] = field(default=(), repr=False)


class Entrance:
    """Whoever wants a session comes through here. Loop thread only."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        sessions: Sessions,
        factors: Factors,
        passkeys: Passkeys,
        hasher: Hasher,
        clock: Clock,
        counters: Counters,
        factor_needed: Callable[[Account], bool],
        max_connections: Callable[[], int | None],
    ) -> None:
        """`factor_needed` and `max_connections` are asked at every log-in."""
        self.on_login: LoginHeard = _nobody_hears
        self.on_session: Callable[[Account, str], None] = _nothing  # account, address
        self._accounts = accounts
        self._sessions = sessions
        self._factors = factors
        self._passkeys = passkeys
        self._hasher = hasher
        self._clock = clock
        self._counters = counters
        self._factor_needed = factor_needed
        self._max_connections = max_connections
        self._pair = Backoff(free=2, clock=clock)
        self._address = Backoff(free=20, clock=clock)
        self._account = Backoff(free=20, clock=clock)
        self._codes = Backoff(free=WRONG_CODES, clock=clock)
        self._trusted: dict[str, None] = {}  # pairs that logged in: no stranger can delay them
        self._tickets: OrderedDict[str, _Pending] = OrderedDict()

    # the first step ------------------------------------------------------------------------------

    async def login(
        self, user: str, password: str, *, address: str, agent: str, kind: Kind
    ) -> LoggedIn:
        """Start a session, or raise LoginUnfinished with what is still missing.

        Raises WrongCredentials, PasswordExpired, TooManyAttempts, ConnectionsExhausted.
        """
        try:
            account = await self.authenticate(user, password, address)
        except (WrongCredentials, TooManyAttempts):
            self.on_login(address, right=False)
            raise
        self.on_login(address, right=True)
        self._require_current(account)
        pending = _Pending(
            account_id=account.id, address=address, agent=agent, kind=kind, until=0.0
        )
        return await self._go_on(account, pending)

    async def enter(self, account: Account, *, address: str, agent: str, kind: Kind) -> LoggedIn:
        """Start the session of somebody whom a provider vouches for, second factor included."""
        return await self._begin(
            account.id, address=address, agent=agent, kind=kind, recovery_codes=()
        )

    async def authenticate(self, user: str, password: str, address: str) -> Account:
        """Return the account of a right password; every wrong one costs time."""
        folded = fold(user)[:256]
        pair = f"{address} {folded}"
        self._require_patience(self._pair.wait_s(pair))
        if pair not in self._trusted:
            waits = (self._address.wait_s(address), self._account.wait_s(folded))
            self._require_patience(max(waits))
        for backoff, key in self._watched(pair, address, folded):
            backoff.attempt(key)
        found = await self._accounts.with_hash(user)
        account, kept = found or (None, None)
        right, renewed = await self._hasher.verify(kept or None, password)
        if account is None or not right or account.disabled:
            self._counters.add("access_refused_total", reason=WrongCredentials.code)
            log.warning("access: failed log-in from %s", address)
            raise WrongCredentials("User name or password is wrong.")
        self._pair.success(pair)
        self._address.uncount(address)
        self._account.uncount(folded)
        self._trust(pair)
        if renewed:
            await self._accounts.renew_hash(account.id, renewed)
        return account

    async def confirm(self, session: Session, password: str) -> None:
        """Make sure once more that the person is there (ASVS 7.5.1).

        Raises ConfirmPassword, WrongCredentials, TooManyAttempts.
        """
        account = session.account
        if account.provider:
            if self._clock.now().timestamp() - session.created_at > FRESH_S:
                raise ConfirmPassword(
                    "This log-in is too old for this change.", next_step="Log in again."
                )
            return
        if not password:
            raise ConfirmPassword("Your password is needed for this change.")
        await self.authenticate(account.name, password, session.address)

    # the steps after the password ----------------------------------------------------------------

    async def by_code(self, ticket: str, code: str) -> LoggedIn:
        """Go on with the code of the app; raises WrongCode, LoginExpired, LoginUnfinished."""
        pending = self._pending(ticket)
        await self._require_right(pending, self._factors.take_totp(pending.account_id, code))
        return await self._passed(ticket)

    async def by_recovery_code(self, ticket: str, code: str) -> LoggedIn:
        """Go on with a recovery code, which is gone afterwards; raises as `by_code`."""
        pending = self._pending(ticket)
        taken = self._factors.take_recovery_code(pending.account_id, code)
        await self._require_right(pending, taken)
        return await self._passed(ticket)

    async def ask_passkey(self, ticket: str, place: Place) -> dict[str, Any]:
        """Return what the browser needs to ask for the passkey; raises FactorRefused."""
        pending = self._pending(ticket)
        pending.challenge = await self._passkeys.begin_asking(pending.account_id, place)
        return pending.challenge.options

    async def by_passkey(self, ticket: str, credential: dict[str, Any]) -> LoggedIn:
        """Go on with the answer of a passkey; raises as `by_code`."""
        pending = self._pending(ticket)
        challenge, pending.challenge = pending.challenge, None  # it counts once
        if challenge is None:
            raise WrongCode("Nobody has asked for the passkey.")
        taken = self._passkeys.take(pending.account_id, challenge, credential)
        await self._require_right(pending, taken)
        return await self._passed(ticket)

    async def enrol(self, ticket: str) -> NewSecret:
        """Return the secret of a new app, for who must have a second factor and has none."""
        pending = self._pending(ticket)
        account = await self._accounts.by_id(pending.account_id)
        if await self._methods(account):
            raise LoginExpired("A second factor is set up by now.", next_step="Log in again.")
        return await self._factors.begin_totp(account)

    async def enrolled(self, ticket: str, code: str) -> LoggedIn:
        """Put the new app in force with a code of it, and go on; raises as `by_code`."""
        pending = self._pending(ticket)
        account = await self._accounts.by_id(pending.account_id)
        if await self._methods(account):
            raise LoginExpired("A second factor is set up by now.", next_step="Log in again.")
        self._require_patience(self._codes.wait_s(str(account.id)))
        try:
            await self._factors.confirm_totp(account.id, code)
        except WrongCode:
            self._count_wrong(pending)
            raise
        pending.recovery_codes = tuple(await self._factors.new_recovery_codes(account.id))
        return await self._passed(ticket)

    async def new_password(self, ticket: str, password: str) -> LoggedIn:
        """Replace a temporary password, and go on; raises WeakPassword, LoginExpired."""
        pending = self._pending(ticket)
        account = await self._accounts.by_id(pending.account_id)
        if not account.must_change or (await self._methods(account) and not pending.passed):
            raise LoginExpired("This is not the next step.", next_step="Log in again.")
        self._require_current(account)
        require_strong(password, account.name)
        found = await self._accounts.with_hash(account.name)
        same = found is not None and (await self._hasher.verify(found[1], password))[0]
        if same:
            raise WrongCredentials("This is the password that is to be replaced.")
        await self._accounts.set_password_hash(account.name, await self._hasher.hash(password))
        return await self._passed(ticket, factor=pending.passed)

    async def _passed(self, ticket: str, *, factor: bool = True) -> LoggedIn:
        pending = self._tickets.pop(_digest(ticket), None)
        if pending is None:
            raise LoginExpired("This log-in is over.", next_step="Log in again.")
        pending.passed = factor
        account = await self._enabled(pending.account_id)
        return await self._go_on(account, pending)

    async def _go_on(self, account: Account, pending: _Pending) -> LoggedIn:
        """Ask for the next step, or begin the session."""
        if not pending.passed:
            methods = await self._methods(account)
            if methods:
                self._stop_for(Step.SECOND_FACTOR, pending, methods)
            if self._factor_needed(account):
                self._stop_for(Step.ENROL, pending)
        if account.must_change:
            self._stop_for(Step.NEW_PASSWORD, pending)
        return await self._begin(
            account.id,
            address=pending.address,
            agent=pending.agent,
            kind=pending.kind,
            recovery_codes=pending.recovery_codes,
        )

    def _stop_for(self, step: Step, pending: _Pending, methods: tuple[str, ...] = ()) -> NoReturn:
        ticket = secrets.token_urlsafe(32)
        pending.until = self._clock.monotonic() + TICKET_S
        self._tickets[_digest(ticket)] = pending
        while len(self._tickets) > MOST_TICKETS:
            self._tickets.popitem(last=False)
        raise LoginUnfinished(step, ticket, TICKET_S, methods)

    async def _methods(self, account: Account) -> tuple[str, ...]:
        """Return the second factors of an account; recovery codes stand in for the others."""
        having = await self._factors.having(account.id)
        found = ["totp"] if having.totp else []
        found += ["passkey"] if await self._passkeys.of(account.id) else []
        if found and having.recovery_codes:
            found.append("recovery-code")
        return tuple(found)

    async def _begin(
        self,
        account_id: int,
        *,
        address: str,
        agent: str,
        kind: Kind,
        recovery_codes: tuple[str, ...],
    ) -> LoggedIn:
        account = await self._enabled(account_id)
        self.require_connection()
        token = await self._sessions.begin(account, kind, address=address, agent=agent)
        try:
            account = await self._enabled(account_id)  # nobody was disabled meanwhile
        except WrongCredentials:
            await self._sessions.end(token)
            raise
        self._sessions.refresh([account])
        await self._accounts.note_use(account.id, self._clock.now().timestamp())
        self._counters.add("access_logins_total", kind=kind)
        self.on_session(account, address)
        return LoggedIn(token=token, account=account, kind=kind, recovery_codes=recovery_codes)

    async def _enabled(self, account_id: int) -> Account:
        try:
            account = await self._accounts.by_id(account_id)
        except UnknownAccount:
            account = None
        if account is None or account.disabled:
            raise WrongCredentials("User name or password is wrong.")
        return account

    # limits --------------------------------------------------------------------------------------

    def require_connection(self) -> None:
        """Raise ConnectionsExhausted when as many are connected as may be (SPEC AD-8)."""
        limit = self._max_connections()
        if limit is not None and len(self._sessions.active()) >= limit:
            self._counters.add("access_refused_total", reason=ConnectionsExhausted.code)
            raise ConnectionsExhausted(
                f"All {limit} web connections are in use.",
                next_step=(
                    "Try again when somebody has logged out, or raise the limit in the settings."
                ),
            )

    def _pending(self, ticket: str) -> _Pending:
        pending = self._tickets.get(_digest(ticket))
        if pending is None or self._clock.monotonic() > pending.until:
            self._tickets.pop(_digest(ticket), None)
            raise LoginExpired("This log-in is over.", next_step="Log in again.")
        return pending

    async def _require_right(self, pending: _Pending, taken: Any) -> None:
        key = str(pending.account_id)
        try:
            self._require_patience(self._codes.wait_s(key))
        except TooManyAttempts:
            taken.close()
            raise
        self._codes.attempt(key)
        if await taken:
            self._codes.success(key)
            return
        self._count_wrong(pending, attempted=True)
        raise WrongCode("This code is not right, or it was used already.")

    def _count_wrong(self, pending: _Pending, *, attempted: bool = False) -> None:
        if not attempted:
            self._codes.attempt(str(pending.account_id))
        self._counters.add("access_refused_total", reason=WrongCode.code)
        log.warning("access: wrong second factor from %s", pending.address)
        self.on_login(pending.address, right=False)
        pending.wrong += 1
        if pending.wrong >= WRONG_CODES:
            pending.until = float("-inf")

    def _require_current(self, account: Account) -> None:
        until = account.password_until
        if until is not None and self._clock.now().timestamp() >= until:
            raise PasswordExpired(
                "The temporary password was not used in time.",
                next_step="Ask an administrator for a new one.",
            )

    def _watched(self, pair: str, address: str, folded: str) -> tuple[tuple[Backoff, str], ...]:
        return ((self._pair, pair), (self._address, address), (self._account, folded))

    def _trust(self, pair: str) -> None:
        self._trusted.pop(pair, None)
        self._trusted[pair] = None
        if len(self._trusted) > MOST_TRUSTED:
            del self._trusted[next(iter(self._trusted))]

    def _require_patience(self, wait_s: float) -> None:
        if wait_s > 0:
            self._counters.add("access_refused_total", reason=TooManyAttempts.code)
            raise TooManyAttempts(wait_s)


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).hexdigest()
