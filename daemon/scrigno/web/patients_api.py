# SPDX-License-Identifier: Apache-2.0
"""Studies whose patient has the ID of somebody else, and what operators decide about them.

A decision carries the `version` it was made on: when somebody else decided first it is refused.
Names and IDs of patients stand in bodies only.
"""

from typing import Any, Final

from aiohttp import web

from scrigno.catalogue.cases import PatientCase
from scrigno.catalogue.decisions import PATIENT_KINDS, Decision, Demographics

from .answers import moment, person
from .bodies import number, read_object, text
from .errors import BadBody, NotFound
from .inbox_api import LAST_ID, MOST_WHY, decision_json, texts_of
from .rooms import Rooms, author_of
from .routes import For, Route
from .studies_api import uid_of

_ADMIN: Final = For.ADMINISTRATORS


def _demographics(who: Demographics) -> dict[str, Any]:
    return {
        "patient_id": who.patient_id,
        "issuer_of_patient_id": who.issuer_of_patient_id,
        "patient_name": person(who.patient_name),
        "patient_birth_date": who.patient_birth_date,
        "patient_sex": who.patient_sex,
    }


def _case(case: PatientCase) -> dict[str, Any]:
    return {
        "id": case.case_id,
        "study_instance_uid": case.study_uid,
        "shown": _demographics(case.shown),
        "known": _demographics(case.known),
        "other_study_instance_uid": case.other_study_uid or None,
        "studies_of_patient": case.studies_of_patient,
        "received_first": moment(case.received_first),
        "version": case.version,
        "conflict": case.conflict,
    }


def _decided(decision: Decision) -> dict[str, Any]:
    shown, then = decision.before.get("shown"), decision.after.get("person")
    return decision_json(decision) | {
        "study_instance_uid": decision.subject,
        "before": _demographics(Demographics.of_plain(shown)) if shown else None,
        "after": _demographics(Demographics.of_plain(then)) if then else None,
    }


async def list_conflicts(request: web.Request, rooms: Rooms) -> Any:
    """List studies whose patient has the ID of somebody with another name, birth date or sex."""
    after = number(request.query, "after", lowest=0, highest=LAST_ID, default=0)
    limit = number(request.query, "limit", lowest=1, highest=500, default=100)
    waiting = await rooms.cases.waiting()
    return {
        "count": waiting.patients,
        "cases": [_case(each) for each in await rooms.cases.patients(after, limit)],
    }


async def get_patient_case(request: web.Request, rooms: Rooms) -> Any:
    """Return how any study compares with its patient, what was sent and what was decided."""
    uid = uid_of(request)
    case = await rooms.cases.patient(uid)
    if case is None:
        raise NotFound("There is no such study.")
    sent = await rooms.cases.sent(uid)
    history = await rooms.cases.history(subject=uid)
    return _case(case) | {
        "sent": _demographics(sent) if sent else None,
        "history": [_decided(each) for each in history],
    }


async def _verdict(request: web.Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the body, and what every decision takes from it."""
    body = await read_object(request)
    if "version" not in body:
        raise BadBody(
            "version is missing.", next_step="Give the version of the case as it was loaded."
        )
    return body, {
        "version": number(body, "version", lowest=0, highest=LAST_ID),
        "why": text(body, "why", default="", most=MOST_WHY),
        "user": author_of(request),
    }


async def keep_patients(request: web.Request, rooms: Rooms) -> Any:
    """Say that both are right: the study is no conflict any more."""
    _, verdict = await _verdict(request)
    return _decided(await rooms.cases.keep(uid_of(request), **verdict))


async def merge_patients(request: web.Request, rooms: Rooms) -> Any:
    """Show the study under the patient of another study: it is the same person."""
    body, verdict = await _verdict(request)
    into = text(body, "into", most=64)
    return _decided(await rooms.cases.merge(uid_of(request), into=into, **verdict))


async def split_patients(request: web.Request, rooms: Rooms) -> Any:
    """Give the study a patient of its own: it is another person."""
    body, verdict = await _verdict(request)
    issuer = text(body, "issuer", default="", most=64)
    return _decided(await rooms.cases.split(uid_of(request), issuer=issuer, **verdict))


async def fix_patient(request: web.Request, rooms: Rooms) -> Any:
    """Correct ID, issuer, name, birth date or sex as they are shown; no stored byte is changed."""
    body, verdict = await _verdict(request)
    changes = texts_of(body, "changes")
    return _decided(await rooms.cases.fix(uid_of(request), changes=changes, **verdict))


async def list_patient_decisions(request: web.Request, rooms: Rooms) -> Any:
    """List what was decided about patients, the newest first."""
    before = number(request.query, "before", lowest=0, highest=LAST_ID, default=0)
    limit = number(request.query, "limit", lowest=1, highest=500, default=100)
    found = await rooms.catalogue.cases.decisions(before, limit, kinds=PATIENT_KINDS)
    return {"decisions": [_decided(each) for each in found]}


def _verb(verb: str, work: Any, about: str, *required: str, **more: str) -> Route:
    kinds = {"version": "integer", "why": "string", **more}
    return Route(
        method="POST", path=f"/patients/conflicts/{{uid}}/{verb}", work=work, allowed=_ADMIN,
        about=about,
        body={
            "type": "object",
            "required": ["version", *required],
            "properties": {name: {"type": kind} for name, kind in kinds.items()},
        },
        errors=("bad-body", "decision-refused", "decision-overtaken"),
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path="/patients/conflicts", work=list_conflicts, allowed=_ADMIN,
        about="Studies whose patient has the ID of somebody else", query=("after", "limit"),
    ),
    Route(
        method="GET", path="/patients/conflicts/{uid}", work=get_patient_case, allowed=_ADMIN,
        about="How a study compares with its patient, with what was sent and decided",
        errors=("not-found",),
    ),
    _verb("keep", keep_patients, "Both are right: no conflict any more"),
    _verb("merge", merge_patients, "The same person as that of another study", "into",
          into="string"),
    _verb("split", split_patients, "Another person", issuer="string"),
    _verb("fix", fix_patient, "Correct what is shown; no stored byte is changed", "changes",
          changes="object"),
    Route(
        method="GET", path="/patients/decided", work=list_patient_decisions, allowed=_ADMIN,
        about="What was decided about patients, the newest first", query=("before", "limit"),
    ),
)  # fmt: skip
