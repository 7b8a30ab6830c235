# SPDX-License-Identifier: Apache-2.0
"""Links for guests: made, listed, revoked, looked at; and the door through which guests come."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import segno
from aiohttp import web
from msgspec import Meta

from scrigno.access.accounts import Account
from scrigno.access.errors import TooManyAttempts, UnknownAccount
from scrigno.access.permissions import Permission
from scrigno.catalogue.records import ListFilter, StudyListQuery
from scrigno.core.sight import EVERYTHING, Sight
from scrigno.reading.errors import BadDocument, ShareOver, ShareRefused
from scrigno.reading.shares import MOST_STUDIES, Gate, Share, Wish

from .answers import at, moment
from .errors import NotAllowed, NotFound
from .limited import EnteredAnswer, enter
from .reading_saves import require_account
from .rooms import Rooms, caller_of
from .routes import For, Own, Route, Unaudited, audited
from .shapes import (
    NO_NULL,
    ONE_LINE,
    Answer,
    Body,
    Moment,
    Query,
    Uid,
    path_of,
    query_of,
    read_body,
)
from .sight import require_studies, require_study

SHARED_ROUTE: Final = "/viewer/#/shared/"
ShareId = Annotated[str, Meta(pattern=r"^[0-9a-f]{12}$(?!\n)", min_length=12, max_length=12)]
Token = Annotated[str, Meta(min_length=1, max_length=256, pattern=ONE_LINE)]


class ShareBody(Body, kw_only=True):
    """What a link is to be. Give `expires_at` or `days`; `most_uses` 0 is as often as wanted."""

    studies: Annotated[list[Uid], Meta(min_length=1, max_length=MOST_STUDIES)]
    expires_at: Moment | None = None
    days: Annotated[int, Meta(ge=1, le=3650)] = 7
    gate: Gate = Gate.NONE
    password: Annotated[str, Meta(max_length=128, pattern=NO_NULL)] = ""
    most_uses: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    download: bool = False
    title: Annotated[str, Meta(max_length=256, pattern=ONE_LINE)] = ""


class ShareAnswer(Answer, kw_only=True):
    """One link; its secret is kept nowhere. `state`: open, revoked, expired, used-up."""

    id: str
    owner: str
    title: str
    created_at: Moment
    expires_at: Moment
    studies: list[str]
    download: bool
    gate: Gate
    most_uses: int
    uses: int
    wrong: int
    state: str
    revoked_at: Moment | None
    revoked_by: str


class MadeShareAnswer(Answer, kw_only=True):
    """A new link, and its address with the secret, which is told this once only."""

    share: ShareAnswer
    token: str
    path: str
    link: str
    qr_svg: str


class SharesAnswer(Answer):
    """Links, the newest first."""

    shares: list[ShareAnswer]


class UseAnswer(Answer):
    """One line of the access log of a link."""

    at: Moment
    address: str
    agent: str
    outcome: str


class UsesAnswer(Answer):
    """The access log of a link, the newest line first."""

    uses: list[UseAnswer]


class LookBody(Body):
    """The secret of a link."""

    token: Token


class GateAnswer(Answer):
    """What a link asks for before it shows anything."""

    gate: Gate
    expires_at: Moment
    download: bool


class EnterBody(Body, kw_only=True):
    """The secret of a link, and what its gate asks for; `cookie` as the pages want it."""

    token: Token
    secret: Annotated[str, Meta(max_length=256, pattern=NO_NULL)] = ""
    cookie: bool = False


# owners ------------------------------------------------------------------------------------------


async def make_share(request: web.Request, rooms: Rooms) -> Any:
    """Make a link for exactly the chosen studies."""
    owner = require_account(request)
    body = await read_body(request, ShareBody)
    rules = rooms.settings.current.share
    if not rules.enabled:
        raise NotAllowed("Links for guests are switched off.", next_step="Ask an administrator.")
    if rules.secret_required and body.gate is Gate.NONE:
        raise BadDocument("A link asks for a password or the birth date here.")
    studies = tuple(dict.fromkeys(body.studies))
    await require_studies(request, rooms, studies)
    now = rooms.clock.now()
    until = _until(body, now)
    if until > now + timedelta(days=rules.longest_days, minutes=5):
        raise BadDocument(f"A link is good for {rules.longest_days} days at most.")
    if body.gate is Gate.BIRTH_DATE and len(await _birth_dates(rooms, studies)) != 1:
        raise BadDocument(
            "The studies have not one birth date.", next_step="Choose a password instead."
        )
    wish = Wish(
        studies=studies,
        expires_at=until,
        permissions=_rights(request, download=body.download),
        gate=body.gate,
        password=body.password,
        most_uses=body.most_uses,
        title=body.title,
    )
    share, token = await rooms.reading.shares.make(owner, wish)
    for uid in studies:
        rooms.audit.record(owner, "study-shared", uid, details={"link": share.id})
    path = f"{SHARED_ROUTE}{token}"
    link = f"{request.scheme}://{request.host}{path}"
    return MadeShareAnswer(
        share=_share(share, now),
        token=token,
        path=path,
        link=link,
        qr_svg=await asyncio.to_thread(_qr, link),
    )


def _qr(link: str) -> str:
    """Return a QR code as one SVG element; takes some 20 ms: not on the loop."""
    code: str = segno.make(link, error="m", micro=False).svg_inline(scale=4, border=4)
    return code


def _until(body: ShareBody, now: datetime) -> datetime:
    if body.expires_at is None:
        return now + timedelta(days=body.days)
    try:
        until = datetime.fromisoformat(body.expires_at)
    except ValueError as error:
        raise BadDocument("expires_at is a time such as 2026-03-01T12:00:00Z.") from error
    if until.tzinfo is None:
        raise BadDocument("expires_at names its zone, such as Z or +01:00.")
    try:
        return until.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise BadDocument("expires_at is beyond what time can be.") from error


def _rights(request: web.Request, *, download: bool) -> frozenset[Permission]:
    own = caller_of(request).session.permissions
    wanted = {Permission.VIEW, Permission.EXPORT} if download else {Permission.VIEW}
    if not wanted <= own:
        raise NotAllowed("You cannot give what you may not do yourself.")
    return frozenset(wanted)


async def _birth_dates(rooms: Rooms, studies: tuple[str, ...]) -> set[str]:
    """Return the different birth dates of studies, `YYYYMMDD`."""
    query = StudyListQuery(
        filters=(ListFilter(field="study_instance_uid", values=studies),), limit=MOST_STUDIES
    )
    page = await rooms.catalogue.study_page(query)
    found = {str.__str__(row.patient_birth_date).replace(".", "") for row in page.rows}
    return (
        {each for each in found if len(each) == 8 and each.isdigit()} if "" not in found else set()
    )


def _share(share: Share, now: datetime) -> ShareAnswer:
    return ShareAnswer(
        id=share.id,
        owner=share.owner,
        title=share.title,
        created_at=at(share.created_at),
        expires_at=at(share.expires_at),
        studies=list(share.studies),
        download=Permission.EXPORT in share.permissions,
        gate=share.gate,
        most_uses=share.most_uses,
        uses=share.uses,
        wrong=share.wrong,
        state=share.state(now),
        revoked_at=moment(share.revoked_at),
        revoked_by=share.revoked_by,
    )


def _is_administrator(request: web.Request) -> bool:
    return Permission.ADMIN in caller_of(request).session.permissions


async def list_shares(request: web.Request, rooms: Rooms) -> Any:
    """List the links of the caller; an administrator may list everybody's."""
    asked = query_of(request)
    owner: str | None = require_account(request)
    if asked["everybody"]:
        if not _is_administrator(request):
            raise NotAllowed("Everybody's links are listed to administrators.")
        owner = None
    found = await rooms.reading.shares.listed(owner, asked["before"], asked["limit"])
    now = rooms.clock.now()
    return SharesAnswer(shares=[_share(each, now) for each in found])


