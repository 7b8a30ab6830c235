# SPDX-License-Identifier: Apache-2.0
"""What the settings say of log-ins, for the access room, which knows no settings."""

from collections.abc import Mapping

from scrigno.access.access import Access, AccessRules
from scrigno.access.accounts import Account
from scrigno.access.oidc import OidcLogin, OidcRules
from scrigno.access.sessions import LIFETIMES, Kind
from scrigno.core.clock import Clock
from scrigno.health.outgoing import Outgoing
from scrigno.settings.entrance import SecondFactorFor
from scrigno.settings.store import SettingsStore


def access_rules(settings: SettingsStore) -> AccessRules:
    """Return rules that follow the settings as they change."""

    def lifetimes() -> Mapping[Kind, tuple[float, float]]:
        people = settings.current.access
        bounds = (people.idle_minutes * 60.0, people.longest_hours * 3600.0)
        return {**LIFETIMES, Kind.COOKIE: bounds}

    def factor_needed(account: Account) -> bool:
        match settings.current.access.second_factor:
            case SecondFactorFor.EVERYBODY:
                return True
            case SecondFactorFor.ADMINISTRATORS:
                return account.administers
            case SecondFactorFor.NOBODY:
                return False

    return AccessRules(
        max_connections=lambda: settings.current.limits.max_web_connections,
        lifetimes=lifetimes,
        factor_needed=factor_needed,
    )


def oidc_rules(settings: SettingsStore) -> OidcRules:
    """Return what the settings say of the provider now."""
    wanted = settings.current.access.oidc
    return OidcRules(
        enabled=wanted.enabled,
        label=wanted.label,
        issuer=wanted.issuer,
        client_id=wanted.client_id,
        client_secret=wanted.client_secret,
        scopes=wanted.scopes,
        name_claim=wanted.name_claim,
        role_claim=wanted.role_claim,
        roles=tuple((each.value, each.role) for each in wanted.roles),
        default_role=wanted.default_role,
    )


def make_oidc(
    access: Access, settings: SettingsStore, outgoing: Outgoing, clock: Clock
) -> OidcLogin:
    """Return the log-in by a provider, which calls other machines by the one guarded way."""

    async def call(
        method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        replied = await outgoing.request(method, url, headers=headers, body=body)
        return replied.status, replied.body

    return OidcLogin(access.accounts, rules=lambda: oidc_rules(settings), call=call, clock=clock)
