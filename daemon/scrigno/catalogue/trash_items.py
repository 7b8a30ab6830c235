# SPDX-License-Identifier: Apache-2.0
"""What stands in the trash, as typed records. Texts about patients are `Phi`; times aware UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, ClassVar

from scrigno.core.attributes import PersonName
from scrigno.core.errors import ScrignoError
from scrigno.core.phi import Phi

from .records import StoredInstance


class NothingToDelete(ScrignoError):
    """The archive has no such study, or none of the series or objects named."""

    code: ClassVar[str] = "nothing-to-delete"


class StudyProtected(ScrignoError):
    """The study is protected and cannot be deleted."""

    code: ClassVar[str] = "study-protected"


class NotNow(ScrignoError):
    """The trash cannot do this now; nothing was changed."""

    code: ClassVar[str] = "trash-refused"


class TrashState(IntEnum):
    """How an item of the trash is, as it stands in the table."""

    TRASHED = 1
    RESTORING = 2  # its files go back; the rows follow when they are there
    RESTORED = 3  # the rows are back; files on volumes that were away follow
    PURGING = 4  # its files are removed for good, on volumes that are away when they return


class Place(IntEnum):
    """Where the file of a trashed object is on one volume, as it stands in the table."""

    ARCHIVE = 1  # still, or again, among the studies
    TRASH = 2
    NOWHERE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What is to leave the archive, and why."""

    study_uid: str
    series_uid: str | None = None
    sop_uids: frozenset[str] | None = None
    token: str  # names the item on the volumes; plain letters, digits and dashes
    deleted_at: datetime
    keep_days: int
    account: str
    reason: str
    rule: str = ""  # of retention; '' when a person did it
    volumes: tuple[str, ...]  # those in service, whether or not they are there now

    @property
    def scope(self) -> str:
        """What was named: 'study', 'series' or 'objects'."""
        if self.sop_uids is not None:
            return "objects"
        return "study" if self.series_uid is None else "series"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashItem:
    """One deletion as lists show it."""

    trash_id: int
    token: str
    study_instance_uid: str
    scope: str  # 'study' | 'series' | 'objects'
    state: TrashState
    revision: int
    deleted_at: datetime
    ran_at: int  # seconds the daemon had run when it was deleted
    keep_days: int
    account: str
    reason: str
    rule: str
    objects: int
    size_bytes: int
    patient_name: PersonName
    patient_id: Phi
    patient_birth_date: Phi
    study_date: str
    study_description: str
    accession_number: str
    modalities: tuple[str, ...]

    @property
    def kept_until(self) -> datetime:
        """Until when it can be brought back at least, by the wall clock."""
        return self.deleted_at + timedelta(days=self.keep_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashCopy:
    """One copy of a trashed object."""

    volume: str
    was: int  # state of the copy in the archive (`gains`), 0: none was known
    verified_at: int | None  # as it stands in the table
    place: Place
    owes: bool  # the volume has yet to bring it where the state of the item says


@dataclass(frozen=True, slots=True, kw_only=True)
class Heir:
    """An object that was deleted again after it had come back, the same bytes."""

    object_id: int
    trash_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashStep:
    """Everything that decides what is to be done with one trashed object."""

    object_id: int
    trash_id: int
    token: str
    state: TrashState
    sop_instance_uid: str
    key: str  # where it lives among the studies
    digest: str
    size: int
    staged_as: str | None
    kept: bool  # it stands in the inbox, because the archive has a rival
    study_instance_uid: str
    copies: Mapping[str, TrashCopy]
    live: StoredInstance | None  # what the archive has under its UID now
    rivals: frozenset[str]  # digests of its UID in other items of the trash
    claimed: frozenset[str]  # volumes where the file of an older one of them has still to move
    heir: Heir | None  # the newest other one of these bytes that can be brought back

    @property
    def trash_key(self) -> str:
        """Return where it lives on every volume while it is in the trash."""
        return trash_key(self.token, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What a step found or did."""

    object_id: int
    places: Mapping[str, Place] = field(default_factory=dict)  # by volume, where that is known now
    to_check: frozenset[str] = frozenset()  # volumes that must be looked at (again)
    unstaged: bool = False  # staging let it go
    kept: bool = False  # it went to the inbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What became of the objects of an item that was brought back."""

    study_instance_uid: str
    back: int = 0
    merged: int = 0  # the same bytes had been sent again
    kept: int = 0  # other bytes had been sent under the same UID: these are in the inbox now
    lost: int = 0  # no volume has a file of it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashTotals:
    """What stands in the trash and can still be brought back."""

    items: int
    objects: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What was decided last about the protection of a study."""

    study_instance_uid: str
    protected: bool
    revision: int
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFlags:
    """What the list knows of a study besides its attributes."""

    protected: bool = False
    last_read_at: datetime | None = None


# A trash item with its rows, as it is written on volumes and read from them; JSON types only.
Document = dict[str, Any]

TRASH_PREFIX = "trash"
RECORDS_PREFIX = "trash/records"


def trash_key(token: str, key: str) -> str:
    """Return where the object of `key` lives in the item `token`."""
    return f"{TRASH_PREFIX}/{token}/{key.partition('/')[2]}"


def record_key(token: str) -> str:
    """Return where the record of an item stands on every volume."""
    return f"{RECORDS_PREFIX}/{token}.json"
