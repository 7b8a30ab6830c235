# SPDX-License-Identifier: Apache-2.0
"""The one door of this room: claim, log in, log out, and whose request this is."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.sight import Sight
from scrigno.db.engine import Database

from .accounts import Account, Accounts, require_user_name
from .backoff import Backoff
from .entrance import Entrance, LoggedIn
from .errors import AlreadyClaimed, OfProvider, TooManyAttempts, WrongSetupCode
from .factors import Factors
from .passkeys import Passkeys
from .passwords import Hasher, require_strong
from .permissions import Permission
from .roles import BuiltIn, Role, Roles
from .sessions import LIFETIMES, Kind, Session, Sessions
from .setup_code import SetupCode
from .tables import SCHEMA

log = logging.getLogger(__name__)

DATABASE_NAME: Final = "access.db"
TEMPORARY_S: Final = 72 * 3600.0  # a temporary password of a Friday is good on Monday
# 12 letters of 32: 60 bits, more than ASVS 5.0 6.5.4 asks for
_LETTERS: Final = "abcdefghjkmnpqrstvwxyz23456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """What the settings say of log-ins; asked anew each time."""

    max_connections: Callable[[], int | None] = lambda: None
    lifetimes: Callable[[], Mapping[Kind, tuple[float, float]]] = lambda: LIFETIMES
    factor_needed: Callable[[Account], bool] = lambda _account: False


class Access:
    """Accounts, roles, sessions, factors and the setup code together. Loop thread only."""

    def __init__(
        self, state_dir: Path, *, clock: Clock, counters: Counters, rules: AccessRules | None = None
    ) -> None:
        """Name the files; `open` makes them."""
        rules = rules or AccessRules()
        self._database = Database(state_dir / DATABASE_NAME, SCHEMA, readers=1)
        self.accounts = Accounts(self._database, clock=clock)
        self.roles = Roles(self._database)
        self.sessions = Sessions(self._database, clock=clock, lifetimes=rules.lifetimes)
        self._hasher = Hasher()
        self.factors = Factors(self._database, self._hasher, clock=clock)
        self.passkeys = Passkeys(self._database, clock=clock)
        self.entrance = Entrance(
            accounts=self.accounts,
            sessions=self.sessions,
            factors=self.factors,
            passkeys=self.passkeys,
            hasher=self._hasher,
            clock=clock,
            counters=counters,
            factor_needed=rules.factor_needed,
            max_connections=rules.max_connections,
        )
        self._setup_code = SetupCode(state_dir, clock=clock)
        self._clock = clock
        self._counters = counters
        self._max_connections = rules.max_connections
        self._claimed = False
        self._code_lock = asyncio.Lock()  # protects the file of the setup code
        self._guesses = Backoff(free=2, clock=clock)  # of the setup code, per address

    async def open(self) -> None:
        """Open the database, remember the sessions and make the setup code of an unclaimed box."""
        await self._database.open()
        await self._hasher.prepare()
        await self.sessions.load(self.accounts)
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

    # the first account ---------------------------------------------------------------------------

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
        wait_s = self._guesses.wait_s(address)
        if wait_s > 0:
            self._counters.add("access_refused_total", reason=TooManyAttempts.code)
            raise TooManyAttempts(wait_s)
        require_user_name(user)
        require_strong(password, user)
        self._guesses.attempt(address)
        async with self._code_lock:
            right = await asyncio.to_thread(self._setup_code.matches, code)
        if not right:
            self._counters.add("access_refused_total", reason=WrongSetupCode.code)
            log.warning("access: wrong setup code from %s", address)
            raise WrongSetupCode(
                "This is not the setup code of this box.",
                next_step="Read it on the box itself with `scrigno setup-code`.",
            )
        self._guesses.success(address)
        return await self.claim_locally(user, password)

    async def claim_locally(self, user: str, password: str) -> Account:
        """Make the first account for an operator of this machine, who needs no code."""
        if self._claimed:
            raise AlreadyClaimed("The box has been claimed already.")
        require_user_name(user)
        require_strong(password, user)
        password_hash = await self._hasher.hash(password)
        account = await self.accounts.add(
            user, password_hash, BuiltIn.ADMINISTRATOR, only_if_first=True
        )
        self._claimed = True
        async with self._code_lock:
            await asyncio.to_thread(self._setup_code.remove)
        log.info("access: the box was claimed")
        return account

    # accounts ------------------------------------------------------------------------------------

    async def add_account(
        self, user: str, password: str, role: str, *, must_change: bool = False
    ) -> Account:
        """Add an account; raises WeakPassword, BadUserName, UnknownRole."""
        require_user_name(user)
        require_strong(password, user)
        return await self.accounts.add(
            user, await self._hasher.hash(password), role, must_change=must_change
        )

    async def invite_account(self, user: str, role: str) -> tuple[Account, str]:
        """Add an account with a temporary password, which is kept nowhere."""
        require_user_name(user)
        password, password_hash, until = await self._temporary()
        account = await self.accounts.add(
            user, password_hash, role, must_change=True, password_until=until
        )
        return account, password

    async def reset_password(self, user: str) -> tuple[Account, str]:
        """Give an account a temporary password and end all that it had; ASVS 6.4.6.

        Whoever resets does not choose the password, and it must be changed at its first use.
        Raises UnknownAccount, OfProvider.
        """
        if (await self.accounts.named(user)).provider:
            raise OfProvider(
                "This account logs in by the provider and has no password here.",
                next_step="Reset it at the provider.",
            )
        password, password_hash, until = await self._temporary()
        account = await self.accounts.set_password_hash(
            user, password_hash, must_change=True, until=until
        )
        await self.sessions.end_all_of(account.id)
        return account, password

    async def _temporary(self) -> tuple[str, str, float]:
        letters = "".join(secrets.choice(_LETTERS) for _ in range(12))
        password = "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))
        until = self._clock.now().timestamp() + TEMPORARY_S
        return password, await self._hasher.hash(password), until

    async def change_account(
        self,
        user: str,
        *,
        role: str | None = None,
        added: frozenset[Permission] | None = None,
        disabled: bool | None = None,
        must_change: bool | None = None,
    ) -> Account:
        """Change an account; its sessions know at once, those of a disabled one end.

        Raises UnknownAccount, UnknownRole, LastAdministrator.
        """
        account = await self.accounts.change(
            user, role=role, added=added, disabled=disabled, must_change=must_change
        )
        if account.disabled:
            await self.sessions.end_all_of(account.id)
        self.sessions.refresh([account])
        return account

    async def remove_account(self, user: str) -> None:
        """Remove an account and end its sessions at once; raises LastAdministrator."""
        await self.sessions.end_all_of((await self.accounts.remove(user)).id)

    async def change_role(self, role: Role) -> Role:
        """Change what a role may do and sees; its accounts' sessions know at once."""
        changed = await self.accounts.change_role(role)
        self.sessions.refresh(await self.accounts.all())
        return changed

    async def change_password(self, session: Session, old: str, new: str, *, keep: str) -> None:
        """Change the own password and end all other sessions (ASVS 7.4.3); `keep` is a token.

        Tokens of programs stay: they were made apart, and are revoked apart.
        """
        account = session.account
        await self.entrance.authenticate(account.name, old, session.address)
        require_strong(new, account.name)
        changed = await self.accounts.set_password_hash(account.name, await self._hasher.hash(new))
        await self.sessions.end_all_of(account.id, but=keep, tokens=False)
        self.sessions.refresh([changed])

    async def reset_factors(self, user: str) -> Account:
        """Take every second factor from an account and end its sessions."""
        account = await self.accounts.named(user)
        await self.factors.drop_totp(account.id)
        await self.passkeys.drop(account.id)
        await self.factors.drop_recovery_codes(account.id)
        await self.sessions.end_all_of(account.id, tokens=False)
        return account

    # sessions ------------------------------------------------------------------------------------

    async def login(
        self, user: str, password: str, *, address: str, agent: str = "", kind: Kind = Kind.COOKIE
    ) -> LoggedIn:
        """Start a session; raises LoginUnfinished when the password alone is not enough.

        Raises WrongCredentials, PasswordExpired, TooManyAttempts, ConnectionsExhausted too.
        """
        return await self.entrance.login(user, password, address=address, agent=agent, kind=kind)

    async def begin_limited(
        self,
        label: str,
        permissions: Iterable[Permission],
        sight: Sight,
        lifetime_s: float,
        *,
        address: str,
        agent: str = "",
        kind: Kind = Kind.COOKIE,
    ) -> str:
        """Start the session of somebody without an account and return its token.

        It may do and sees what is given here and nothing else, never administers, and ends after
        `lifetime_s`. Raises ConnectionsExhausted: a guest is a connection like any other.
        """
        self.entrance.require_connection()
        token = await self.sessions.begin_limited(
            label, permissions, sight, lifetime_s, address=address, agent=agent, kind=kind
        )
        self._counters.add("access_logins_total", kind="limited")
        return token

    def session(self, token: str) -> Session | None:
        """Return whose request this is and note the use; None when the session is over.

        Raises ConnectionsExhausted when somebody comes back after a rest and others have taken
        the last connection meanwhile.
        """
        session = self.sessions.find(token)
        if session is None:
            return None
        if self._max_connections() is not None and not self.sessions.is_active(session):
            self.entrance.require_connection()
        self.sessions.note_use(token, session)
        return session
