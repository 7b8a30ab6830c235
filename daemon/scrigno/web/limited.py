# SPDX-License-Identifier: Apache-2.0
"""Sessions that see exactly some studies: guests of links, and launches from other systems."""

from collections.abc import Iterable

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.access.sessions import Kind
from scrigno.core.sight import Sight

from .guard import cookie_name, set_cookie
from .rooms import Rooms
from .shapes import Answer, encoded


class EnteredAnswer(Answer):
    """A session that sees exactly these studies; `token` is null when it travels as a cookie."""

    studies: list[str]
    permissions: list[str]
    expires_in_s: int
    token: str | None
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750


async def enter(
    request: web.Request,
    rooms: Rooms,
    *,
    label: str,
    sight: Sight,
    permissions: Iterable[Permission],
    lifetime_s: float,
    by_cookie: bool,
) -> web.Response:
    """Start the session and answer with it; an older one of this browser ends."""
    earlier = request.cookies.get(cookie_name(request))
    if earlier and by_cookie:  # a new token at each log-in (ASVS 7.2.4), and none left behind
        await rooms.access.sessions.end(earlier)
    rights = sorted(permissions)
    token = await rooms.access.begin_limited(
        label,
        rights,
        sight,
        lifetime_s,
        address=request.remote or "unknown",
        agent=request.headers.get("User-Agent", ""),
        kind=Kind.COOKIE if by_cookie else Kind.BEARER,
    )
    answer = EnteredAnswer(
        studies=sorted(sight.study_uids or ()),
        permissions=list(map(str, rights)),
        expires_in_s=int(lifetime_s),
        token=None if by_cookie else token,
    )
    response = web.Response(body=encoded(answer), content_type="application/json")
    if by_cookie:
        set_cookie(request, response, token)
    return response
