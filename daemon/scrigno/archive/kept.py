# SPDX-License-Identifier: Apache-2.0
"""A kept object as a decision remembers it; its header, with what an operator adds to it."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from scrigno.catalogue.records import Copy, CopyState, NewInboxItem, Origin, StoredInstance
from scrigno.core.attributes import (
    IndexAttributes,
    InstanceAttributes,
    PatientAttributes,
    PersonName,
    SeriesAttributes,
    StudyAttributes,
)
from scrigno.core.phi import Phi
from scrigno.core.uids import is_uid
from scrigno.imaging.errors import HeaderUnreadable
from scrigno.imaging.header import read_index_attributes

from .errors import InboxError

_TEXTS: Final = (
    "reason",
    "key",
    "digest",
    "sop_class_uid",
    "sop_instance_uid",
    "study_instance_uid",
    "series_instance_uid",
    "transfer_syntax_uid",
    "comment",
)
# What an operator can give for an object that cannot be read, by the part that has it.
_GIVEN: Final[Mapping[str, frozenset[str]]] = {
    part: frozenset(
        each.name
        for each in dataclasses.fields(kind)
        if each.type in (str, Phi, PersonName) and not each.name.startswith("sop_")
    )
    for part, kind in (
        ("patient", PatientAttributes),
        ("study", StudyAttributes),
        ("series", SeriesAttributes),
        ("instance", InstanceAttributes),
    )
}


def plain(item: NewInboxItem) -> dict[str, Any]:
    """Return a kept object for JSON, without what changes (its copies)."""
    return {
        **{name: getattr(item, name) for name in _TEXTS},
        "size": item.size,
        "received_at": item.received_at.isoformat(),
        "origin": dataclasses.asdict(item.origin),
        "patient_name": item.patient_name.text(),
        "patient_id": str(item.patient_id),
    }


def of_plain(fields: Mapping[str, Any]) -> NewInboxItem:
    """Return what `plain` gave, with no copies."""
    return NewInboxItem(
        **{name: fields[name] for name in _TEXTS},
        size=fields["size"],
        received_at=datetime.fromisoformat(fields["received_at"]),
        origin=Origin(**fields["origin"]),
        patient_name=PersonName.parse(fields["patient_name"]),
        patient_id=Phi(fields["patient_id"]),
    )


def as_stored(kept: NewInboxItem) -> StoredInstance:
    """Return the item as the reader of objects wants it."""
    return StoredInstance(
        study_instance_uid=kept.study_instance_uid,
        series_instance_uid=kept.series_instance_uid,
        sop_instance_uid=kept.sop_instance_uid,
        sop_class_uid=kept.sop_class_uid,
        transfer_syntax_uid=kept.transfer_syntax_uid,
        key=kept.key,
        digest=kept.digest,
        size=kept.size,
        instance_number="",
        number_of_frames=None,
        rows=None,
        columns=None,
        received_at=kept.received_at,
        staged_as=kept.staged_as,
        copies=tuple(Copy(volume=name, state=CopyState.HELD) for name in kept.copies),
    )


def require_known_names(given: Mapping[str, str]) -> None:
    """Refuse attributes that cannot be given; raises InboxError."""
    known = frozenset[str]().union(*_GIVEN.values())
    unknown = sorted(set(given) - known)
    if unknown:
        raise InboxError(
            f"{unknown[0][:64]} cannot be given.", next_step="Name attributes of the study list."
        )


def indexed(
    head: bytes, kept: NewInboxItem, given: Mapping[str, str], character_set: str, size: int
) -> IndexAttributes:
    """Return what the index is to say of an object: its header as far as it can be read, then
    what an operator gave. Raises InboxError; HeaderIncomplete when more of it is needed.
    """
    syntax = given.get("transfer_syntax_uid") or kept.transfer_syntax_uid
    try:
        read = read_index_attributes(
            head,
            transfer_syntax_uid=syntax,
            sop_class_uid=kept.sop_class_uid,
            sop_instance_uid=kept.sop_instance_uid,
            default_character_set=character_set,
            size=size,
        )
    except HeaderUnreadable:
        read = IndexAttributes(
            patient=PatientAttributes(),
            study=StudyAttributes(study_instance_uid=""),
            series=SeriesAttributes(series_instance_uid=""),
            instance=InstanceAttributes(
                sop_class_uid=kept.sop_class_uid,
                sop_instance_uid=kept.sop_instance_uid,
                transfer_syntax_uid=syntax,
            ),
        )
    attributes = dataclasses.replace(
        read,
        patient=_with(read.patient, "patient", given),
        study=_with(read.study, "study", given),
        series=_with(read.series, "series", given),
        instance=dataclasses.replace(
            _with(read.instance, "instance", given),
            # it is known by what its sender and its file call it
            sop_class_uid=kept.sop_class_uid,
            sop_instance_uid=kept.sop_instance_uid,
        ),
    )
    uids = (attributes.study.study_instance_uid, attributes.series.series_instance_uid)
    if not all(uid and is_uid(uid) for uid in uids):
        raise InboxError(
            "The object names no study or no series.",
            next_step="Give the UIDs of the study and the series that it belongs to.",
        )
    return attributes


def _with(part: Any, name: str, given: Mapping[str, str]) -> Any:
    changes: dict[str, Any] = {}
    for field, value in given.items():
        if field not in _GIVEN[name]:
            continue
        before = getattr(part, field)
        if isinstance(before, PersonName):
            changes[field] = PersonName.parse(value)
        else:
            changes[field] = Phi(value) if isinstance(before, Phi) else value
    return dataclasses.replace(part, **changes)
