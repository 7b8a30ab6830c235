# SPDX-License-Identifier: Apache-2.0
"""The support bundle as a download."""

from typing import Any, Final

from aiohttp import web

from .rooms import Rooms, author_of
from .routes import For, Own, Route

_ADMIN: Final = For.ADMINISTRATORS


async def make_bundle(request: web.Request, rooms: Rooms) -> Any:
    """Collect what somebody far away needs to know; no patient data, no secrets."""
    name, content = rooms.support.name(), await rooms.support.make()
    rooms.audit.record(author_of(request), "support-bundle", name)
    return web.Response(
        body=content,
        content_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


ROUTES: Final = (
    Route(
        method="POST", path="/support-bundle", work=make_bundle, allowed=_ADMIN,
        about="Versions, settings without secrets, logs, alerts, volumes, host: no patient data",
        answers="application/zip", audit=Own("support-bundle"),
    ),
)  # fmt: skip
