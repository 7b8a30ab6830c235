# SPDX-License-Identifier: Apache-2.0
"""The status codes of the services here, and which one each way to fail becomes."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from scrigno.archive import errors
from scrigno.core.errors import ScrignoError

COMMENT_CHARACTERS: Final = 64  # ErrorComment (0000,0902) is LO, PS3.7 annex C


class Status(IntEnum):
    """PS3.7 annex C, PS3.4 tables B.2-1 (store), C.4-1 (find), C.4-2 (move), C.4-3 (get)."""

    SUCCESS = 0x0000
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    CANCELLED = 0xFE00
    PENDING = 0xFF00
    PENDING_KEYS_UNSUPPORTED = 0xFF01
    OUT_OF_RESOURCES = 0xA700
    CANNOT_COUNT_MATCHES = 0xA701
    CANNOT_PERFORM_SUB_OPERATIONS = 0xA702
    DESTINATION_UNKNOWN = 0xA801
    MISMATCH = 0xA900
    SUB_OPERATIONS_FAILED = 0xB000
    COERCED = 0xB000
    ELEMENTS_DISCARDED = 0xB006
    DATA_SET_MISMATCH = 0xB007
    UNABLE_TO_PROCESS = 0xC000
    UNABLE_TO_PROCESS_QUERY = 0xC001


# A warning to a C-STORE means: stored (PS3.4 section B.2.3).
STORE_WARNINGS: Final = frozenset(
    {Status.COERCED, Status.ELEMENTS_DISCARDED, Status.DATA_SET_MISMATCH}
)

# The first class that fits wins, so the narrower ones stand first.
_STORE_ERRORS: Final[Mapping[type[ScrignoError], Status]] = {
    errors.UidMismatch: Status.MISMATCH,
    errors.ObjectUnreadable: Status.UNABLE_TO_PROCESS,
    errors.IngestError: Status.OUT_OF_RESOURCES,
}


def status_of_store_error(error: ScrignoError) -> Status:
    """Return what a C-STORE answers to `error`: A700 unless the object itself is at fault."""
    for kind, status in _STORE_ERRORS.items():
        if isinstance(error, kind):
            return status
    return Status.OUT_OF_RESOURCES


def comment(sentence: str) -> str:
    """Return `sentence` as an ErrorComment: printable ASCII, at most 64 characters."""
    plain = sentence.encode("ascii", "replace").decode("ascii")
    printable = "".join(each if each.isprintable() and each != "\\" else " " for each in plain)
    if len(printable) <= COMMENT_CHARACTERS:
        return printable
    return printable[: COMMENT_CHARACTERS - 2].rstrip() + ".."
