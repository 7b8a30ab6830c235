# SPDX-License-Identifier: Apache-2.0
"""Why a source of an import, or one file of it, is refused."""

from typing import ClassVar

from scrigno.core.errors import ScrignoError


class SourceRefused(ScrignoError):
    """What was named cannot be imported from, as a whole."""

    code: ClassVar[str] = "source-refused"


class PlaceNotAllowed(SourceRefused):
    """The path is not below a folder that the settings allow."""

    code: ClassVar[str] = "place-not-allowed"


class SourceGone(SourceRefused):
    """The stick was pulled, the folder is gone; the job can go on when it is back."""

    code: ClassVar[str] = "source-gone"


class ArchiveDangerous(SourceRefused):
    """An archive would take more room or time than any honest one."""

    code: ClassVar[str] = "archive-dangerous"


class FileRefused(ScrignoError):
    """One file cannot be read; `code` of the class or of the instance is stable."""

    code: ClassVar[str] = "not-readable"

    def __init__(self, reason: str, code: str = "not-readable") -> None:
        """Keep the reason; `code` says which kind."""
        super().__init__(reason)
        self.why = code
