# SPDX-License-Identifier: Apache-2.0
"""What a request is about: the study, series, object and frames that its path names."""

import re
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from scrigno.catalogue.records import StoredInstance
from scrigno.web.errors import NotFound, RequestRefused
from scrigno.web.rooms import Rooms
from scrigno.web.sight import sight_of

MOST_FRAMES: Final = 10_000
LAST_FRAME: Final = 1_000_000
_PROXIED: Final = frozenset({"X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via"})
ROOT: Final = "/dicom-web"
# Objects whose UIDs are none by PS3.5 exist and are archived; nothing else stands in a path.
_LIKE_A_UID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """UIDs from the path; empty where the path names none."""

    study: str = ""
    series: str = ""
    instance: str = ""

    def path(self) -> str:
        """Return the path below the root of the service."""
        parts = (("studies", self.study), ("series", self.series), ("instances", self.instance))
        return "".join(f"/{name}/{uid}" for name, uid in parts if uid)


def target_of(request: web.Request) -> Target:
    """Return what the path names; raises RequestRefused for what is no UID."""
    found = {name: request.match_info.get(name, "") for name in ("study", "series", "instance")}
    for name, uid in found.items():
        if uid and not _LIKE_A_UID.fullmatch(uid):
            raise RequestRefused(f"What stands for the {name} in the path is no UID.")
    return Target(**found)


def frames_of(request: web.Request) -> tuple[int, ...]:
    """Return the frames of the path, from 0; raises RequestRefused."""
    return frame_numbers(request.match_info["frames"])


def frame_numbers(text: str) -> tuple[int, ...]:
    """Return the frames of a list that counts from 1, from 0; raises RequestRefused."""
    words = text.split(",")
    if len(words) > MOST_FRAMES:
        raise RequestRefused(f"At most {MOST_FRAMES} frames can be asked for at once.")
    numbers = [int(each) if each.isascii() and each.isdigit() else 0 for each in words]
    if not all(0 < each <= LAST_FRAME for each in numbers):
        raise RequestRefused("Frames are whole numbers from 1, separated by commas.")
    return tuple(each - 1 for each in numbers)


def base_of(request: web.Request) -> str:
    """Return the URL of the service as the client sees it.

    Some clients leave the port out of their Host header (RFC 9110 section 7.2 wants it there);
    who comes straight to us, by no proxy, means the port that he reached.
    """
    host = request.host
    if ":" not in host.rpartition("]")[2] and not _PROXIED & request.headers.keys():
        reached = request.transport.get_extra_info("sockname") if request.transport else None
        port = reached[1] if isinstance(reached, tuple) else 0
        if port and port != (443 if request.scheme == "https" else 80):
            host = f"{host}:{port}"
    return f"{request.scheme}://{host}{ROOT}"


async def instances_of(request: web.Request, rooms: Rooms, target: Target) -> list[StoredInstance]:
    """Return the objects of a study or series, or the one object; raises NotFound."""
    sight = sight_of(request)
    if target.instance:
        return [await instance_of(request, rooms, target)]
    found = await rooms.catalogue.instances(target.study, target.series or None, within=sight)
    if not found:
        raise NotFound("There is no such study or series.")
    return found


async def instance_of(request: web.Request, rooms: Rooms, target: Target) -> StoredInstance:
    """Return the object of the path, which must be of its study and series; raises NotFound."""
    found = await rooms.catalogue.instance(target.instance, within=sight_of(request))
    wrong = (
        found is None
        or (target.study and found.study_instance_uid != target.study)
        or (target.series and found.series_instance_uid != target.series)
    )
    if found is None or wrong:
        raise NotFound("There is no such object in this study and series.")
    return found
