# SPDX-License-Identifier: Apache-2.0
"""DELETE of studies, series and objects: to the trash, as from the pages, with undo.

The standard has no such transaction; the common servers do, and so do the common clients.
"""

from aiohttp import web

from scrigno.web.rooms import Rooms, author_of

from .target import instances_of, target_of

REASON = "deleted by DICOMweb"


async def delete(request: web.Request, rooms: Rooms) -> web.StreamResponse:
    """Move what the path names to the trash; the archive records who did it."""
    target = target_of(request)
    await instances_of(request, rooms, target)  # what is not seen is not there
    await rooms.trash.delete(
        target.study,
        series_uid=target.series or None,
        sop_uids=[target.instance] if target.instance else None,
        reason=REASON,
        user=author_of(request),
    )
    return web.Response(status=204)
