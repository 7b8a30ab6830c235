# SPDX-License-Identifier: Apache-2.0
"""The error root: one class per way to fail, each with a stable code and fields."""

from typing import ClassVar


class ScrignoError(Exception):
    """Something that was refused or failed; says state, reason and next step.

    `code` is stable and is what APIs, logs, counters and translations rely on.
    """

    code: ClassVar[str] = "internal-error"

    def __init__(self, reason: str, *, next_step: str = "") -> None:
        """Keep the sentence for people; `next_step` tells them what to do about it."""
        super().__init__(reason)
        self.reason = reason
        self.next_step = next_step

    def sentence(self) -> str:
        """Return reason and next step as one text."""
        return f"{self.reason} {self.next_step}".strip() if self.next_step else self.reason


class ConfigError(ScrignoError):
    """The configuration cannot be used; nothing was changed and nothing falls back."""

    code = "bad-configuration"


class CommandError(ScrignoError):
    """A command of the operator was wrong or cannot be done now."""

    code = "command-refused"
