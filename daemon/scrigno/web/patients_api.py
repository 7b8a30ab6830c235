# SPDX-License-Identifier: Apache-2.0
"""Studies whose patient has the ID of somebody else, and what operators decide about them.

A decision carries the `version` it was made on: when somebody else decided first it is refused.
Names and IDs of patients stand in bodies only.
"""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.catalogue.cases import PatientCase
from scrigno.catalogue.decisions import PATIENT_KINDS, Decision, Demographics

from .answers import PersonNameAnswer, at, person
from .errors import NotFound
from .inbox_api import DecisionAnswer, Why, decision_fields
from .rooms import Rooms, author_of
from .routes import Own, Route
from .shapes import (
    AFTER,
    BEFORE,
    ONE_LINE,
    Answer,
    Body,
    Count,
    Line,
    Moment,
    Uid,
    Word,
    limit_of,
    path_of,
    query_of,
    read_body,
)
from .sight import require_everything, require_studies, require_study

_EDIT: Final = Permission.EDIT


class DemographicsAnswer(Answer):
    """Who the patient is, as far as an operator can correct it."""

    patient_id: str
    issuer_of_patient_id: str
    patient_name: PersonNameAnswer
    patient_birth_date: str
    patient_sex: str


class PatientCaseAnswer(Answer):
    """A study beside the patient whose ID it has; `version` goes back with a decision."""

    id: int
    study_instance_uid: str
    shown: DemographicsAnswer
    known: DemographicsAnswer
    other_study_instance_uid: str | None
    studies_of_patient: int
    received_first: Moment
    version: int
    conflict: bool


class PatientConflictsAnswer(Answer):
    """Studies whose patient has the ID of somebody else."""

    count: int
    cases: list[PatientCaseAnswer]


class PatientDecisionAnswer(DecisionAnswer):
    """A decision about the patient of a study."""

    study_instance_uid: str
    before: DemographicsAnswer | None
    after: DemographicsAnswer | None


class PatientDecisionsAnswer(Answer):
    """What was decided about patients, the newest first."""

    decisions: list[PatientDecisionAnswer]


class PatientHistoryAnswer(PatientCaseAnswer):
    """A case with what was sent and what was decided."""

    sent: DemographicsAnswer | None
    history: list[PatientDecisionAnswer]


class VerdictBody(Body):
    """The version of the case as it was loaded, and why it is decided so."""

    version: Count
    why: Why = ""


class MergeBody(VerdictBody, kw_only=True):
    """Under the patient of which study."""

    into: Uid


class SplitBody(VerdictBody):
    """The issuer that tells the new patient apart; one is made up when it is empty."""

    issuer: Annotated[str, Meta(max_length=64, pattern=ONE_LINE)] = ""


class FixBody(VerdictBody, kw_only=True):
    """The attributes to correct, by their names in the index."""

    changes: Annotated[dict[Word, Line], Meta(max_length=16)]


def _demographics(who: Demographics) -> DemographicsAnswer:
    return DemographicsAnswer(
        patient_id=who.patient_id,
        issuer_of_patient_id=who.issuer_of_patient_id,
        patient_name=person(who.patient_name),
        patient_birth_date=who.patient_birth_date,
        patient_sex=who.patient_sex,
    )


def _fields(case: PatientCase) -> dict[str, Any]:
    return {
        "id": case.case_id,
        "study_instance_uid": case.study_uid,
        "shown": _demographics(case.shown),
        "known": _demographics(case.known),
        "other_study_instance_uid": case.other_study_uid or None,
        "studies_of_patient": case.studies_of_patient,
        "received_first": at(case.received_first),
        "version": case.version,
        "conflict": case.conflict,
    }


def _decided(decision: Decision) -> PatientDecisionAnswer:
    shown, then = decision.before.get("shown"), decision.after.get("person")
    return PatientDecisionAnswer(
        **decision_fields(decision),
        study_instance_uid=decision.subject,
        before=_demographics(Demographics.of_plain(shown)) if shown else None,
        after=_demographics(Demographics.of_plain(then)) if then else None,
    )


async def list_conflicts(request: web.Request, rooms: Rooms) -> Any:
    """List studies whose patient has the ID of somebody with another name, birth date or sex."""
    require_everything(request)
    asked = query_of(request)
    waiting = await rooms.cases.waiting()
    cases = await rooms.cases.patients(asked["after"], asked["limit"])
    return PatientConflictsAnswer(
        count=waiting.patients, cases=[PatientCaseAnswer(**_fields(each)) for each in cases]
    )


