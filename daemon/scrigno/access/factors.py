# SPDX-License-Identifier: Apache-2.0
"""Second factors that are typed: codes of an authenticator app (RFC 6238), and recovery codes.

A code counts once (ASVS 5.0 6.5.1): the time step of the last one that was taken is kept, and
nothing up to it is taken again, whoever is quicker. Recovery codes are kept as password hashes
(6.5.2), each gone with its use.
"""

import base64
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

from scrigno.core.clock import Clock
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection

from .accounts import Account
from .errors import FactorRefused, WrongCode
from .passwords import Hasher

STEP_S: Final = 30  # ASVS 6.5.5
DIGITS: Final = 6
DRIFT: Final = 1  # steps: the clock of a telephone may be wrong by half a minute
SECRET_BYTES: Final = 20  # as long as SHA-1 (RFC 4226 section 4, R6)
RECOVERY_CODES: Final = 10
RECOVERY_LETTERS: Final = 12  # 60 bits
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
ISSUER: Final = "Scrigno"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret that is not in force before a code of it was given."""

    secret: str  # base 32
    uri: str  # what a QR code for authenticator apps holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Having:
    """What an account has of codes."""

    totp: bool = False
    recovery_codes: int = 0


class Factors:
    """The secrets and codes in the database. Loop thread only."""

    def __init__(self, database: Database, hasher: Hasher, *, clock: Clock) -> None:
        """Use an open database with the access schema."""
        self._database = database
        self._hasher = hasher
        self._clock = clock

    async def having(self, account_id: int) -> Having:
        """Return which codes an account has."""

        def query(db: Connection) -> Having:
            totp = db.execute(
                "SELECT 1 FROM totp WHERE account_id = ? AND confirmed = 1", (account_id,)
            ).fetchone()
            codes = db.execute(
                "SELECT count(*) FROM recovery_code WHERE account_id = ?", (account_id,)
            ).fetchone()
            return Having(totp=totp is not None, recovery_codes=int(codes[0]) if codes else 0)

        return await self._database.read(query)

    async def begin_totp(self, account: Account) -> NewSecret:
        """Make a secret for an app; it counts from `confirm_totp` on. Raises FactorRefused."""
        secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
        now = self._clock.now().timestamp()

        def change(db: Connection) -> None:
            known = db.execute(
                "SELECT 1 FROM totp WHERE account_id = ? AND confirmed = 1", (account.id,)
            ).fetchone()
            if known:
                raise FactorRefused(
                    "An authenticator app is set up already.", next_step="Take it away first."
                )
            db.execute(
                "INSERT INTO totp (account_id, secret, confirmed, counter, created_at) "
                "VALUES (?, ?, 0, 0, ?) ON CONFLICT (account_id) DO UPDATE SET "
                "secret = excluded.secret, counter = 0, created_at = excluded.created_at",
                (account.id, secret, now),
            )

        await self._database.write(change)
        label = quote(f"{ISSUER}:{account.name}", safe="")
        uri = f"otpauth://totp/{label}?secret={secret}&issuer={ISSUER}"
        return NewSecret(secret=secret, uri=uri)

    async def confirm_totp(self, account_id: int, code: str) -> None:
        """Put the new secret in force with a code of it; raises WrongCode."""
        if not await self._take(account_id, code, confirmed=False):
            raise WrongCode(
                "This is not the code that the app shows now.",
                next_step="Look whether the clocks of the telephone and of the box are right.",
            )

    async def take_totp(self, account_id: int, code: str) -> bool:
        """Tell whether a code is right, and use it up."""
        return await self._take(account_id, code, confirmed=True)

    async def _take(self, account_id: int, code: str, *, confirmed: bool) -> bool:
        plain = "".join(code.split())
        if len(plain) != DIGITS or not (plain.isascii() and plain.isdigit()):
            return False
        step = int(self._clock.now().timestamp() // STEP_S)

        def change(db: Connection) -> bool:
            row = db.execute(
                "SELECT secret, counter FROM totp WHERE account_id = ? AND confirmed = ?",
                (account_id, int(confirmed)),
            ).fetchone()
            if row is None:
                return False
            found = _matching(str(row[0]), plain, step)
            if found is None or found <= int(row[1]):
                return False  # wrong, or used: no step is taken twice
            db.execute(
                "UPDATE totp SET confirmed = 1, counter = ? WHERE account_id = ?",
                (found, account_id),
            )
            return True

        return await self._database.write(change)

    async def new_recovery_codes(self, account_id: int) -> list[str]:
        """Make recovery codes in the place of all earlier ones; they are kept nowhere."""
        codes = [
            "".join(secrets.choice(ALPHABET) for _ in range(RECOVERY_LETTERS))
            for _ in range(RECOVERY_CODES)
        ]
        hashes = [await self._hasher.hash(code) for code in codes]

        def change(db: Connection) -> None:
            db.execute("DELETE FROM recovery_code WHERE account_id = ?", (account_id,))
            db.executemany(
                "INSERT INTO recovery_code (account_id, hash) VALUES (?, ?)",
                [(account_id, each) for each in hashes],
            )

        await self._database.write(change)
        return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]

    async def take_recovery_code(self, account_id: int, code: str) -> bool:
        """Tell whether a recovery code is right, and use it up."""
        plain = "".join(code.upper().replace("-", " ").split())
        plain = plain.translate(str.maketrans("OIL", "011"))
        if len(plain) != RECOVERY_LETTERS or not plain.isascii():
            return False
        query = "SELECT id, hash FROM recovery_code WHERE account_id = ? ORDER BY id"
        rows = await self._database.read(lambda db: db.execute(query, (account_id,)).fetchall())
        for number, kept in rows:
            right, _ = await self._hasher.verify(str(kept), plain)
            if right:
                return await self._use_up(int(number))
        return False

    async def _use_up(self, number: int) -> bool:
        """Tell whether a recovery code was still there: of two at once one is first."""
        statement = "DELETE FROM recovery_code WHERE id = ?"
        return await self._database.write(lambda db: db.execute(statement, (number,)).rowcount) == 1

    async def drop_totp(self, account_id: int) -> None:
        """Take the app away."""
        statement = "DELETE FROM totp WHERE account_id = ?"
        await self._database.write(lambda db: db.execute(statement, (account_id,)).rowcount)

    async def drop_recovery_codes(self, account_id: int) -> None:
        """Take the recovery codes away."""
        statement = "DELETE FROM recovery_code WHERE account_id = ?"
        await self._database.write(lambda db: db.execute(statement, (account_id,)).rowcount)


def _matching(secret: str, code: str, step: int) -> int | None:
    """Return the time step whose code this is, the newest first."""
    key = HOTP(base64.b32decode(secret), DIGITS, SHA1(), enforce_key_length=False)  # noqa: S303 - RFC 6238
    found = None
    for each in range(step - DRIFT, step + DRIFT + 1):  # all of them, so that each costs the same
        if secrets.compare_digest(key.generate(max(0, each)), code.encode("ascii")):
            found = each
    return found
