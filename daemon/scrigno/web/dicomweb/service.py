# SPDX-License-Identifier: Apache-2.0
"""All routes of DICOMweb and WADO-URI, put together."""

from collections.abc import Iterator
from typing import Final

from aiohttp import web

from scrigno.web.rooms import Rooms

from .bulk_data import BulkData
from .door import Door, Looks, add_doors
from .frame_source import FrameSource
from .frames import Frames
from .metadata import Metadata
from .retrieve import Retrieve
from .search import search
from .target import ROOT

_STUDY: Final = ROOT + "/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_LEVELS: Final = (_STUDY, _SERIES, _INSTANCE)


def add_dicomweb(app: web.Application, rooms: Rooms) -> None:
    """Register every route."""
    add_doors(app, rooms, doors(rooms))


def doors(rooms: Rooms) -> Iterator[Door]:
    """Yield every route, the most used first: aiohttp looks them through in order."""
    looks = Looks(rooms.clock)
    source = FrameSource(rooms)
    frames = Frames(source, looks)
    metadata = Metadata(source, looks)
    retrieve = Retrieve(looks)
    bulk = BulkData(source, frames, looks)
    yield Door(method="GET", path=_INSTANCE + "/frames/{frames}", work=frames.get)
    yield Door(method="GET", path=_INSTANCE + "/bulkdata/{path:.+}", work=bulk.get)
    for path in _LEVELS:
        yield Door(method="GET", path=path, work=retrieve.get)
        yield Door(method="GET", path=path + "/metadata", work=metadata.get)
    searched = (
        "/studies", "/series", "/instances", "/studies/{study}/series",
        "/studies/{study}/instances", "/studies/{study}/series/{series}/instances",
    )  # fmt: skip
    for each in searched:
        yield Door(method="GET", path=ROOT + each, work=search)
