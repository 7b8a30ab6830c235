# SPDX-License-Identifier: Apache-2.0
"""Passkeys and security keys as second factor (WebAuthn level 3), checked by `webauthn`.

A passkey belongs to the host name under which the pages were open when it was made; under another
name, or an address, browsers do not offer it. A challenge counts once.
"""

import ipaddress
import json
from dataclasses import dataclass
from typing import Any, Final

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from scrigno.core.clock import Clock
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection

from .accounts import Account
from .errors import FactorRefused, WrongCode

MOST_PASSKEYS: Final = 20  # of one account
MOST_NAME: Final = 64
TIMEOUT_MS: Final = 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """One passkey; `id` is its credential id in base64url."""

    id: str
    name: str
    host: str
    created_at: float
    used_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the pages are open: the host name, and the origins, each with scheme and port."""

    host: str
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What the authenticator must answer; `options` go to the browser as they are."""

    options: dict[str, Any]
    challenge: bytes
    place: Place


class Passkeys:
    """The passkeys in the database. Loop thread only."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        """Use an open database with the access schema."""
        self._database = database
        self._clock = clock

    async def of(self, account_id: int) -> list[Passkey]:
        """Return the passkeys of an account, the oldest first."""
        query = (
            "SELECT id, name, host, created_at, used_at FROM passkey WHERE account_id = ? "
            "ORDER BY created_at, id"
        )
        rows = await self._database.read(lambda db: db.execute(query, (account_id,)).fetchall())
        return [
            Passkey(id=row[0], name=row[1], host=row[2], created_at=row[3], used_at=row[4])
            for row in rows
        ]

    async def begin_adding(self, account: Account, place: Place) -> Challenge:
        """Return what the browser needs to make a passkey; raises FactorRefused."""
        _require_name(place.host)
        known = await self.of(account.id)
        if len(known) >= MOST_PASSKEYS:
            raise FactorRefused(f"An account has at most {MOST_PASSKEYS} passkeys.")
        options = webauthn.generate_registration_options(
            rp_id=place.host,
            rp_name="Scrigno",
            user_id=f"scrigno-{account.id}".encode(),
            user_name=account.name,
            timeout=TIMEOUT_MS,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.DISCOURAGED,
                user_verification=UserVerificationRequirement.PREFERRED,
            ),
            exclude_credentials=_descriptors(known, place.host),
        )
        plain = json.loads(webauthn.options_to_json(options))
        return Challenge(options=plain, challenge=options.challenge, place=place)

    async def finish_adding(
        self, account: Account, challenge: Challenge, credential: dict[str, Any], name: str
    ) -> Passkey:
        """Keep the passkey that answered the challenge; raises WrongCode, FactorRefused."""
        try:
            made = webauthn.verify_registration_response(
                credential=credential,
                expected_challenge=challenge.challenge,
                expected_rp_id=challenge.place.host,
                expected_origin=list(challenge.place.origins),
            )
        except _REFUSALS as error:
            raise WrongCode("The answer of the passkey is not right.") from error
        passkey = Passkey(
            id=bytes_to_base64url(made.credential_id),
            name=" ".join(name.split())[:MOST_NAME] or "Passkey",
            host=challenge.place.host,
            created_at=self._clock.now().timestamp(),
            used_at=None,
        )
        values = (passkey.id, account.id, passkey.name, made.credential_public_key)
        more = (made.sign_count, passkey.host, passkey.created_at)

        def insert(db: Connection) -> None:
            if db.execute("SELECT 1 FROM passkey WHERE id = ?", (passkey.id,)).fetchone():
                raise FactorRefused("This passkey is set up already.")
            db.execute(
                "INSERT INTO passkey (id, account_id, name, public_key, sign_count, host, "
                "created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*values, *more),
            )

        await self._database.write(insert)
        return passkey

    async def begin_asking(self, account_id: int, place: Place) -> Challenge:
        """Return what the browser needs to ask for a passkey; raises FactorRefused."""
        known = [each for each in await self.of(account_id) if each.host == place.host]
        if not known:
            raise FactorRefused(
                "There is no passkey for this address of the box.",
                next_step="Open the pages under the name under which the passkey was made.",
            )
        options = webauthn.generate_authentication_options(
            rp_id=place.host,
            timeout=TIMEOUT_MS,
            allow_credentials=_descriptors(known, place.host),
            user_verification=UserVerificationRequirement.PREFERRED,
        )
        plain = json.loads(webauthn.options_to_json(options))
        return Challenge(options=plain, challenge=options.challenge, place=place)

    async def take(self, account_id: int, challenge: Challenge, credential: dict[str, Any]) -> bool:
        """Tell whether a passkey of the account answered the challenge."""
        ident = credential.get("id")
        if not isinstance(ident, str):
            return False
        query = "SELECT public_key, sign_count FROM passkey WHERE id = ? AND account_id = ?"
        row = await self._database.read(
            lambda db: db.execute(query, (ident, account_id)).fetchone()
        )
        if row is None:
            return False
        try:
            answer = webauthn.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge.challenge,
                expected_rp_id=challenge.place.host,
                expected_origin=list(challenge.place.origins),
                credential_public_key=row[0],
                credential_current_sign_count=int(row[1]),
            )
        except _REFUSALS:
            return False
        values = (answer.new_sign_count, self._clock.now().timestamp(), ident, int(row[1]))
        statement = "UPDATE passkey SET sign_count = ?, used_at = ? WHERE id = ? AND sign_count = ?"
        changed = await self._database.write(lambda db: db.execute(statement, values).rowcount)
        return changed == 1

    async def drop(self, account_id: int, ident: str | None = None) -> bool:
        """Take a passkey away, or all of them; False when there was none."""
        statement, values = "DELETE FROM passkey WHERE account_id = ?", (account_id,)
        if ident is None:
            return await self._database.write(lambda db: db.execute(statement, values).rowcount > 0)
        one = f"{statement} AND id = ?"
        return await self._database.write(lambda db: db.execute(one, (*values, ident)).rowcount > 0)


# The library raises ValueError, KeyError and TypeError too, for JSON that no browser sends.
_REFUSALS: Final = (WebAuthnException, ValueError, KeyError, TypeError, AttributeError)


def _descriptors(known: list[Passkey], host: str) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(id=base64url_to_bytes(each.id))
        for each in known
        if each.host == host
    ]


def _require_name(host: str) -> None:
    """Raise FactorRefused for an address: a passkey needs a name (WebAuthn 5.1.3, step 8)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    raise FactorRefused(
        "A passkey needs a name of the box, not an address.",
        next_step="Open the pages as https://scrigno.local or by the name that the box has.",
    )
