# SPDX-License-Identifier: Apache-2.0
"""All routes of DICOMweb and WADO-URI, put together."""

from collections.abc import Iterator
from typing import Final

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.web.rooms import Rooms

from .bulk_data import BulkData
from .capabilities import Capabilities
from .delete import delete
from .door import Door, Looks, add_doors
from .frame_source import FrameSource
from .frames import Frames
from .metadata import Metadata
from .rendered import RenderedResources
from .rendering import Rendering
from .retrieve import Retrieve
from .search import search
from .store import Store
from .target import ROOT
from .wado_uri import WadoUri

_STUDY: Final = ROOT + "/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_FRAMES: Final = _INSTANCE + "/frames/{frames}"
_LEVELS: Final = (_STUDY, _SERIES, _INSTANCE)
_SEARCHED: Final = (
    "/studies", "/series", "/instances", "/studies/{study}/series", "/studies/{study}/instances",
    "/studies/{study}/series/{series}/instances",
)  # fmt: skip


def add_dicomweb(app: web.Application, rooms: Rooms) -> None:
    """Register every route."""
    capabilities = Capabilities()
    source = FrameSource(rooms)
    doors = tuple(_doors(rooms, capabilities, source))
    capabilities.doors = doors

    async def close(_: web.Application) -> None:
        await source.close()

    app.on_cleanup.append(close)
    add_doors(app, rooms, doors, capabilities.get)


def _doors(rooms: Rooms, capabilities: Capabilities, source: FrameSource) -> Iterator[Door]:
    """Yield every route, the most used first: aiohttp looks them through in order."""
    looks = Looks(rooms.clock)
    rendered = RenderedResources(source, Rendering(rooms), looks)
    retrieve = Retrieve(source, looks)
    yield from _retrieving(source, rendered, retrieve, looks)
    for each in _SEARCHED:
        yield Door(method="GET", path=ROOT + each, work=search)
    store = Store(rooms.ingest)
    for path in (ROOT + "/studies", _STUDY):
        yield Door(method="POST", path=path, work=store.post, needs=Permission.IMPORT)
    for path in _LEVELS:
        yield Door(method="DELETE", path=path, work=delete, needs=Permission.DELETE)
    for path in (ROOT, ROOT + "/", ROOT + "/capabilities"):
        yield Door(method="GET", path=path, work=capabilities.get)
    yield Door(method="GET", path="/wado", work=WadoUri(source, retrieve, rendered).get)


def _retrieving(
    source: FrameSource, rendered: RenderedResources, retrieve: Retrieve, looks: Looks
) -> Iterator[Door]:
    frames = Frames(source, looks)
    metadata = Metadata(source, looks)
    yield Door(method="GET", path=_FRAMES, work=frames.get)
    yield Door(method="GET", path=_FRAMES + "/rendered", work=rendered.get_frames)
    yield Door(method="GET", path=_FRAMES + "/thumbnail", work=rendered.get_thumbnail)
    bulk = BulkData(source, frames, looks)
    yield Door(method="GET", path=_INSTANCE + "/bulkdata/{path:.+}", work=bulk.get)
    for path in _LEVELS:
        yield Door(method="GET", path=path, work=retrieve.get)
        yield Door(method="GET", path=path + "/metadata", work=metadata.get)
        yield Door(method="GET", path=path + "/rendered", work=rendered.get)
        yield Door(method="GET", path=path + "/thumbnail", work=rendered.get_thumbnail)
