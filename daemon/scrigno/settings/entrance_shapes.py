# SPDX-License-Identifier: Apache-2.0
"""What the settings of `access` may say, key by key."""

from typing import Final
from urllib.parse import urlsplit

from .entrance import AccessSettings, OidcSettings, RoleOfClaim, SecondFactorFor
from .kinds import Flag, Group, Key, ListOf, OneOf, Text, Whole


def _is_issuer(text: str) -> bool:
    """Tell whether a text is an issuer (OpenID Connect Discovery 1.0, section 4)."""
    if not text:
        return True
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    plain = parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"}
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    return bool(parts.hostname) and bare and (parts.scheme == "https" or plain)


_LINE = Text(allowed="at most 256 printable characters", pattern=r".{0,256}", check=str.isprintable)
_CLAIM = Text(allowed="the name of a claim", pattern=r"[!-~]{1,128}")
_ROLE = Text(allowed="the name of a role", pattern=r"\S(?:.{0,62}\S)?", check=str.isprintable)
_ROLE_OR_NONE = Text(
    allowed="the name of a role, or empty", pattern=r"(?:\S(?:.{0,62}\S)?)?", check=str.isprintable
)

OIDC: Final = Group(
    build=OidcSettings,
    keys={
        "enabled": Key(kind=Flag(), about="true: the log-in page offers the provider"),
        "label": Key(kind=_LINE, about="What the button on the log-in page says"),
        "issuer": Key(
            kind=Text(
                allowed="an https address without query, or empty",
                pattern=r"[!-~]{0,512}",
                check=_is_issuer,
            ),
            about="The issuer, as its discovery document names itself",
        ),
        "client_id": Key(kind=_LINE, about="What the provider calls this box"),
        "client_secret": Key(kind=_LINE, about="The secret that it gave this box, if any"),
        "scopes": Key(kind=_LINE, about="What is asked of the provider, openid among it"),
        "name_claim": Key(kind=_CLAIM, about="The claim that holds the user name"),
        "role_claim": Key(kind=_CLAIM, about="The claim that says what somebody is"),
        "roles": Key(
            kind=ListOf(
                item=Group(
                    build=RoleOfClaim,
                    keys={
                        "value": Key(kind=_LINE, about="A value of the claim", required=True),
                        "role": Key(kind=_ROLE, about="The role that it gives", required=True),
                    },
                ),
                most=200,
            ),
            about="Which value gives which role; the first that fits counts",
        ),
        "default_role": Key(
            kind=_ROLE_OR_NONE, about="Role of whom no value fits; empty: they are refused"
        ),
    },
)
ACCESS: Final = Group(
    build=AccessSettings,
    keys={
        "idle_minutes": Key(
            kind=Whole(lowest=5, highest=24 * 60),
            about="Minutes without use after which a log-in by browser ends",
        ),
        "longest_hours": Key(
            kind=Whole(lowest=1, highest=7 * 24), about="Hours after which it ends in any case"
        ),
        "second_factor": Key(
            kind=OneOf(words=SecondFactorFor), about="Who must have a second factor"
        ),
        "oidc": Key(kind=OIDC, about="Log-in by an OpenID Connect provider"),
    },
)
