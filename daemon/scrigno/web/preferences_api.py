# SPDX-License-Identifier: Apache-2.0
"""What each account wants, wherever it logs in; and how studies are hung by whom."""

from typing import Annotated, Any, Final, Literal

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.reading.documents import Kind, Place, Scope, Version
from scrigno.reading.errors import BadDocument
from scrigno.reading.reading import of_account, of_box
from scrigno.reading.shapes import FREE_PREFIX, MOST_FREE_BYTES, PREFERENCES, Hanging, plain

from .answers import moment
from .bodies import read_bytes
from .errors import BadBody, NotAllowed, NotFound
from .reading_saves import SAVE_ERRORS, SavedAnswer, require_account, save, shaped, with_tag
from .rooms import Rooms, caller_of
from .routes import Route, Unaudited, audited
from .shapes import Answer, Body, Moment, Query, parse, path_of, query_of, read_body

_NAMES: Final = "|".join(sorted(PREFERENCES))
PreferenceName = Annotated[
    str, Meta(pattern=rf"^({_NAMES}|ui-[a-z0-9-]{{1,40}})$(?!\n)", min_length=1, max_length=43)
]
# a modality, and a body part or * for any: both as DICOM writes them (CS)
Code = Annotated[str, Meta(pattern=r"^[A-Z0-9_ ]{1,16}$(?!\n)", min_length=1, max_length=16)]
PartCode = Annotated[
    str, Meta(pattern=r"^([A-Z0-9_ ]{1,16}|\*)$(?!\n)", min_length=1, max_length=16)
]
ANY_PART: Final = "*"
_ANYTHING: Final = {"type": "object", "additionalProperties": True}


class PreferenceAnswer(Answer):
    """One preference; revision 0 and empty while the account has none."""

    name: str
    revision: int
    saved_at: Moment | None
    value: dict[str, Any]


class PreferencesAnswer(Answer):
    """All preferences of the account."""

    preferences: list[PreferenceAnswer]


class HangingAnswer(Answer):
    """One default of somebody (`mine`) or of everybody, for a modality and body part."""

    whose: Literal["mine", "everybody"]
    modality: str
    body_part: str
    revision: int
    author: str
    saved_at: Moment | None
    hanging: Hanging


class HangingsAnswer(Answer):
    """The defaults of the caller and those of everybody."""

    hangings: list[HangingAnswer]


class ResolvedHangingAnswer(Answer):
    """The default that counts, null when there is none."""

    hanging: HangingAnswer | None


async def list_preferences(request: web.Request, rooms: Rooms) -> Any:
    """Return all preferences of the caller."""
    account = require_account(request)
    subject = of_account(account, Kind.PREFERENCE, "").subject
    found = await rooms.reading.documents.of_subject(Scope.ACCOUNT, subject, Kind.PREFERENCE)
    return PreferencesAnswer(preferences=[_preference(each.place.layer, each) for each in found])


def _preference(name: str, found: Version | None) -> PreferenceAnswer:
    return PreferenceAnswer(
        name=name,
        revision=found.revision if found else 0,
        saved_at=moment(found.saved_at) if found else None,
        value=found.content if found else {},
    )


async def get_preference(request: web.Request, rooms: Rooms) -> Any:
    """Return one preference of the caller."""
    place = _place(request)
    found = await rooms.reading.documents.get(place)
    return with_tag(_preference(place.layer, found), found.revision if found else 0)


def _place(request: web.Request) -> Place:
    return of_account(require_account(request), Kind.PREFERENCE, path_of(request)["name"])


async def save_preference(request: web.Request, rooms: Rooms) -> Any:
    """Save one preference of the caller."""
    place = _place(request)
    if request.content_type != "application/json":
        raise BadBody("The body must be application/json.")
    content = await read_bytes(request, 2 * MOST_FREE_BYTES)
    return await save(request, rooms, place, _read(place.layer, content))


def _read(name: str, content: bytes) -> dict[str, Any]:
    """Return a preference as its shape says; what a page keeps for itself is any object."""
    shape = PREFERENCES.get(name)
    if shape is not None:
        return plain(parse(content, shape))
    if not name.startswith(FREE_PREFIX) or len(content) > MOST_FREE_BYTES:
        raise BadDocument(f"What a page keeps has at most {MOST_FREE_BYTES} bytes.")
    return parse(b'{"value":' + content + b"}", _Free).value


class _Free(Body):
    """Any object, so that the same reader refuses what is none."""

    value: dict[str, Any]


async def remove_preference(request: web.Request, rooms: Rooms) -> Any:
    """Go back to what the box does by itself."""
    if not await rooms.reading.remove(_place(request)):
        raise NotFound("There is no such preference.")


# hangings ----------------------------------------------------------------------------------------


def _hanging_name(modality: str, body_part: str) -> str:
    return f"{modality}/{'' if body_part == ANY_PART else body_part}"


def _hanging_place(request: web.Request) -> Place:
    path = path_of(request)
    name = _hanging_name(path["modality"].strip(), path["part"].strip())
    if path["whose"] == "everybody":
        return of_box(Kind.HANGING, name)
    return of_account(require_account(request), Kind.HANGING, name)


def _require_may_change(request: web.Request) -> None:
    require_account(request)
    everybody = path_of(request)["whose"] == "everybody"
    if everybody and Permission.ADMIN not in caller_of(request).session.permissions:
        raise NotAllowed("Defaults for everybody are made by administrators.")