async def _own_share(request: web.Request, rooms: Rooms) -> Share:
    """Return the link of the path; one of somebody else is none, but to administrators."""
    try:
        share = await rooms.reading.shares.get(path_of(request)["id"])
    except ShareOver as over:
        raise NotFound("There is no such link.") from over
    if share.owner != require_account(request) and not _is_administrator(request):
        raise NotFound("There is no such link.")
    return share


async def get_share(request: web.Request, rooms: Rooms) -> Any:
    """Return one link."""
    return _share(await _own_share(request, rooms), rooms.clock.now())


async def list_share_uses(request: web.Request, rooms: Rooms) -> Any:
    """Return who opened a link, and who tried."""
    share = await _own_share(request, rooms)
    found = await rooms.reading.shares.uses(share.id, query_of(request)["limit"])
    return UsesAnswer(
        uses=[
            UseAnswer(at=at(each.at), address=each.address, agent=each.agent, outcome=each.outcome)
            for each in found
        ]
    )


async def revoke_share(request: web.Request, rooms: Rooms) -> Any:
    """End a link now, and whoever is in by it."""
    share = await _own_share(request, rooms)
    revoked = await rooms.reading.shares.revoke(share.id, require_account(request))
    ended = await end_guests(rooms, share)
    audited(request, share.id, sessions=str(ended))
    return _share(revoked, rooms.clock.now())


