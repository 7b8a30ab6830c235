# SPDX-License-Identifier: Apache-2.0
"""The way into every route of DICOMweb: who asks, what they may, from which site, what is noted."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from scrigno.access.audit import Action
from scrigno.access.permissions import Permission
from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError
from scrigno.web.errors import NotAllowed, problem
from scrigno.web.guard import require_caller
from scrigno.web.rooms import CALLER, Rooms, author_of, caller_of

log = logging.getLogger(__name__)

NOTED_EVERY_S: Final = 600.0  # a viewer that reads a thousand frames is one look at the study
REMEMBERED: Final = 4096
PREFLIGHT_S: Final = 600
_ALLOWED_HEADERS: Final = (
    "Accept, Authorization, Content-Type, If-None-Match, If-Range, Range, X-Requested-With"
)
_EXPOSED_HEADERS: Final = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Location, Content-Range, ETag, "
    "Warning, X-Total-Count"
)

Work = Callable[[web.Request, Rooms], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One method of one path."""

    method: str
    path: str
    work: Work
    needs: Permission = Permission.VIEW


def add_doors(app: web.Application, rooms: Rooms, doors: Iterable[Door], describe: Work) -> None:
    """Register the routes; OPTIONS of each path answers browsers that ask before they send.

    An OPTIONS that is no such question is answered by `describe` (PS3.18 section 8.9).
    """
    methods: dict[str, set[str]] = {}
    for door in doors:
        app.router.add_route(door.method, door.path, _handler(door, rooms))
        methods.setdefault(door.path, set()).add(door.method)
        if door.method == "GET":
            app.router.add_route("HEAD", door.path, _handler(door, rooms))
    for path, known in methods.items():
        described = _handler(Door(method="OPTIONS", path=path, work=describe), rooms)
        app.router.add_route("OPTIONS", path, _preflight(known, described))
    app.on_response_prepare.append(_cross_origin(rooms))


def _handler(door: Door, rooms: Rooms) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            caller = require_caller(request, rooms)
            request[CALLER] = caller
            if door.needs not in caller.session.permissions:
                raise NotAllowed(
                    f"Your account may not do this: it needs the right “{door.needs}”."
                )
            return await door.work(request, rooms)
        except ScrignoError as error:
            return problem(error)

    return handle


def _preflight(
    methods: set[str], describe: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    allowed = ", ".join(sorted({*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))

    async def answer(request: web.Request) -> web.StreamResponse:
        if hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            return web.Response(status=204, headers={hdrs.ALLOW: allowed})
        response = await describe(request)
        response.headers[hdrs.ALLOW] = allowed
        return response

    return answer


def _cross_origin(
    rooms: Rooms,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Let pages of the sites that the settings name use DICOMweb (Fetch, section 3.2)."""

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        if not request.path.startswith(("/dicom-web", "/wado")):
            return
        response.headers.add(hdrs.VARY, "Origin")
        origin = request.headers.get(hdrs.ORIGIN, "")
        if not origin or origin not in rooms.settings.current.web.dicomweb_origins:
            return
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = response.headers[hdrs.ALLOW]
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _ALLOWED_HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(PREFLIGHT_S)

    return add_headers


class Looks:
    """Who looked at which study, so that the trail has one line for a look. Loop thread only."""

    def __init__(self, clock: Clock) -> None:
        """Remember nothing."""
        self._clock = clock
        self._noted: OrderedDict[tuple[str, str, Action], float] = OrderedDict()

    def note(
        self,
        request: web.Request,
        rooms: Rooms,
        study_uid: str,
        action: Action = Action.INSTANCES_ACCESSED,
    ) -> None:
        """Tell the archive that a study is read, and the trail once in a while who reads it."""
        rooms.on_read(study_uid)
        now = self._clock.monotonic()
        key = (caller_of(request).session.id, study_uid, action)
        if now - self._noted.get(key, -NOTED_EVERY_S) < NOTED_EVERY_S:
            return
        self._noted[key] = now
        self._noted.move_to_end(key)
        if len(self._noted) > REMEMBERED:
            self._noted.popitem(last=False)
        rooms.audit.record(author_of(request), action, study_uid, details={"door": "dicomweb"})


def transferred(
    request: web.Request, rooms: Rooms, study_uid: str, objects: int, *, whole: bool
) -> None:
    """Tell the trail that objects of a study left the box, or did so in part."""
    rooms.audit.record(
        author_of(request),
        Action.INSTANCES_TRANSFERRED,
        study_uid,
        outcome="success" if whole else "failure",
        details={"door": "dicomweb", "objects": str(objects)},
    )