async def get_patient_case(request: web.Request, rooms: Rooms) -> Any:
    """Return how any study compares with its patient, what was sent and what was decided."""
    require_everything(request)
    uid = path_of(request)["uid"]
    case = await rooms.cases.patient(uid)
    if case is None:
        raise NotFound("There is no such study.")
    sent = await rooms.cases.sent(uid)
    history = await rooms.cases.history(subject=uid)
    return PatientHistoryAnswer(
        **_fields(case),
        sent=_demographics(sent) if sent else None,
        history=[_decided(each) for each in history],
    )


async def _verdict(
    request: web.Request, rooms: Rooms, body: VerdictBody
) -> tuple[str, dict[str, Any]]:
    """Return the study, and what every decision takes; raises NotFound."""
    uid: str = path_of(request)["uid"]
    await require_study(request, rooms, uid)
    return uid, {"version": body.version, "why": body.why, "user": author_of(request)}


async def keep_patients(request: web.Request, rooms: Rooms) -> Any:
    """Say that both are right: the study is no conflict any more."""
    uid, verdict = await _verdict(request, rooms, await read_body(request, VerdictBody))
    return _decided(await rooms.cases.keep(uid, **verdict))


async def merge_patients(request: web.Request, rooms: Rooms) -> Any:
    """Show the study under the patient of another study: it is the same person."""
    body = await read_body(request, MergeBody)
    uid, verdict = await _verdict(request, rooms, body)
    await require_studies(request, rooms, (body.into,))
    return _decided(await rooms.cases.merge(uid, into=body.into, **verdict))


async def split_patients(request: web.Request, rooms: Rooms) -> Any:
    """Give the study a patient of its own: it is another person."""
    body = await read_body(request, SplitBody)
    uid, verdict = await _verdict(request, rooms, body)
    return _decided(await rooms.cases.split(uid, issuer=body.issuer, **verdict))


async def fix_patient(request: web.Request, rooms: Rooms) -> Any:
    """Correct ID, issuer, name, birth date or sex as they are shown; no stored byte is changed."""
    body = await read_body(request, FixBody)
    uid, verdict = await _verdict(request, rooms, body)
    return _decided(await rooms.cases.fix(uid, changes=body.changes, **verdict))


async def list_patient_decisions(request: web.Request, rooms: Rooms) -> Any:
    """List what was decided about patients, the newest first."""
    require_everything(request)
    asked = query_of(request)
    decisions = rooms.catalogue.cases.decisions
    found = await decisions(asked["before"], asked["limit"], kinds=PATIENT_KINDS)
    return PatientDecisionsAnswer(decisions=[_decided(each) for each in found])


def _verb(verb: str, work: Any, about: str, body: type[VerdictBody], audit: str) -> Route:
    return Route(
        method="POST", path=f"/patients/conflicts/{{uid}}/{verb}", work=work, allowed=_EDIT,
        about=about, body=body, answer=PatientDecisionAnswer, audit=Own(audit),
        errors=("not-found", "decision-refused", "decision-overtaken"),
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path="/patients/conflicts", work=list_conflicts, allowed=_EDIT,
        about="Studies whose patient has the ID of somebody else",
        query=(AFTER, limit_of(500)), answer=PatientConflictsAnswer,
    ),
    Route(
        method="GET", path="/patients/conflicts/{uid}", work=get_patient_case, allowed=_EDIT,
        about="How a study compares with its patient, with what was sent and decided",
        answer=PatientHistoryAnswer, errors=("not-found",),
    ),
    _verb("keep", keep_patients, "Both are right: no conflict any more", VerdictBody,
          "patient-conflict-kept"),
    _verb("merge", merge_patients, "The same person as that of another study", MergeBody,
          "patient-merged"),
    _verb("split", split_patients, "Another person", SplitBody, "patient-split"),
    _verb("fix", fix_patient, "Correct what is shown; no stored byte is changed", FixBody,
          "patient-fixed"),
    Route(
        method="GET", path="/patients/decided", work=list_patient_decisions, allowed=_EDIT,
        about="What was decided about patients, the newest first",
        query=(BEFORE, limit_of(500)), answer=PatientDecisionsAnswer,
    ),
)  # fmt: skip
