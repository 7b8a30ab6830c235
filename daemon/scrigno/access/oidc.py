# SPDX-License-Identifier: Apache-2.0
"""Log-in by an OpenID Connect provider: authorization code flow with PKCE, state and nonce.

OpenID Connect Core 1.0 section 3.1, Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (issuer in the
answer). The provider vouches for the second factor. Nothing of what it sends is believed before
the signature, the issuer, the audience, the times and the nonce of its token were found right.
"""

import base64
import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from scrigno.core.clock import Clock

from .accounts import Account, Accounts
from .errors import (
    BadUserName,
    LastAdministrator,
    ProviderRefused,
    ProviderUnavailable,
    UnknownRole,
)

# Signatures only; "none" and keys that both sides know are not among them.
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
PENDING_S: Final = 600.0
MOST_PENDING: Final = 5_000
KEPT_S: Final = 3600.0  # the discovery document and the keys
KEYS_AGAIN_S: Final = 60.0  # an unknown key is looked for at most so often
SKEW_S: Final = 60  # clocks may differ so much
OLDEST_S: Final = 600.0  # a token that was just asked for is not older
MOST_BYTES: Final = 256 << 10
_NEEDED: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcRules:
    """What the settings say of the provider; `roles` are pairs of a claim's value and a role."""

    enabled: bool = False
    label: str = ""
    issuer: str = ""
    client_id: str = ""
    client_secret: str = ""
    scopes: str = "openid profile"
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    roles: tuple[tuple[str, str], ...] = ()
    default_role: str = ""


