# SPDX-License-Identifier: Apache-2.0

"""The ways in which somebody is not let in, each with its code."""

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
    """The last administrator cannot be removed or disabled."""

    code = "last-administrator"
