# SPDX-License-Identifier: Apache-2.0
"""Unique identifiers as DICOM PS3.5 section 9 defines them, and the only way from one to a path."""

import hashlib
import re
from typing import Final

MAX_UID_LENGTH: Final = 64  # PS3.5 section 9.1
IMPLEMENTATION_CLASS_UID: Final = "2.25.173051943278203719830262914117230190401"
IMPLEMENTATION_VERSION_NAME: Final = "SCRIGNO_1"  # at most 16 characters, PS3.7 annex D.3.3.2.3

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)


def is_uid(text: str) -> bool:
    """Tell whether `text` is digits and dots, at most 64 characters, no empty component.

    A leading zero in a component breaks PS3.5 section 9.1 too, but devices that send such
    UIDs exist and the text is harmless as a path, so it passes here.
    """
    return len(text) <= MAX_UID_LENGTH and _UID.fullmatch(text) is not None


def path_part(uid: str) -> str:
    """Return a file or folder name for `uid`: itself when it is a UID, else hex of its SHA-256."""
    if is_uid(uid):
        return uid
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()


def object_key(study_uid: str, series_uid: str, sop_instance_uid: str) -> str:
    """Return where an object lives on every volume, relative to the volume's root."""
    return (
        f"studies/{path_part(study_uid)}/{path_part(series_uid)}/{path_part(sop_instance_uid)}.dcm"
    )