class Call(Protocol):
    """Calls another machine by HTTP; returns the status and the body."""

    async def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """Call once, without following redirects; raises a ScrignoError when nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Where the browser goes, and the secret that it must bring back in a cookie."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    secret: str  # digest
    nonce: str
    verifier: str
    redirect_uri: str
    until: float


@dataclass(slots=True)
class _Kept:
    issuer: str = ""
    document: dict[str, Any] | None = None
    document_until: float = 0.0
    keys: KeySet | None = None
    keys_until: float = 0.0
    keys_again: float = 0.0


class OidcLogin:
    """One provider, as the settings name it. Loop thread only."""

    def __init__(
        self, accounts: Accounts, *, rules: Callable[[], OidcRules], call: Call, clock: Clock
    ) -> None:
        """Call nobody yet."""
        self._accounts = accounts
        self._rules = rules
        self._call = call
        self._clock = clock
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._kept = _Kept()

    @property
    def rules(self) -> OidcRules:
        """What the settings say now."""
        return self._rules()

    async def begin(self, redirect_uri: str) -> Begun:
        """Return where the browser is sent; raises ProviderUnavailable."""
        rules = self._required()
        document = await self._document(rules)
        state, secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        pending = _Pending(
            secret=_digest(secret),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=redirect_uri,
            until=self._clock.monotonic() + PENDING_S,
        )
        self._pending[_digest(state)] = pending
        while len(self._pending) > MOST_PENDING:
            self._pending.popitem(last=False)
        challenge = hashlib.sha256(pending.verifier.encode("ascii")).digest()
        query = {
            "response_type": "code",
            "client_id": rules.client_id,
            "redirect_uri": redirect_uri,
            "scope": rules.scopes,
            "state": state,
            "nonce": pending.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
        }
        endpoint = document["authorization_endpoint"]
        joint = "&" if urlsplit(endpoint).query else "?"
        return Begun(url=f"{endpoint}{joint}{urlencode(query)}", secret=secret)

    async def finish(self, answer: Mapping[str, str], secret: str) -> Account:
        """Return the account of whom the provider sent back.

        `answer` is the query string, `secret` what stood in the browser's cookie. Raises
        ProviderRefused, ProviderUnavailable.
        """
        rules = self._required()
        pending = self._pending.pop(_digest(answer.get("state", "")), None)
        if pending is None or self._clock.monotonic() > pending.until:
            raise ProviderRefused("This log-in was not begun here, or it took too long.")
        if not secrets.compare_digest(pending.secret, _digest(secret)):
            raise ProviderRefused("This log-in was begun in another browser.")
        if answer.get("iss", rules.issuer) != rules.issuer:
            raise ProviderRefused("The answer names another issuer.")
        if "error" in answer or not answer.get("code"):
            raise ProviderRefused("The provider did not let the person in.")
        document = await self._document(rules)
        tokens = await self._exchange(rules, document, answer["code"], pending)
        claims = await self._claims(rules, tokens.get("id_token"), pending.nonce)
        if not _has(claims, rules.name_claim) or not _has(claims, rules.role_claim):
            claims = await self._more(document, tokens, claims)
        return await self._account(rules, claims)

    # the provider --------------------------------------------------------------------------------

    def _required(self) -> OidcRules:
        rules = self._rules()
        if not (rules.enabled and rules.issuer and rules.client_id):
            raise ProviderUnavailable(
                "Log-in by a provider is not set up.",
                next_step="An administrator sets it up in the account settings.",
            )
        return rules

    async def _document(self, rules: OidcRules) -> dict[str, Any]:
        """Return the discovery document, fetched at most once an hour."""
        kept, now = self._kept, self._clock.monotonic()
        if kept.issuer != rules.issuer:
            kept = self._kept = _Kept(issuer=rules.issuer)
        if kept.document is None or now > kept.document_until:
            url = rules.issuer.rstrip("/") + "/.well-known/openid-configuration"
            document = await self._json("GET", url)
            if document.get("issuer") != rules.issuer:
                raise ProviderUnavailable("The provider calls itself something else.")
            for name in _NEEDED:
                _require_safe(document.get(name), rules.issuer)
            kept.document, kept.document_until = document, now + KEPT_S
        return kept.document

    async def _key_set(self, rules: OidcRules, *, anew: bool) -> KeySet:
        """Return the keys; `anew` when a token names one that is not among them."""
        document, now = await self._document(rules), self._clock.monotonic()
        kept = self._kept
        wanted = anew and now > kept.keys_again
        if kept.keys is None or now > kept.keys_until or wanted:
            found = await self._json("GET", document["jwks_uri"])
            try:
                keys = KeySet.import_key_set({"keys": _signing(found.get("keys"))})
            except (JoseError, ValueError, TypeError, KeyError) as error:
                raise ProviderUnavailable("The keys of the provider cannot be read.") from error
            kept.keys, kept.keys_until, kept.keys_again = keys, now + KEPT_S, now + KEYS_AGAIN_S
        return kept.keys

    async def _exchange(
        self, rules: OidcRules, document: Mapping[str, Any], code: str, pending: _Pending
    ) -> dict[str, Any]:
        """Give the code for tokens (Core 3.1.3)."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": pending.redirect_uri,
            "client_id": rules.client_id,
            "code_verifier": pending.verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if rules.client_secret:
            methods = document.get("token_endpoint_auth_methods_supported")
            if isinstance(methods, list) and "client_secret_basic" not in methods:
                form["client_secret"] = rules.client_secret
            else:  # RFC 6749 2.3.1: both parts are form-encoded first
                pair = f"{quote(rules.client_id, safe='')}:{quote(rules.client_secret, safe='')}"
                basic = base64.b64encode(pair.encode()).decode("ascii")
                headers["Authorization"] = f"Basic {basic}"
        body = urlencode(form).encode("ascii")
        return await self._json("POST", document["token_endpoint"], headers=headers, body=body)

    async def _claims(self, rules: OidcRules, token: object, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token that is right (Core 3.1.3.7); raises ProviderRefused."""
        if not isinstance(token, str) or len(token) > MOST_BYTES:
            raise ProviderRefused("The provider gave no token of who it is.")
        claims = await self._verified(rules, token)
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=SKEW_S,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise ProviderRefused(f"The provider's token is not right: {error.error}.") from error
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and "azp" not in claims:
            raise ProviderRefused("The provider's token is for several programs.")
        if claims.get("azp", rules.client_id) != rules.client_id:
            raise ProviderRefused("The provider's token is for another program.")
        if self._clock.now().timestamp() - float(claims["iat"]) > OLDEST_S:
            raise ProviderRefused("The provider's token is an old one.")
        subject = claims["sub"]
        if not isinstance(subject, str) or not 1 <= len(subject) <= 255:
            raise ProviderRefused("The provider does not say who it is.")
        return claims

    async def _verified(self, rules: OidcRules, token: str) -> dict[str, Any]:
        for anew in (False, True):
            keys = await self._key_set(rules, anew=anew)
            try:
                return dict(jwt.decode(token, keys, algorithms=ALGORITHMS).claims)
            except (JoseError, ValueError, TypeError, KeyError) as error:
                # the provider may have changed its keys since they were fetched
                if anew:
                    raise ProviderRefused(
                        "The provider's token is not signed as it must be."
                    ) from error
        raise ProviderRefused("The provider's token is not signed as it must be.")

    async def _more(
        self, document: Mapping[str, Any], tokens: Mapping[str, Any], claims: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the claims with those of the user-info endpoint, when there is one (Core 5.3)."""
        endpoint, access = document.get("userinfo_endpoint"), tokens.get("access_token")
        if not isinstance(endpoint, str) or not isinstance(access, str):
            return claims
        _require_safe(endpoint, str(document["issuer"]))
        found = await self._json("GET", endpoint, headers={"Authorization": f"Bearer {access}"})
        if found.get("sub") != claims["sub"]:
            raise ProviderRefused("The provider speaks of somebody else.")
        return {**found, **claims}

    async def _json(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        wanted = {"Accept": "application/json", **(headers or {})}
        status, content = await self._call(method, url, headers=wanted, body=body)
        if status != 200:
            raise ProviderUnavailable(f"The provider answered with status {status}.")
        try:
            found = json.loads(content[:MOST_BYTES])
        except (ValueError, RecursionError) as error:
            raise ProviderUnavailable("The provider answered with no JSON.") from error
        if not isinstance(found, dict):
            raise ProviderUnavailable("The provider answered with other JSON than it should.")
        return found

    # the account ---------------------------------------------------------------------------------

    async def _account(self, rules: OidcRules, claims: Mapping[str, Any]) -> Account:
        """Return the account of the claims, made at the first log-in, with the role they give."""
        role = role_of(rules, claims)
        known = await self._accounts.of_subject(rules.issuer, claims["sub"])
        if known is not None and known.disabled:
            raise ProviderRefused("This account is disabled.")
        if not role:
            raise ProviderRefused(
                "The provider lets this person in, but no role is meant for them.",
                next_step="An administrator says in the settings which claim gives which role.",
            )
        try:
            if known is None:
                return await self._new_account(rules, claims, role)
            if known.role != role:
                return await self._accounts.change(known.name, role=role)
        except UnknownRole as error:
            raise ProviderRefused(f"The settings name a role that there is not: {role}.") from error
        except LastAdministrator:
            pass  # the box keeps its last administrator, whatever the provider says
        assert known is not None  # noqa: S101 - a new one has returned or raised
        return known

    async def _new_account(self, rules: OidcRules, claims: Mapping[str, Any], role: str) -> Account:
        name = _claim(claims, rules.name_claim)
        if not isinstance(name, str):
            raise ProviderRefused("The provider says no user name.")
        try:
            return await self._accounts.add(
                name, "", role, identity=(rules.issuer, str(claims["sub"]))
            )
        except BadUserName as error:
            raise ProviderRefused(
                f"No account could be made: {error.reason}",
                next_step="An account of this name that is not the provider's has to be renamed.",
            ) from error


def role_of(rules: OidcRules, claims: Mapping[str, Any]) -> str:
    """Return the role that the claims give, "" for none. Pure."""
    found = _claim(claims, rules.role_claim)
    values = found if isinstance(found, list) else [found]
    for value, role in rules.roles:
        if value in values:
            return role
    return rules.default_role


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim; a name with dots leads into groups, as `realm_access.roles` does."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _has(claims: Mapping[str, Any], name: str) -> bool:
    return _claim(claims, name) is not None


def _signing(keys: object) -> list[dict[str, Any]]:
    """Return the keys that may sign; those of other kinds must not stop the log-in."""
    if not isinstance(keys, list):
        raise TypeError("no keys")
    return [
        each
        for each in keys
        if isinstance(each, dict)
        and each.get("use", "sig") == "sig"
        and each.get("kty") in {"RSA", "EC", "OKP"}
    ]


def _require_safe(url: object, issuer: str) -> None:
    """Raise ProviderUnavailable for an address that is less safe than the issuer's."""
    parts = urlsplit(url) if isinstance(url, str) and len(url) <= 2048 else None
    if parts is None or not parts.hostname or parts.scheme not in {"https", "http"}:
        raise ProviderUnavailable("The provider names no proper addresses.")
    if parts.scheme == "http" and urlsplit(issuer).scheme != "http":
        raise ProviderUnavailable("The provider names addresses without encryption.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
