# SPDX-License-Identifier: Apache-2.0

"""The ways in which somebody is not let in, each with its code."""

from enum import StrEnum

from scrigno.core.errors import ScrignoError


class AccessDenied(ScrignoError):
    """Somebody was not let in."""

    code = "access-denied"


class WrongCredentials(AccessDenied):
    """User or password is wrong; which of them is not told."""

    code = "wrong-credentials"


class TooManyAttempts(AccessDenied):
    """Wrong guesses came too fast; `retry_after_s` says how long to wait."""

    code = "too-many-attempts"

    def __init__(self, retry_after_s: float) -> None:
        """Say how long to wait, in whole seconds rounded up."""
        self.retry_after_s = max(1, int(retry_after_s + 0.999))
        super().__init__(
            "There were too many wrong attempts.",
            next_step=f"Try again in {self.retry_after_s} s.",
        )


class ConnectionsExhausted(AccessDenied):
    """As many people are connected as the settings allow (SPEC AD-8)."""

    code = "web-connections-exhausted"


class AlreadyClaimed(AccessDenied):
    """The box has its first account already."""

    code = "already-claimed"


class WrongSetupCode(AccessDenied):
    """The setup code is not the one of this box, or it is used up."""

    code = "wrong-setup-code"


class WeakPassword(AccessDenied):
    """The password is refused; `rule` names why: short, long, common, user-name."""

    code = "weak-password"

    def __init__(self, rule: str, reason: str) -> None:
        """Keep the rule for translations."""
        super().__init__(reason, next_step="Choose a longer sentence that only you know.")
        self.rule = rule


class BadUserName(AccessDenied):
    """The user name cannot be used or is taken."""

    code = "bad-user-name"


class UnknownAccount(AccessDenied):
    """There is no such account."""

    code = "unknown-account"


class LastAdministrator(AccessDenied):
    """The last administrator cannot be removed, disabled or made something else."""

    code = "last-administrator"


class UnknownRole(AccessDenied):
    """There is no such role."""

    code = "unknown-role"


class BadRole(AccessDenied):
    """The role cannot be made or changed like this."""

    code = "bad-role"


class RoleInUse(AccessDenied):
    """Somebody has the role."""

    code = "role-in-use"


class Step(StrEnum):
    """What is still missing after the right password."""

    SECOND_FACTOR = "second-factor"
    ENROL = "enrol-second-factor"  # the settings ask for one and the account has none
    NEW_PASSWORD = "new-password"  # noqa: S105 - the name of a step


class LoginUnfinished(AccessDenied):
    """The password was right and something more is needed; `ticket` names this log-in."""

    code = "login-unfinished"

    def __init__(
        self, step: Step, ticket: str, lifetime_s: float, methods: tuple[str, ...]
    ) -> None:
        """Say what comes next; `methods` are those of a second factor."""
        super().__init__(
            f"The log-in is not finished: {step}.",
            next_step="Go on with the ticket at /viewer/api/login/…, or use an API token.",
        )
        self.step = step
        self.ticket = ticket
        self.lifetime_s = int(lifetime_s)
        self.methods = methods


class LoginExpired(AccessDenied):
    """The ticket of an unfinished log-in is unknown, used up or too old."""

    code = "login-expired"


class PasswordExpired(AccessDenied):
    """A temporary password was not used in its time."""

    code = "password-expired"


class WrongCode(AccessDenied):
    """The code, the recovery code or the answer of the passkey is not right, or was used."""

    code = "wrong-code"


class ConfirmPassword(AccessDenied):
    """The own password has to be given with this change (ASVS 7.5.1)."""

    code = "confirm-password"


class FactorRefused(AccessDenied):
    """A second factor cannot be added or removed like this."""

    code = "second-factor-refused"


class OfProvider(AccessDenied):
    """The account belongs to the OpenID provider."""

    code = "account-of-provider"


class TooManyTokens(AccessDenied):
    """The account has as many tokens as it may have."""

    code = "too-many-tokens"


class ProviderRefused(AccessDenied):
    """What the OpenID provider said does not let this person in."""

    code = "provider-refused"


class ProviderUnavailable(AccessDenied):
    """The OpenID provider is switched off, or does not answer as it should."""

    code = "provider-unavailable"