def _hanging(found: Version) -> HangingAnswer:
    modality, _, part = found.place.layer.partition("/")
    return HangingAnswer(
        whose="everybody" if found.place.scope is Scope.BOX else "mine",
        modality=modality,
        body_part=part or ANY_PART,
        revision=found.revision,
        author=found.author,
        saved_at=moment(found.saved_at),
        hanging=shaped(found.content, Hanging),
    )


async def list_hangings(request: web.Request, rooms: Rooms) -> Any:
    """Return the defaults of the caller and those of everybody."""
    found: list[Version] = []
    if not caller_of(request).session.guest:
        own = of_account(require_account(request), Kind.HANGING, "")
        found += await rooms.reading.documents.of_subject(own.scope, own.subject, own.kind)
    found += await rooms.reading.documents.of_subject(Scope.BOX, "", Kind.HANGING)
    return HangingsAnswer(hangings=[_hanging(each) for each in found])


async def resolve_hanging(request: web.Request, rooms: Rooms) -> Any:
    """Return what counts: the own one first, the one for the body part before the one for all."""
    asked = query_of(request)
    modality = asked["modality"].strip().upper()
    parts = dict.fromkeys([asked["body_part"].strip().upper(), ""])
    places: list[Place] = []
    if not caller_of(request).session.guest:
        own = require_account(request)
        places += [of_account(own, Kind.HANGING, f"{modality}/{part}") for part in parts]
    places += [of_box(Kind.HANGING, f"{modality}/{part}") for part in parts]
    for place in places:
        found = await rooms.reading.documents.get(place)
        if found is not None:
            return ResolvedHangingAnswer(hanging=_hanging(found))
    return ResolvedHangingAnswer(hanging=None)


async def get_hanging(request: web.Request, rooms: Rooms) -> Any:
    """Return one default."""
    found = await rooms.reading.documents.get(_hanging_place(request))
    if found is None:
        raise NotFound("There is no such default.")
    return with_tag(_hanging(found), found.revision)


async def save_hanging(request: web.Request, rooms: Rooms) -> Any:
    """Save one default: for oneself, or for everybody."""
    _require_may_change(request)
    place = _hanging_place(request)
    body = await read_body(request, Hanging)
    audited(request, place.layer, whose=path_of(request)["whose"])
    return await save(request, rooms, place, plain(body))


async def remove_hanging(request: web.Request, rooms: Rooms) -> Any:
    """Remove one default."""
    _require_may_change(request)
    place = _hanging_place(request)
    audited(request, place.layer, whose=path_of(request)["whose"])
    if not await rooms.reading.remove(place):
        raise NotFound("There is no such default.")


_OWN: Final = Unaudited("what somebody wants for himself")
_NAMED: Final = {"name": PreferenceName}
_HUNG: Final = {
    "whose": Literal["mine", "everybody"], "modality": Code, "part": PartCode,
}  # fmt: skip
_PATH: Final = "/hangings/{whose}/{modality}/{part}"

ROUTES: Final = (
    Route(
        method="GET", path="/preferences", work=list_preferences,
        about="All preferences of the account", answer=PreferencesAnswer, errors=("not-allowed",),
    ),
    Route(
        method="GET", path="/preferences/{name}", work=get_preference, params=_NAMED,
        about="One preference: list, filters, viewer, shortcuts, or ui-… for a page's own",
        answer=PreferenceAnswer, errors=("not-allowed",),
    ),
    Route(
        method="PUT", path="/preferences/{name}", work=save_preference, params=_NAMED,
        about="Save one preference upon its revision", body=_ANYTHING, answer=SavedAnswer,
        also=(202,), audit=_OWN, errors=(*SAVE_ERRORS, "not-allowed"),
    ),
    Route(
        method="DELETE", path="/preferences/{name}", work=remove_preference, params=_NAMED,
        about="Go back to what the box does by itself", answer=None, audit=_OWN,
        errors=("not-allowed", "not-found"),
    ),
    Route(
        method="GET", path="/hangings", work=list_hangings,
        about="What is shown first, by modality and body part: own defaults and everybody's",
        answer=HangingsAnswer, errors=("bad-document", "not-allowed"),
    ),
    Route(
        method="GET", path="/hangings/resolved", work=resolve_hanging,
        about="The default that counts for a study",
        query=(
            Query("modality", str, about="Modality of the study", required=True, max_length=16),
            Query("body_part", str, "", "Body part of the study", max_length=16),
        ),
        answer=ResolvedHangingAnswer, errors=("bad-document", "not-allowed"),
    ),
    Route(
        method="GET", path=_PATH, work=get_hanging, params=_HUNG, about="One default",
        answer=HangingAnswer, errors=("bad-document", "not-allowed", "not-found"),
    ),
    Route(
        method="PUT", path=_PATH, work=save_hanging, params=_HUNG,
        about="Save what is seen as the default for a modality and body part (* is any)",
        body=Hanging, answer=SavedAnswer, also=(202,), audit="hanging-saved",
        errors=(*SAVE_ERRORS, "not-allowed"),
    ),
    Route(
        method="DELETE", path=_PATH, work=remove_hanging, params=_HUNG,
        about="Remove a default", answer=None, audit="hanging-removed",
        errors=("not-allowed", "not-found"),
    ),
)  # fmt: skip
