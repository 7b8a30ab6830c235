# SPDX-License-Identifier: Apache-2.0
"""What goes into the catalogue and what comes out of it, as typed records.

Texts about patients are `Phi`, so that a `repr` never shows them. Times are aware UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from scrigno.core.attributes import IndexAttributes, PersonName, SeriesAttributes
from scrigno.core.errors import ScrignoError
from scrigno.core.phi import Phi


class CapacityReached(ScrignoError):
    """The archive holds as many studies as its limit allows; a new study is refused."""

    code: ClassVar[str] = "capacity-reached"

    def __init__(self, *, limit: int) -> None:
        """Say which limit was met."""
        super().__init__(
            f"The archive holds its maximum of {limit} studies.",
            next_step="Raise the limit in the server settings or remove studies.",
        )
        self.limit = limit


class UnknownStudyColumn(ScrignoError):
    """A list was asked to sort or filter by something the study list does not have."""

    code: ClassVar[str] = "unknown-study-column"


class UnsupportedKey(ScrignoError):
    """A query names an attribute that cannot be matched at its level."""

    code: ClassVar[str] = "unsupported-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """By which door and from whom an object came."""

    door: str  # 'dicom' | 'import' | 'stow' | 'rebuild'
    calling_ae: str = ""
    called_ae: str = ""
    address: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """One durable object that is to be known from now on."""

    attributes: IndexAttributes
    key: str  # where it lives on every volume, relative to the volume's root
    digest: str  # SHA-256 of the file, hex
    size: int  # bytes of the file
    received_at: datetime
    origin: Origin
    copies: tuple[str, ...]  # volumes that hold it durably
    owed: tuple[str, ...] = ()  # volumes that still need it
    staged_as: str | None = None  # its name in the staging journal while it stands there


class AddOutcome(StrEnum):
    """What `Catalogue.add` did."""

    NEW = "new"
    SAME = "same"  # known SOP Instance UID, same digest: only copies were added
    DIFFERENT = "different"  # known SOP Instance UID, other digest: nothing was changed


@dataclass(frozen=True, slots=True, kw_only=True)
class AddResult:
    """The outcome, and key and digest of the object that was there before (NEW: its own)."""

    outcome: AddOutcome
    existing_key: str
    existing_digest: str
    new_study: bool = False
    # this study's patient has the ID of a known patient but another name, birth date or sex
    patient_conflict: bool = False


class CopyState(StrEnum):
    """What is known of one copy of an object on one volume."""

    HELD = "held"  # durable there
    OWED = "owed"  # must still be written there
    MISSING = "missing"  # was held, is gone or damaged; owed again once repair is planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy of an object on one volume."""

    volume: str
    state: CopyState
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInstance:
    """What is needed to find, send and show one stored object."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    key: str
    digest: str
    size: int
    instance_number: str
    number_of_frames: int | None
    rows: int | None
    columns: int | None
    received_at: datetime
    staged_as: str | None
    copies: tuple[Copy, ...]

    def held_by(self) -> tuple[str, ...]:
        """Return the names of the volumes that hold it."""
        return tuple(copy.volume for copy in self.copies if copy.state is CopyState.HELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One line of the study list. The patient is as this study's first object named him."""

    study_instance_uid: str
    patient_name: PersonName
    patient_id: Phi
    issuer_of_patient_id: str
    patient_birth_date: Phi
    patient_sex: str
    patient_age: str
    patient_comments: Phi
    study_date: str
    study_time: str
    study_id: str
    accession_number: str
    study_description: str
    referring_physician_name: PersonName
    name_of_physicians_reading_study: PersonName
    institution_name: str
    body_parts: tuple[str, ...]
    modalities: tuple[str, ...]
    sop_classes: tuple[str, ...]
    number_of_series: int
    number_of_instances: int
    size_bytes: int
    received_first: datetime
    received_last: datetime
    character_set: str
    patient_conflict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRow:
    """One series of a study with its objects, by instance number."""

    attributes: SeriesAttributes
    number_of_instances: int
    size_bytes: int
    character_set: str
    instances: tuple[StoredInstance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDetail:
    """One study with everything below it, series by number."""

    study: StudyRow
    series: tuple[SeriesRow, ...]


class FilterOperator(StrEnum):
    """How a list filter compares; texts are compared folded (case, accents, width)."""

    EQUAL = "equal"  # any of the values
    NOT_EQUAL = "not-equal"  # none of the values
    GREATER = "greater"
    GREATER_OR_EQUAL = "greater-or-equal"
    LESS = "less"
    LESS_OR_EQUAL = "less-or-equal"
    CONTAINS = "contains"  # any of the values stands somewhere inside
    RANGE = "range"  # two values, inclusive, '' is open


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """One condition of the study list; all conditions must hold.

    `field` is a name of `studies.FILTERS`: a column of the list or a series or object attribute
    such as `series_description`. Dates are `YYYYMMDD`, times `HHMMSS`. One of `alternatives`
    holding is as good as the condition itself; they name columns of the study too.
    """

    field: str
    operator: FilterOperator = FilterOperator.EQUAL
    values: tuple[str, ...]
    alternatives: "tuple[ListFilter, ...]" = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyListQuery:
    """Which page of which list, in which order. Every word of `search` must begin some word."""

    search: str = ""
    filters: tuple[ListFilter, ...] = ()
    sort: str = "study_date"  # a name of `studies.SORTS`
    descending: bool = True
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPage:
    """One page of the list and how many studies the whole list has."""

    total: int
    rows: tuple[StudyRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """An object that a volume still needs.

    An object of the inbox may share its UID with an archived one, so its key stands for it here:
    `sop_instance_uid` is what `paid`, `copy_missing` and `unstaged` want to be told.
    """

    debt_id: int  # ever growing: pass the last one as `after` for the next batch
    volume: str
    sop_instance_uid: str
    key: str
    digest: str
    size: int
    staged_as: str | None
    held_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """One known object as reconcile compares it with a volume; see `Debt` for the inbox."""

    instance_id: int  # ever growing: pass the last one as `after` for the next batch
    sop_instance_uid: str
    key: str
    digest: str
    size: int
    staged_as: str | None
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeTally:
    """How many objects and bytes a volume holds and is owed."""

    volume: str
    held: int
    held_bytes: int
    owed: int
    owed_bytes: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the whole archive holds."""

    patients: int
    studies: int
    series: int
    instances: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInboxItem:
    """An object that was kept aside instead of being shown in the archive."""

    reason: str  # 'conflict' | 'held' | 'unreadable' | …
    key: str
    digest: str
    size: int
    received_at: datetime
    origin: Origin
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    patient_name: PersonName = PersonName()
    patient_id: Phi = Phi("")
    comment: str = ""
    copies: tuple[str, ...] = ()
    owed: tuple[str, ...] = ()
    staged_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxItem:
    """A kept object with its number."""

    inbox_id: int
    item: NewInboxItem
    decided: str = ""  # the kind of decision that took it out of the list


FindValue = str | int | PersonName | tuple[str, ...] | tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindRow:
    """One answer: keyword of PS3.6 → value; a tuple is a multi-valued or sequence attribute."""

    values: Mapping[str, FindValue]
    # SpecificCharacterSet of the objects it was read from, values joined with a backslash
    character_set: str = ""
    # where the objects of this entity are; empty at levels above IMAGE
    copies: tuple[str, ...] = field(default=())