async def end_guests(rooms: Rooms, share: Share) -> int:
    """End the sessions of everybody who came in by a link."""
    sessions = rooms.access.sessions
    found = [each for each in sessions.all() if each.guest and each.label == share.label]
    for each in found:
        await sessions.end_by_id(each.id)
    return len(found)


async def list_study_shares(request: web.Request, rooms: Rooms) -> Any:
    """List the links of the caller that show a study now; to administrators everybody's."""
    uid = path_of(request)["uid"]
    await require_study(request, rooms, uid)
    mine, everybody = require_account(request), _is_administrator(request)
    found = await rooms.reading.shares.of_study(uid)
    now = rooms.clock.now()
    return SharesAnswer(
        shares=[_share(each, now) for each in found if everybody or each.owner == mine]
    )


# guests ------------------------------------------------------------------------------------------


async def look_at_share(request: web.Request, rooms: Rooms) -> Any:
    """Tell the page what a link asks for."""
    body = await read_body(request, LookBody)
    _require_on(rooms)
    share = await rooms.reading.shares.look(body.token, address=request.remote or "")
    await _sight_of_share(rooms, share)
    return GateAnswer(
        gate=share.gate,
        expires_at=at(share.expires_at),
        download=Permission.EXPORT in share.permissions,
    )


async def enter_share(request: web.Request, rooms: Rooms) -> Any:
    """Pass the gate of a link and begin a session that sees its studies and nothing else."""
    body = await read_body(request, EnterBody)
    _require_on(rooms)
    shares, address = rooms.reading.shares, request.remote or ""
    share = await shares.look(body.token, address=address)
    sight, owner = await _sight_of_share(rooms, share)
    try:
        share, lifetime_s = await shares.enter(
            body.token,
            body.secret,
            address=address,
            agent=request.headers.get("User-Agent", ""),
            birth_dates=lambda one: _birth_dates(rooms, one.studies),
        )
    except (ShareRefused, ShareOver, TooManyAttempts) as refusal:
        _record(rooms, share, "failure", code=refusal.code)
        raise
    _record(rooms, share, "success")
    return await enter(
        request,
        rooms,
        label=share.label,
        sight=sight,
        permissions=share.permissions & owner.permissions,
        lifetime_s=lifetime_s,
        by_cookie=body.cookie,
    )


