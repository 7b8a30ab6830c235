# SPDX-License-Identifier: Apache-2.0
"""How people come in: how long a log-in is good for, the second factor, log-in by a provider."""

from dataclasses import dataclass, field
from enum import StrEnum


class SecondFactorFor(StrEnum):
    """Who must have a second factor; anybody may."""

    NOBODY = "nobody"
    ADMINISTRATORS = "administrators"
    EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleOfClaim:
    """The role that a value of the provider's claim gives."""

    value: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """Log-in by an OpenID Connect provider; the first role of the list that fits is given."""

    enabled: bool = False
    label: str = "Single sign-on"
    issuer: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    scopes: str = "openid profile"
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    roles: tuple[RoleOfClaim, ...] = ()
    default_role: str = ""  # of whom no value of the claim fits; empty: they are refused


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Sessions of people, the second factor and the provider."""

    idle_minutes: int = 240  # a long operation: nobody is thrown out of a list he is reading from
    longest_hours: int = 16  # a working day
    second_factor: SecondFactorFor = SecondFactorFor.NOBODY
    oidc: OidcSettings = field(default_factory=OidcSettings)
