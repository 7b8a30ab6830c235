# SPDX-License-Identifier: Apache-2.0
"""Query and retrieve at other nodes: what they have, and fetching it as a job (SPEC DN-9)."""

import asyncio
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from msgspec import Meta, field

from scrigno.access.permissions import Permission
from scrigno.catalogue.query import Level
from scrigno.jobs.model import Grant

from .errors import NotPossible
from .jobs_api import JobAnswer, job_answer
from .remote_answers import RemoteAnswer, RemoteNodeAnswer
from .rooms import Rooms, author_of, caller_of
from .routes import Route, audited
from .shapes import ONE_LINE, Body, Line, Uid, Word, read_body
from .sight import sight_of

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
MOST_NODES: Final = 16
MOST_WANTED: Final = 200
LOOK_S: Final = 0.5
KIND: Final = "retrieve"
_QUERY: Final = Permission.QUERY


class RemoteFindBody(Body):
    """Whom to ask, at which level, for what: values by keyword, with wildcards as in PS3.4 C.2."""

    nodes: Annotated[list[Name], Meta(min_length=1, max_length=MOST_NODES)]
    level: Level = Level.STUDY
    keys: Annotated[dict[Word, Line], Meta(max_length=32)] = field(default_factory=dict)
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class WantedBody(Body):
    """A study, or one series of it."""

    study: Uid
    series: Uid | None = None


class RetrieveBody(Body):
    """What to fetch from which node: by C-MOVE to this box, or by C-GET."""

    node: Name
    wanted: Annotated[list[WantedBody], Meta(min_length=1, max_length=MOST_WANTED)]
    how: Literal["move", "get"] = "move"


async def find_remotely(request: web.Request, rooms: Rooms) -> Any:
    """Ask nodes at the same time; a caller who goes away cancels the query at the nodes."""
    body = await read_body(request, RemoteFindBody)
    nodes = list(dict.fromkeys(body.nodes))
    # what was asked for is not written down: it holds names of patients
    audited(request, ", ".join(nodes), level=body.level)
    for node in nodes:
        rooms.remote.require_node(node)
    rooms.remote.check(body.level, body.keys)
    asking = asyncio.gather(
        *(rooms.remote.find(node, body.level, body.keys, limit=body.limit) for node in nodes)
    )
    try:
        answers = await _while_listening(request, asking)
    finally:
        asking.cancel()
        await asyncio.wait([asking])
    for each in answers:
        await _mark(request, rooms, each)
    audited(request, answers=str(sum(len(each.rows) for each in answers)))
    return RemoteAnswer(answers=answers)


async def _while_listening(
    request: web.Request, asking: "asyncio.Future[list[RemoteNodeAnswer]]"
) -> list[RemoteNodeAnswer]:
    """Return the answers; raises NotPossible when nobody waits for them any more."""
    while not asking.done():
        await asyncio.wait([asking], timeout=LOOK_S)
        if request.transport is None or request.transport.is_closing():
            raise NotPossible("Nobody waits for the answer any more.")
    return asking.result()


async def _mark(request: web.Request, rooms: Rooms, answer: RemoteNodeAnswer) -> None:
    """Say which studies are in the archive, as far as the caller may see them."""
    uids = {uid for row in answer.rows if (uid := row.values.get("StudyInstanceUID"))}
    here = await rooms.catalogue.seen(frozenset(uids), within=sight_of(request))
    for row in answer.rows:
        row.in_archive = row.values.get("StudyInstanceUID") in here


async def retrieve_remotely(request: web.Request, rooms: Rooms) -> Any:
    """Fetch studies or series from a node, as a job."""
    body = await read_body(request, RetrieveBody)
    audited(request, body.wanted[0].study, node=body.node, wanted=str(len(body.wanted)))
    rooms.remote.require_node(body.node)
    session = caller_of(request).session
    words = frozenset(permission.value for permission in session.permissions)
    job = await rooms.jobs.start(
        KIND,
        author=author_of(request),
        title=f"{len(body.wanted)} from {body.node}",
        params={
            "node": body.node,
            "how": body.how,
            "wanted": [
                {"study": each.study} | ({"series": each.series} if each.series else {})
                for each in body.wanted
            ],
        },
        grant=Grant(permissions=words, sight=session.sight),
    )
    return await job_answer(rooms, job)


ROUTES: Final = (
    Route(
        method="POST", path="/remote/find", work=find_remotely, allowed=_QUERY,
        about="What other nodes have: C-FIND at every level", body=RemoteFindBody,
        answer=RemoteAnswer, audit="remote-query",
        errors=("unusable-destination", "remote-query-refused", "not-possible"),
    ),
    Route(
        method="POST", path="/remote/retrieve", work=retrieve_remotely, allowed=_QUERY,
        about="Fetch studies or series from a node into this archive, as a job",
        body=RetrieveBody, answer=JobAnswer, success=201, audit="remote-retrieve",
        errors=("unusable-destination", "job-refused", "too-many-jobs"),
    ),
)  # fmt: skip
