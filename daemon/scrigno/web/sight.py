# SPDX-License-Identifier: Apache-2.0
"""Who sees what: each door that names a study, a series or an object asks here first.

What somebody may not see answers exactly as what does not exist, so that no UID can be tried out.
"""

from collections.abc import Iterable

from aiohttp import web

from scrigno.core.sight import Sight

from .errors import NotAllowed, NotFound
from .rooms import Rooms, caller_of

NO_STUDY = "There is no such study."


def sight_of(request: web.Request) -> Sight:
    """Return what the caller sees, on routes that need a log-in."""
    return caller_of(request).session.sight


async def require_study(request: web.Request, rooms: Rooms, study_uid: str) -> None:
    """Raise NotFound unless the study exists and the caller sees it."""
    await require_studies(request, rooms, (study_uid,))


async def require_studies(request: web.Request, rooms: Rooms, study_uids: Iterable[str]) -> None:
    """Raise NotFound unless all of these exist and the caller sees them."""
    wanted = frozenset(study_uids)
    if await rooms.catalogue.seen(wanted, within=sight_of(request)) != wanted:
        raise NotFound(NO_STUDY)


async def require_instance(request: web.Request, rooms: Rooms, sop_instance_uid: str) -> None:
    """Raise NotFound unless the object exists and the caller sees its study."""
    if await rooms.catalogue.instance(sop_instance_uid, within=sight_of(request)) is None:
        raise NotFound("There is no such object.")


def require_everything(request: web.Request) -> None:
    """Raise NotAllowed for whom studies are hidden: what follows cannot be told apart by study."""
    if not sight_of(request).everything:
        raise NotAllowed(
            "Your account sees only some studies, and this concerns all of them.",
            next_step="Ask an administrator, or somebody who sees every study.",
        )


def looked(request: web.Request, rooms: Rooms, study_uid: str) -> None:
    """Tell archive and trail that the caller looks at a study; on routes that need a log-in."""
    rooms.on_read(study_uid)
    session = caller_of(request).session
    address = {"address": session.address} if session.address else None
    rooms.looks.note(session.id, session.account.name, study_uid, details=address)
