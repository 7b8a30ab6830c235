# SPDX-License-Identifier: Apache-2.0
"""Service control: how each part is, restarting, and where browsers find the pages (SPEC AD-3)."""

import asyncio
import io
from typing import Annotated, Any, Final

import segno
from aiohttp import web
from msgspec import Meta

from .errors import NotFound
from .rooms import Rooms
from .routes import For, Route, audited
from .service_answers import ServiceAnswer
from .shapes import ONE_LINE, Answer, Binary, Query, path_of, query_of

_ADMIN: Final = For.ADMINISTRATORS
PART_NAME: Final = Annotated[str, Meta(min_length=1, max_length=80, pattern=ONE_LINE)]


class AddressAnswer(Answer):
    """One address under which browsers find the pages; `here` is the one of this request."""

    url: str
    https: bool
    here: bool


class AddressesAnswer(Answer):
    """Every address of the pages; `number` for the QR code is the place in this list, from 1."""

    addresses: list[AddressAnswer]


class RestartingAnswer(Answer):
    """The service ends now and begins anew; ask /healthz until it answers again."""

    restarting: bool


async def get_service(_request: web.Request, rooms: Rooms) -> Any:
    """Return how the service and each of its parts are."""
    return rooms.service.state()


async def restart_part(request: web.Request, rooms: Rooms) -> Any:
    """End one part and begin it anew; what runs there may end first."""
    await rooms.service.restart_part(path_of(request)["part"])
    return rooms.service.state()


async def restart_service(request: web.Request, rooms: Rooms) -> Any:
    """End the whole service in order, as a stop of the box does, and begin it anew."""
    audited(request, "service")
    rooms.service.restart()
    return RestartingAnswer(restarting=True)


def addresses(request: web.Request, rooms: Rooms) -> list[AddressAnswer]:
    """Return where the pages are: as this browser found them, then by every name and address."""
    found = {f"{request.scheme}://{request.host}/viewer/": request.secure}
    own = request.transport.get_extra_info("sockname") if request.transport else None
    plain = None if request.secure or own is None else own[1]
    for name in rooms.secure_port.names():
        host = f"[{name}]" if ":" in name else name
        if rooms.secure_port.port:
            found.setdefault(_url("https", host, rooms.secure_port.port), True)
        if plain:
            found.setdefault(_url("http", host, plain), False)
    return [
        AddressAnswer(url=url, https=https, here=number == 0)
        for number, (url, https) in enumerate(found.items())
    ]


def _url(scheme: str, host: str, port: int) -> str:
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}/viewer/" if port == usual else f"{scheme}://{host}:{port}/viewer/"


async def list_addresses(request: web.Request, rooms: Rooms) -> Any:
    """Return where browsers find the pages."""
    return AddressesAnswer(addresses=addresses(request, rooms))


async def get_address_code(request: web.Request, rooms: Rooms) -> Any:
    """Return the QR code of one address, as SVG; no other text is ever drawn."""
    found, number = addresses(request, rooms), query_of(request)["number"]
    if number > len(found):
        raise NotFound("There is no such address.")
    content = await asyncio.to_thread(_drawn, found[number - 1].url)
    return web.Response(body=content, content_type="image/svg+xml")


def _drawn(url: str) -> bytes:
    drawing = io.BytesIO()
    segno.make(url, error="m", micro=False).save(
        drawing, kind="svg", scale=4, border=4, light="#fff"
    )
    return drawing.getvalue()


ROUTES: Final = (
    Route(
        method="GET", path="/service", work=get_service, allowed=_ADMIN,
        about="How the service and each of its parts are", answer=ServiceAnswer,
    ),
    Route(
        method="POST", path="/service/parts/{part}/restart", work=restart_part, allowed=_ADMIN,
        params={"part": PART_NAME}, about="End one part and begin it anew",
        answer=ServiceAnswer, audit="part-restarted", errors=("command-refused", "not-found"),
    ),
    Route(
        method="POST", path="/service/restart", work=restart_service, allowed=_ADMIN,
        about="End the whole service in order and begin it anew", answer=RestartingAnswer,
        success=202, audit="service-restarted", errors=("command-refused",),
    ),
    Route(
        method="GET", path="/service/addresses", work=list_addresses,
        about="Where browsers find the pages", answer=AddressesAnswer,
    ),
    Route(
        method="GET", path="/service/addresses/qr", work=get_address_code,
        about="The QR code of one address",
        query=(Query("number", int, 1, "The place in the list, from 1", ge=1, le=1000),),
        answer=Binary, answers="image/svg+xml", errors=("not-found",),
    ),
)  # fmt: skip
