# SPDX-License-Identifier: Apache-2.0
"""What the settings say of log-ins, for the access room, which knows no settings."""

from collections.abc import Mapping

from scrigno.access.access import AccessRules
from scrigno.access.accounts import Account
from scrigno.access.sessions import LIFETIMES, Kind
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
