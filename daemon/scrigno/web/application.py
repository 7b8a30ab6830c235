# SPDX-License-Identifier: Apache-2.0
"""The aiohttp application, composed of the rooms it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

import scrigno

from . import (
    account_api,
    accounts_api,
    alerts_api,
    annotations_api,
    audit_api,
    box_api,
    care_api,
    copies_api,
    dicom_api,
    export_api,
    import_api,
    inbox_api,
    index_api,
    jobs_api,
    launch_api,
    logs_api,
    machine_api,
    marks_export_api,
    oidc_api,
    patients_api,
    preferences_api,
    reading_api,
    remote_api,
    roles_api,
    second_factor_api,
    send_api,
    service_api,
    settings_api,
    shares_api,
    studies_api,
    support_api,
    tls_api,
    tokens_api,
    trash_api,
    uploads_api,
    webhooks_api,
)
from .bodies import LARGEST_BYTES
from .dicomweb.service import add_dicomweb
from .documents_api import DocumentRoutes
from .door import at_the_door, naming_requests, transport_headers
from .event_stream import EventHub, event_route
from .guard import answering_refusals, set_security_headers
from .openapi import openapi
from .pages import Pages
from .pictures import PictureRoutes, Pictures
from .pictures_ahead import Ahead
from .rooms import Rooms
from .routes import API, Route, add_end, add_routes
from .series_metadata import SeriesMetadata


def build_app(rooms: Rooms, *, pages_folder: Path) -> web.Application:
    """Return the application; the caller runs it on an AppRunner and owns all rooms.

    `pages_folder` is `webui/dist` of a checkout or the installed pages; it is read at start-up.
    """
    app = web.Application(
        middlewares=[
            rooms.connections.middleware(),
            naming_requests,
            answering_refusals(rooms.counters),
            at_the_door(rooms.settings, rooms.secure_port),
        ],
        client_max_size=LARGEST_BYTES,
    )
    pictures = Pictures(rooms.retrieval, rooms.imaging, rooms.frames)
    hub = EventHub(rooms.bus)
    routes = [*all_routes(pictures), event_route(hub)]
    add_routes(app, rooms, routes)
    add_dicomweb(app, rooms)
    document = openapi(routes, scrigno.__version__)
    app.router.add_get(f"{API}/openapi.json", _answering(lambda: web.json_response(document)))
    add_end(app)
    app.router.add_get("/healthz", _answering(lambda: box_api.health(rooms)))
    app.router.add_get("/metrics", _answering(lambda: box_api.metrics(rooms)))
    pages = Pages(pages_folder)
    app.router.add_get("/", _answering(_to_pages))
    app.router.add_get("/viewer", _answering(_to_pages))
    app.router.add_get("/viewer/{name:.*}", pages.serve)
    app.on_startup.append(pages.load)

    async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
        await set_security_headers(request, response)
        transport_headers(rooms.settings, request, response)

    app.on_response_prepare.append(set_headers)

    ahead = Ahead(pictures, rooms.catalogue, rooms.bus)

    async def look_ahead(_: web.Application) -> None:
        ahead.start()

    app.on_startup.append(look_ahead)

    async def close(_: web.Application) -> None:
        await ahead.close()
        await pictures.close()

    async def end_streams(_: web.Application) -> None:
        hub.close()

    app.on_shutdown.append(end_streams)
    app.on_cleanup.append(close)
    return app


def all_routes(pictures: Pictures) -> list[Route]:
    """Return every route of the API."""
    return [
        *account_api.ROUTES,
        *accounts_api.ROUTES,
        *roles_api.ROUTES,
        *tokens_api.ROUTES,
        *oidc_api.ROUTES,
        *second_factor_api.ROUTES,
        *second_factor_api.SecondFactorRoutes().routes(),
        *reading_api.ROUTES,
        *studies_api.ROUTES,
        *PictureRoutes(pictures).routes(),
        *SeriesMetadata(pictures).routes(),
        *DocumentRoutes(pictures).routes(),
        *dicom_api.ROUTES,
        *settings_api.ROUTES,
        *remote_api.ROUTES,
        *send_api.ROUTES,
        *service_api.ROUTES,
        *box_api.ROUTES,
        *alerts_api.ROUTES,
        *machine_api.ROUTES,
        *care_api.ROUTES,
        *copies_api.ROUTES,
        *trash_api.ROUTES,
        *inbox_api.ROUTES,
        *patients_api.ROUTES,
        *index_api.ROUTES,
        *audit_api.ROUTES,
        *logs_api.ROUTES,
        *support_api.ROUTES,
        *webhooks_api.ROUTES,
        *tls_api.ROUTES,
        *jobs_api.ROUTES,
        *annotations_api.ROUTES,
        *marks_export_api.ROUTES,
        *preferences_api.ROUTES,
        *shares_api.ROUTES,
        *launch_api.ROUTES,
        *import_api.ROUTES,
        *export_api.ROUTES,
        *uploads_api.ROUTES,
    ]


def _to_pages() -> web.Response:
    return web.Response(status=307, headers={"Location": "/viewer/"})


def _answering(make: Callable[[], web.Response]) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        return make()

    return handle