def _record(rooms: Rooms, share: Share, outcome: str, **details: str) -> None:
    rooms.audit.record(share.label, "link-opened", share.id, outcome=outcome, details=details)


def _require_on(rooms: Rooms) -> None:
    if not rooms.settings.current.share.enabled:
        raise ShareOver("Links for guests are switched off.", next_step="Ask the clinic.")


async def _sight_of_share(rooms: Rooms, share: Share) -> tuple[Sight, Account]:
    """Return what guests of a link see: no more than its owner sees now; raises ShareOver."""
    try:
        owner = await rooms.access.accounts.named(share.owner)
    except UnknownAccount:
        owner = None
    if owner is None or owner.disabled or Permission.SHARE not in owner.permissions:
        raise ShareOver(
            "Who made this link may not share any more.", next_step="Ask for a new one."
        )
    sight = narrowed(owner.sight, share.studies)
    if not await rooms.catalogue.seen(share.studies, within=sight):
        raise ShareOver("The images of this link are not here any more.")
    return sight, owner


def narrowed(sight: Sight, studies: tuple[str, ...]) -> Sight:
    """Return a sight that sees these studies and no more than the given one."""
    if sight == EVERYTHING:
        return Sight(study_uids=frozenset(studies))
    known = sight.study_uids
    wanted = frozenset(studies) if known is None else known & frozenset(studies)
    return replace(sight, study_uids=wanted)


_SHARE: Final = Permission.SHARE
_ID: Final = {"id": ShareId}
_LIMIT: Final = Query("limit", int, 100, "Lines at most", ge=1, le=1000)
_GUEST: Final = ("share-over", "too-many-attempts", "bad-body")

ROUTES: Final = (
    Route(
        method="POST", path="/shares", work=make_share, allowed=_SHARE,
        about="Make a link for exactly these studies; its secret is told this once",
        body=ShareBody, answer=MadeShareAnswer, success=201, audit=Own("study-shared"),
        errors=("bad-document", "not-found", "too-many", "too-many-attempts"),
    ),
    Route(
        method="GET", path="/shares", work=list_shares, allowed=_SHARE,
        about="The links of the caller, the newest first",
        query=(
            Query("everybody", bool, default=False, about="Those of all, for administrators"),
            Query("before", str, "", "The created_at of the last one of the page before"),
            _LIMIT,
        ),
        answer=SharesAnswer,
    ),
    Route(
        method="GET", path="/shares/{id}", work=get_share, allowed=_SHARE, params=_ID,
        about="One link", answer=ShareAnswer,
    ),
    Route(
        method="GET", path="/shares/{id}/uses", work=list_share_uses, allowed=_SHARE,
        params=_ID, about="Who opened a link, and who tried", query=(_LIMIT,),
        answer=UsesAnswer,
    ),
    Route(
        method="POST", path="/shares/{id}/revoke", work=revoke_share, allowed=_SHARE,
        params=_ID, about="End a link now, and whoever is in by it", answer=ShareAnswer,
        audit="link-revoked",
    ),
    Route(
        method="GET", path="/studies/{uid}/shares", work=list_study_shares, allowed=_SHARE,
        about="The links that show a study now", answer=SharesAnswer,
    ),
    Route(
        method="POST", path="/shared/look", work=look_at_share, allowed=For.ANYBODY,
        about="What a link asks for before it shows anything", body=LookBody,
        answer=GateAnswer, audit=Unaudited("nothing is shown yet"), errors=_GUEST,
    ),
    Route(
        method="POST", path="/shared/enter", work=enter_share, allowed=For.ANYBODY,
        about="Come in by a link: a session that sees its studies and nothing else",
        body=EnterBody, answer=EnteredAnswer, audit=Own("link-opened"),
        errors=(*_GUEST, "share-refused", "web-connections-exhausted"),
    ),
)  # fmt: skip
