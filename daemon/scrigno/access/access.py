# SPDX-License-Identifier: Apache-2.0
"""The one door of this room: claim, log in, log out, and whose request this is."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.db.engine import Database

from .accounts import Account, Accounts, Role, fold, require_user_name
from .backoff import Backoff
from .errors import (
    AlreadyClaimed,
    ConnectionsExhausted,
    TooManyAttempts,
    WrongCredentials,
    WrongSetupCode,
)
from .passwords import Hasher, require_strong
from .sessions import Kind, Session, Sessions
from .setup_code import SetupCode
from .tables import SCHEMA

log = logging.getLogger(__name__)

DATABASE_NAME: Final = "access.db"
MOST_TRUSTED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A fresh session; `token` is known to the caller only."""

    token: str
    account: Account


class LoginHeard(Protocol):
    """Is told how each log-in ended."""

    def __call__(self, address: str, *, right: bool) -> None:
        """Hear of one; must be quick."""


def _nobody_hears(address: str, *, right: bool) -> None:
    pass


class Access:
    """Accounts, sessions and the setup code together. Loop thread only."""

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Clock,
        counters: Counters,
        max_connections: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Name the files; `open` makes them. `max_connections` is asked at every log-in."""
        self.on_login: LoginHeard = _nobody_hears
        self._database = Database(state_dir / DATABASE_NAME, SCHEMA, readers=1)
        self.accounts = Accounts(self._database, clock=clock)
        self.sessions = Sessions(self._database, clock=clock)
        self._setup_code = SetupCode(state_dir, clock=clock)
        self._hasher = Hasher()
        self._counters = counters
        self._max_connections = max_connections
        self._claimed = False
        self._code_lock = asyncio.Lock()  # protects the file of the setup code
        self._pair = Backoff(free=2, clock=clock)
        self._address = Backoff(free=20, clock=clock)
        self._account = Backoff(free=20, clock=clock)
        self._trusted: dict[str, None] = {}  # pairs that logged in: no stranger can delay them

    async def open(self) -> None:
        """Open the database, remember the sessions and make the setup code of an unclaimed box."""
        await self._database.open()
        await self._hasher.prepare()
        await self.sessions.load()
        self._claimed = await self.accounts.any()
        if self._claimed:
            await asyncio.to_thread(self._setup_code.remove)
        else:
            await self.setup_code()

    async def close(self) -> None:
        """Finish what is on its way; idempotent."""
        await self.sessions.close()
        await self._database.close()
        self._hasher.close()

    @property
    def claimed(self) -> bool:
        """Tell whether the box has its first account."""
        return self._claimed

    async def setup_code(self) -> str:
        """Return the code for the operator of this machine; raises AlreadyClaimed."""
        if self._claimed:
            raise AlreadyClaimed("The box has been claimed already.")
        async with self._code_lock:
            return await asyncio.to_thread(self._setup_code.current)

    async def claim(self, code: str, user: str, password: str, *, address: str) -> Account:
        """Make the first account, an administrator, for somebody who has the setup code.

        Raises AlreadyClaimed, WrongSetupCode, TooManyAttempts, WeakPassword, BadUserName.
        """
        if self._claimed:
            raise AlreadyClaimed("The box has been claimed already.")
        key = f"setup {address}"
        self._require_patience(self._pair.wait_s(key))
        require_user_name(user)
        require_strong(password, user)
        self._pair.attempt(key)
        async with self._code_lock:
            right = await asyncio.to_thread(self._setup_code.matches, code)
        if not right:
            self._counters.add("access_refused_total", reason=WrongSetupCode.code)
            log.warning("access: wrong setup code from %s", address)
            raise WrongSetupCode(
                "This is not the setup code of this box.",
                next_step="Read it on the box itself with `scrigno setup-code`.",
            )
        self._pair.success(key)
        return await self.claim_locally(user, password)

    async def claim_locally(self, user: str, password: str) -> Account:
        """Make the first account for an operator of this machine, who needs no code."""
        if self._claimed:
            raise AlreadyClaimed("The box has been claimed already.")
        require_user_name(user)
        require_strong(password, user)
        password_hash = await self._hasher.hash(password)
        account = await self.accounts.add(
            user, password_hash, Role.ADMINISTRATOR, only_if_first=True
        )
        self._claimed = True
        async with self._code_lock:
            await asyncio.to_thread(self._setup_code.remove)
        log.info("access: the box was claimed")
        return account

    async def add_account(self, user: str, password: str, role: Role) -> Account:
        """Add an account; raises WeakPassword, BadUserName."""
        require_user_name(user)
        require_strong(password, user)
        return await self.accounts.add(user, await self._hasher.hash(password), role)

    async def remove_account(self, user: str) -> None:
        """Remove an account and end its sessions at once; raises LastAdministrator."""
        await self.sessions.end_all_of(await self.accounts.remove(user))

    async def change_password(self, session: Session, old: str, new: str, *, keep: str) -> None:
        """Change the own password and end all other sessions (ASVS 7.4.3); `keep` is a token."""
        account = session.account
        await self._authenticate(account.name, old, session.address)
        require_strong(new, account.name)
        await self.accounts.set_password_hash(account.name, await self._hasher.hash(new))
        await self.sessions.end_all_of(account.id, but=keep)

    async def login(
        self, user: str, password: str, *, address: str, agent: str = "", kind: Kind = Kind.COOKIE
    ) -> LoggedIn:
        """Start a session; raises WrongCredentials, TooManyAttempts, ConnectionsExhausted."""
        try:
            account = await self._authenticate(user, password, address)
        except (WrongCredentials, TooManyAttempts):
            self.on_login(address, right=False)
            raise
        self.on_login(address, right=True)
        limit = self._max_connections()
        if limit is not None and len(self.sessions.active()) >= limit:
            self._counters.add("access_refused_total", reason=ConnectionsExhausted.code)
            raise _exhausted(limit)
        token = await self.sessions.begin(account, kind, address=address, agent=agent)
        self._counters.add("access_logins_total", kind=kind)
        return LoggedIn(token=token, account=account)

    async def _authenticate(self, user: str, password: str, address: str) -> Account:
        folded = fold(user)[:256]
        pair = f"{address} {folded}"
        self._require_patience(self._pair.wait_s(pair))
        if pair not in self._trusted:
            waits = (self._address.wait_s(address), self._account.wait_s(folded))
            self._require_patience(max(waits))
        for backoff, key in self._watched(pair, address, folded):
            backoff.attempt(key)
        found = await self.accounts.with_hash(user)
        account, kept = found or (None, None)
        right, renewed = await self._hasher.verify(kept, password)
        if account is None or not right or account.disabled:
            self._counters.add("access_refused_total", reason=WrongCredentials.code)
            log.warning("access: failed log-in from %s", address)
            raise WrongCredentials("User name or password is wrong.")
        self._pair.success(pair)
        self._address.uncount(address)
        self._account.uncount(folded)
        self._trust(pair)
        if renewed:
            await self.accounts.set_password_hash(user, renewed)
        return account

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

    def session(self, token: str) -> Session | None:
        """Return whose request this is and note the use; None when the session is over.

        Raises ConnectionsExhausted when somebody comes back after a rest and others have taken
        the last connection meanwhile.
        """
        session = self.sessions.find(token)
        if session is None:
            return None
        limit = self._max_connections()
        if (
            limit is not None
            and not self.sessions.is_active(session)
            and len(self.sessions.active()) >= limit
        ):
            raise _exhausted(limit)
        self.sessions.note_use(token, session)
        return session


def _exhausted(limit: int) -> ConnectionsExhausted:
    return ConnectionsExhausted(
        f"All {limit} web connections are in use.",
        next_step="Try again when somebody has logged out, or raise the limit in the settings.",
    )
