# SPDX-License-Identifier: Apache-2.0
"""What is known of an object besides its bytes, and how that is written down beside them.

The note stands with the object in the staging journal, the sidecar beside it in the inbox of a
volume. Both are hints for the time after a crash or a lost index: every field may be missing or
nonsense, so reading never fails. Neither holds patient data; what is in the object can be read
there again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from scrigno.catalogue.records import Origin

INBOX_PREFIX: Final = "inbox"
# A note must fit an extended attribute of ext4 (4 KiB in all, six bytes per odd character in
# JSON); an AE title has 16 characters, a UID 64.
MAX_TEXT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What the door said of an object; UIDs as the command or the file meta named them."""

    origin: Origin
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    received_at: datetime
    hold: str | None = None


def inbox_key(digest: str) -> str:
    """Return where a kept object lives on every volume."""
    return f"{INBOX_PREFIX}/{digest}.dcm"


def sidecar_key(key: str) -> str:
    """Return where the sidecar of the inbox object `key` lives."""
    return key.removesuffix(".dcm") + ".json"


def to_note(arrival: Arrival, digest: str, aside: str | None) -> dict[str, str]:
    """Return the note of the staging journal; `aside` is the reason to keep it in the inbox."""
    origin = arrival.origin
    note = {
        "digest": digest,
        "received": arrival.received_at.isoformat(),
        "door": origin.door,
    }
    if origin.calling_ae:
        note["calling"] = origin.calling_ae[:MAX_TEXT]
    if origin.called_ae:
        note["called"] = origin.called_ae[:MAX_TEXT]
    if origin.address:
        note["address"] = origin.address[:MAX_TEXT]
    if origin.user:
        note["user"] = origin.user[:MAX_TEXT]
    if aside:
        note["aside"] = aside[:MAX_TEXT]
    return note


def from_note(
    note: Mapping[str, str],
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    fallback: datetime,
) -> Arrival:
    """Return what a note and the file's own meta say; `fallback` is the time when none is told."""
    return Arrival(
        origin=Origin(
            door=note.get("door") or "rebuild",
            calling_ae=note.get("calling", ""),
            called_ae=note.get("called", ""),
            address=note.get("address", ""),
            user=note.get("user", ""),
        ),
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        received_at=_time(note.get("received", ""), fallback),
        hold=note.get("aside"),
    )


def to_sidecar(arrival: Arrival, digest: str, reason: str, comment: str) -> bytes:
    """Return the sidecar of an inbox object as JSON."""
    fields = to_note(arrival, digest, reason) | {
        "comment": comment[:1000],
        "sop_class_uid": arrival.sop_class_uid[:MAX_TEXT],
        "sop_instance_uid": arrival.sop_instance_uid[:MAX_TEXT],
        "transfer_syntax_uid": arrival.transfer_syntax_uid[:MAX_TEXT],
    }
    return json.dumps(fields, sort_keys=True, indent=1).encode()


def from_sidecar(sidecar: bytes) -> dict[str, str]:
    """Return the texts of a sidecar; what cannot be understood is left out."""
    try:
        fields: Any = json.loads(sidecar)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {name: text for name, text in fields.items() if isinstance(text, str)}


def _time(text: str, fallback: datetime) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return fallback
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
