# SPDX-License-Identifier: Apache-2.0
"""What the archive answers for an object that it took in, and the rules it went by."""

from dataclasses import dataclass
from enum import StrEnum


class StoreOutcome(StrEnum):
    """What became of an object that was taken in; every one of them is a success to the sender."""

    NEW = "new"
    SAME = "same"  # the same bytes stand here already
    CONFLICT_KEPT = "conflict-kept"  # same UID, other bytes: kept aside in the inbox
    HELD = "held"  # the door asked to hold it: kept in the inbox
    UNREADABLE_KEPT = "unreadable-kept"  # header cannot be read: kept in the inbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The object is durable on the devices the policy asks for, and recorded.

    `pending`: the index does not take its row now. The object stands in staging's journal too, and
    its row is made from there as soon as the index works; what it turns out to be then (new, the
    same again, a conflict) is not known yet.
    """

    outcome: StoreOutcome
    sop_instance_uid: str
    study_uid: str = ""
    copies: tuple[str, ...] = ()
    degraded: bool = False  # durable on fewer devices than the policy asks for
    inbox_id: int | None = None
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRules:
    """The part of the settings that decides about one object; asked anew for each."""

    max_object_bytes: int
    ack_copies: int = 2
    max_studies: int | None = None
    default_character_set: str = ""
    count_shared_device: bool = True  # as `IngestPolicy`; the setting decides, and says no
