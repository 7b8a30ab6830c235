# SPDX-License-Identifier: Apache-2.0
"""What STOW-RS answers: which objects are stored, which not and why (PS3.18 section 10.5.3)."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from scrigno.archive import errors
from scrigno.archive.receipts import StoreOutcome
from scrigno.core.errors import ScrignoError

from .incoming import Uids, WrongStudy


class Reason(IntEnum):
    """Failure and warning reasons (PS3.18 table I.2-2, PS3.4 table B.2-1)."""

    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_MISMATCH = 0xA900
    KEPT_ASIDE = 0xB000  # stored, but not under this UID: other bytes stand there
    UNREADABLE_KEPT = 0xB007
    CANNOT_UNDERSTAND = 0xC000
    SYNTAX_NOT_SUPPORTED = 0xC122
    WRONG_STUDY = 0xC409


# The first class that fits wins, so the narrower ones stand first.
_REASONS: Final[tuple[tuple[type[ScrignoError], Reason], ...]] = (
    (WrongStudy, Reason.WRONG_STUDY),
    (errors.UidMismatch, Reason.DATA_SET_MISMATCH),
    (errors.ObjectUnreadable, Reason.CANNOT_UNDERSTAND),
    (errors.InternalFault, Reason.PROCESSING_FAILURE),
    (errors.IngestError, Reason.OUT_OF_RESOURCES),
)
_WARNINGS: Final = {
    StoreOutcome.CONFLICT_KEPT: Reason.KEPT_ASIDE,
    StoreOutcome.UNREADABLE_KEPT: Reason.UNREADABLE_KEPT,
}


def reason_of(error: ScrignoError) -> Reason:
    """Return the reason code of an error."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return Reason.CANNOT_UNDERSTAND


@dataclass(frozen=True, slots=True)
class Stored:
    """One object that is durable."""

    uids: Uids
    outcome: StoreOutcome


@dataclass(frozen=True, slots=True)
class Failed:
    """One object, or one part that is none, that was not stored."""

    uids: Uids | None
    reason: Reason
    error: ScrignoError | None = None


@dataclass(slots=True)
class StoreAnswer:
    """Gathers what became of the parts of one request."""

    stored: list[Stored] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def status(self) -> int:
        """Return the status (PS3.18 table 10.5.3-1); 507 when there is no room for anything."""
        if self.stored:
            warned = any(each.outcome in _WARNINGS for each in self.stored)
            return 202 if self.failed or warned else 200
        found = [each.error for each in self.failed]
        if found and all(isinstance(each, errors.NoDurableStorage) for each in found):
            return 507
        if found and all(isinstance(each, errors.ShuttingDown) for each in found):
            return 503
        if found and all(isinstance(each, errors.ObjectTooLarge) for each in found):
            return 413
        return 409

    def dataset(self, base: str, study: str) -> dict[str, Any]:
        """Return the answer as DICOM JSON."""
        studies = {each.uids.study for each in self.stored if each.uids.study}
        only = study or (next(iter(studies)) if len(studies) == 1 else "")
        found: dict[str, Any] = {}
        if only:
            found["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{only}"]}
        failures = [_failure(each) for each in self.failed if each.uids is not None]
        if failures:
            found["00081198"] = {"vr": "SQ", "Value": failures}
        if self.stored:
            found["00081199"] = {
                "vr": "SQ",
                "Value": [_reference(each, base) for each in self.stored],
            }
        others = [_reason(each.reason) for each in self.failed if each.uids is None]
        if others:
            found["0008119A"] = {"vr": "SQ", "Value": others}
        return found


def _sop(uids: Uids) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [uids.sop_class]} if uids.sop_class else {"vr": "UI"},
        "00081155": {"vr": "UI", "Value": [uids.sop_instance]}
        if uids.sop_instance
        else {"vr": "UI"},
    }


def _reference(each: Stored, base: str) -> dict[str, Any]:
    found = _sop(each.uids)
    if each.uids.study:
        url = f"{base}/studies/{each.uids.study}"
        if each.uids.series:
            url += f"/series/{each.uids.series}/instances/{each.uids.sop_instance}"
        found["00081190"] = {"vr": "UR", "Value": [url]}
    warning = _WARNINGS.get(each.outcome)
    if warning is not None:
        found["00081196"] = {"vr": "US", "Value": [int(warning)]}
    return found


def _failure(each: Failed) -> dict[str, Any]:
    assert each.uids is not None  # noqa: S101 - sorted by the caller
    return _sop(each.uids) | _reason(each.reason)


def _reason(reason: Reason) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [int(reason)]}}
