# SPDX-License-Identifier: Apache-2.0
"""The only names that reach a volume: relative keys of plain parts, checked in both processes."""

import re
from typing import Final

MAX_PARTS: Final = 8
MAX_PART_LENGTH: Final = 200  # every filesystem allows 255 bytes; the rest is left for suffixes

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)


class BadKeyError(ValueError):
    """A key that may not become a path: a fault of the caller, never of a peer or a disk."""


def split_key(key: str) -> tuple[str, ...]:
    """Return the parts of `key`; raises BadKeyError for anything but plain names under the root.

    No empty part, no leading dot (so neither `..` nor our own marker), no other character than
    letters, digits, `.`, `_` and `-`.
    """
    parts = tuple(key.split("/"))
    if len(parts) > MAX_PARTS or not all(
        len(part) <= MAX_PART_LENGTH and _PART.fullmatch(part) for part in parts
    ):
        raise BadKeyError(f"{key!r} is not a key of a volume")
    return parts
