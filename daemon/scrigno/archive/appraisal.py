# SPDX-License-Identifier: Apache-2.0
"""Deciding what is to become of an object, from its header and from what the door said."""

from dataclasses import dataclass
from typing import Final

from scrigno.core.attributes import IndexAttributes
from scrigno.core.uids import is_uid, object_key
from scrigno.imaging.errors import HeaderUnreadable
from scrigno.imaging.header import read_index_attributes

from .arrivals import Arrival
from .errors import ObjectUnreadable, UidMismatch

UNREADABLE: Final = "unreadable"
CONFLICT: Final = "conflict"


@dataclass(frozen=True, slots=True)
class Admit:
    """The object belongs into the archive under `key`."""

    attributes: IndexAttributes
    key: str


@dataclass(frozen=True, slots=True)
class Aside:
    """The object is to be kept in the inbox; `comment` is a sentence without patient data."""

    reason: str
    comment: str = ""
    attributes: IndexAttributes | None = None


def appraise(
    arrival: Arrival, head: bytes | memoryview, *, size: int | None, default_character_set: str
) -> Admit | Aside:
    """Decide from the first bytes of the data set, which is `size` bytes long (None: not known).

    Raises `UidMismatch`, `ObjectUnreadable`, and `imaging.errors.HeaderIncomplete` when more of
    the data set is needed to decide.
    """
    try:
        attributes = read_index_attributes(
            head,
            transfer_syntax_uid=arrival.transfer_syntax_uid,
            sop_class_uid=arrival.sop_class_uid,
            sop_instance_uid=arrival.sop_instance_uid,
            default_character_set=default_character_set,
            size=size,
        )
    except HeaderUnreadable as error:
        return unreadable(arrival, error.reason)
    _refuse_other_object(arrival, attributes)
    study = attributes.study.study_instance_uid
    series = attributes.series.series_instance_uid
    if not study or not series:
        return unreadable(arrival, "The data set names no study or no series.")
    if arrival.hold:
        return Aside(arrival.hold, attributes=attributes)
    return Admit(attributes, object_key(study, series, arrival.sop_instance_uid))


def unreadable(arrival: Arrival, reason: str) -> Aside:
    """Keep an unreadable object when its UIDs are valid, else raise `ObjectUnreadable`."""
    if not (is_uid(arrival.sop_instance_uid) and is_uid(arrival.sop_class_uid)):
        raise ObjectUnreadable(reason)
    return Aside(arrival.hold or UNREADABLE, reason)


def _refuse_other_object(arrival: Arrival, attributes: IndexAttributes) -> None:
    """Refuse a data set that is about something else than announced (PS3.4 table B.2-1, A9xx)."""
    said = attributes.instance
    if said.sop_instance_uid != arrival.sop_instance_uid:
        raise UidMismatch("The data set has another SOP Instance UID than the request.")
    if said.sop_class_uid != arrival.sop_class_uid:
        raise UidMismatch("The data set has another SOP Class UID than the request.")
