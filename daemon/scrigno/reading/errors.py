# SPDX-License-Identifier: Apache-2.0
"""The ways in which something that people add is refused, each with its code."""

from typing import Any

from scrigno.core.errors import ScrignoError


class ReadingError(ScrignoError):
    """Something of this room was refused."""

    code = "reading-refused"


class BadDocument(ReadingError):
    """A document is not what its kind allows; the reason names the field."""

    code = "bad-document"


class RevisionNeeded(ReadingError):
    """A save does not say which revision it was made from."""

    code = "revision-needed"


class RevisionConflict(ReadingError):
    """Somebody else saved meanwhile; nothing was changed. `current` is what stands there now."""

    code = "revision-conflict"

    def __init__(self, current: dict[str, Any], revision: int) -> None:
        """Keep what the other saved, so that both can be shown side by side."""
        super().__init__(
            "This was changed meanwhile, and nothing was overwritten.",
            next_step="Look at what stands there now, then save yours upon its revision.",
        )
        self.current = current
        self.revision = revision


class UnknownVersion(ReadingError):
    """There is no such document or version."""

    code = "unknown-version"


class TooMany(ReadingError):
    """As many as one study, account or box may have."""

    code = "too-many"


class LaunchRefused(ReadingError):
    """A launch address says something that cannot be understood; names the key, never a value."""

    code = "bad-launch"


class LaunchOver(ReadingError):
    """A launch token is unknown, used or too old."""

    code = "launch-over"


class LaunchOff(ReadingError):
    """A way of logging in that is switched off."""

    code = "launch-off"


class ShareRefused(ReadingError):
    """The password or birth date of a link is wrong, or missing."""

    code = "share-refused"


class ShareOver(ReadingError):
    """A link is unknown, revoked, expired or used up."""

    code = "share-over"


class ExportFailed(ReadingError):
    """Annotations could not be written as DICOM objects."""

    code = "annotation-export-failed"
